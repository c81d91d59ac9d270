"""Sparse-within-sparse Gaussian processes (Tran, Milios, Michiardi & Filippone, 2021)."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .. import mpi
from .._arrays import compute_namespace, to_compute
from ._adam import Adam
from ._base import SparseGP, check_gpu_memory
from ._covariance import default_kernel, read_sum
from ._inducing import NeighborSearch, exact_nearest, initial_inputs, local_means, spacing
from ._swsgp_bound import Batch, Spread, local_bound, local_moments
from ._swsgp_union import union_bound, union_moments

_BLOCK = 2**17  # rows whose candidate neighbors are held at a time
_CHUNK = 2**14  # rows predicted at a time
_MEAN_STEP = 0.3  # of a mean, in deviations of y
_START_DEVIATION = 0.1  # of q(u), in deviations of y
_AT_BOUND = 1e-6
_MOST_LOG = 30.0  # of a parameter of the likelihood
_LAST_EPOCHS = 3  # over which the bound has to settle
_MATRICES = 12  # of neighbors by neighbors that a point of a batch takes on a GPU


class SWSGP(SparseGP):
    """Base of the Gaussian processes whose points see their nearest inducing inputs only."""

    _reference_attribute = "inducing_inputs_"
    _parameter_constraints = {
        "kernel": "no_validation",
        "n_inducing": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "covariance": [StrOptions({"diag", "block", "full"})],
        "divergence": [StrOptions({"total", "mean"})],
        "union": ["boolean"],
        "train_inducing": ["boolean"],
        "inducing_init": [StrOptions({"auto", "kmeans", "random"})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "optimize_kernel": ["boolean"],
        "random_state": ["random_state"],
    }

    def _train(self, A, target, X, y, likelihood):
        """Train on all rows A (n, d) and targets of a likelihood; X and y are the caller's."""
        self._check_neighbors()
        self._start(A, target, likelihood)
        self._given = X
        self.n_iter_: int = 0
        self.elbo_history_: list[float] = []
        for n_iter in self._iterations(X, y, max_iter=self.max_iter, until=self._settled):
            self.elbo_history_ = [*self.elbo_history_, self._epoch(A, target, n_iter)]
            self.n_iter_ = n_iter + 1
        self._set_fitted()
        self._warn_of_bounds()
        del self._given, self._arrays, self._adam, self._search, self._rng
        del self._likelihood, self._covariance, self._spread
        return self

    def _check_neighbors(self):
        if self.n_neighbors > self.n_inducing:
            raise ValueError(
                f"n_neighbors={self.n_neighbors} must not exceed n_inducing={self.n_inducing}."
            )

    def _start(self, A, target, likelihood):
        """Set the arrays that are trained, and what trains them."""
        xp, n = compute_namespace(A), len(A)
        kernel = default_kernel(A, self._prior_variance(target))
        self._covariance = read_sum(kernel if self.kernel is None else self.kernel, A.shape[1])
        self._likelihood = likelihood
        self._rng = check_random_state(self.random_state)
        self._rng = np.random.RandomState(mpi.broadcast(int(self._rng.randint(2**31 - 1))))
        n_inducing = min(self.n_inducing, n)
        scaled = self._covariance.scale(A)
        inputs = initial_inputs(scaled, n_inducing, self.inducing_init, self._rng)
        inputs = xp.asarray(mpi.broadcast(inputs))
        unit = xp.asarray(self._scales(A))
        self._spread = Spread(self.covariance)
        self._arrays = {
            "mean": local_means(scaled, self._latent(target), inputs, max(1, n // n_inducing)),
            "inputs": inputs * unit,
            "theta": self._covariance.theta.copy(),
            "noise": np.array(likelihood.parameters, dtype=np.float64),
        }
        size = self._prior_variance(target) ** 0.5
        self._arrays["spread"] = self._spread.start(n_inducing, _START_DEVIATION * size, xp)
        units = {"mean": _MEAN_STEP * size, "spread": self._spread.units(self._arrays["spread"])}
        if self.train_inducing:
            units["inputs"] = spacing(inputs) * unit
        if self.optimize_kernel:
            units |= {"theta": 1.0, "noise": 1.0}
        self._adam = Adam(units)
        self._search = NeighborSearch(min(self.n_neighbors, n_inducing))
        check_gpu_memory(
            A,
            _MATRICES * 8 * min(self.batch_size, n) * min(self.n_neighbors, n_inducing) ** 2,
            f"lower batch_size={self.batch_size} or n_neighbors={self.n_neighbors}",
        )

    def _scales(self, A):
        """Lengthscales (d,) that `Covariance.scale` divides by."""
        return 1.0 / self._covariance.scale(np.ones((1, A.shape[1])))[0]

    def _epoch(self, A, target, epoch):
        """Pass over all rows once, in a random order; return the mean of the batches' bounds."""
        xp, n = compute_namespace(A), len(A)
        order = self._rng.permutation(n)
        n_batches = -(-n // self.batch_size)
        edges = [n * b // n_batches for b in range(n_batches + 1)]
        total, stop = 0.0, 0
        for batch, (first, last) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
            if last > stop:  # the candidates of a block of rows
                start, stop = first, max(last, first + _BLOCK)
                rows = xp.asarray(order[start:stop])
                self._search.refresh(*map(self._covariance.scale, (A[rows], self._inputs)))
            share = slice(0, last - first) if self.union else mpi.row_slice(last - first)
            rows = slice(first + share.start, first + share.stop)
            near = slice(rows.start - start, rows.stop - start)
            chosen = xp.asarray(order[rows])
            part = self._batch(A[chosen], target[chosen], near, n, last - first)
            progress = (epoch + batch / n_batches) / self.max_iter
            total += self._step(part, self.learning_rate * min(1.0, 2.02 - 2 * progress))
        return total / n_batches

    @property
    def _inputs(self):
        return self._arrays["inputs"]

    def _batch(self, X, y, near, n, n_in_batch):
        scale = self._covariance.scale
        return Batch(X, y, self._search.nearest(scale(X), scale(self._inputs), near), n, n_in_batch)

    def _step(self, batch, rate):
        """Move everything up the bound of a batch; return the bound before."""
        covariance, arrays = self._covariance, self._arrays
        with np.errstate(all="ignore"):  # told below in a sentence
            bound = self._bound(covariance, self._likelihood, batch, arrays, self._spread)
        if not np.isfinite(bound.value):
            raise FloatingPointError(
                f"The bound became {bound.value} in epoch {len(self.elbo_history_) + 1}; lower "
                f"learning_rate={self.learning_rate}."
            )
        self._adam.step(arrays, bound.gradients, rate)
        if self.optimize_kernel:
            arrays["theta"][:] = np.clip(arrays["theta"], *covariance.bounds.T)
            np.clip(arrays["noise"], -_MOST_LOG, _MOST_LOG, out=arrays["noise"])
            self._covariance = covariance.with_theta(arrays["theta"])
            self._likelihood = self._likelihood.with_parameters(arrays["noise"])
        return bound.value

    def _bound(self, covariance, likelihood, batch, arrays, spread):
        """The bound of a batch as the options have it."""
        if self.union:
            return union_bound(covariance, likelihood, batch, arrays, spread)
        weight = 1.0  # how often the mean divergence of neighborhoods counts
        if self.divergence == "total":
            weight = len(arrays["inputs"]) / batch.neighbors.shape[1]
        return local_bound(covariance, likelihood, batch, arrays, spread, weight)

    def _settled(self):
        last = self.elbo_history_[-_LAST_EPOCHS - 1 :]
        if len(last) <= _LAST_EPOCHS:
            return False
        return max(last) - min(last) < self.tol * abs(last[-1])

    def _fitted_attributes(self):
        self._set_fitted()
        return {name: value for name, value in vars(self).items() if name.endswith("_")}

    def _set_fitted(self):
        """Set all fitted attributes from what is trained."""
        scale = self._spread.scale(self._arrays["spread"])
        given = self._given
        self.inducing_inputs_ = self._like_given(self._inputs.copy(), given)
        self.inducing_mean_ = self._like_given(self._arrays["mean"].copy(), given)
        if self.covariance == "diag":
            scale = scale[:, 0]
        self.inducing_scale_ = self._like_given(scale, given)
        self.kernel_ = self._covariance.kernel()
        self._set_likelihood(self._likelihood)

    def _warn_of_bounds(self):
        covariance = self._covariance
        at = np.abs(covariance.theta[:, None] - covariance.bounds).min(axis=1) < _AT_BOUND
        if self.optimize_kernel and at.any():
            names = [name for name, is_at in zip(covariance.names, at, strict=True) if is_at]
            warnings.warn(
                f"The kernel parameters {names} ended at a bound; widen their bounds.",
                UserWarning,
                stacklevel=4,
            )

    # ------------------------------------------------------------ predictions
    def _fitted_q(self):
        """Return inducing inputs, mean and stored spread in double precision, and the Spread."""
        Z, mean, scale = (
            to_compute(a)
            for a in (self.inducing_inputs_, self.inducing_mean_, self.inducing_scale_)
        )
        xp = compute_namespace(Z)
        Z, mean, scale = (xp.ascontiguousarray(a, dtype=np.float64) for a in (Z, mean, scale))
        return Z, mean, scale[:, None] if scale.ndim == 1 else scale, Spread(self.covariance)

    def _fitted_covariance(self):
        return read_sum(self.kernel_, self.n_features_in_)

    def _latent_moments(self, A):
        """Posterior mean and variance (q,) of the values at rows A, each from its neighbors."""
        Z, mean, scale, spread = self._fitted_q()
        xp, covariance = compute_namespace(A), self._fitted_covariance()
        scaled_inputs, stored = covariance.scale(Z), spread.spread(scale)
        mu, v = xp.empty(len(A)), xp.empty(len(A))
        for start in range(0, len(A), _CHUNK):
            rows = slice(start, start + _CHUNK)
            near = exact_nearest(
                covariance.scale(A[rows]), scaled_inputs, min(self.n_neighbors, len(Z))
            )
            mu[rows], v[rows] = local_moments(
                covariance, A[rows], near, Z, mean, stored, spread.mode
            )
        return mu, v

    def _joint_moments(self, A):
        """Posterior mean (q,) and covariance (q, q), from the neighbors of all rows together."""
        Z, mean, scale, spread = self._fitted_q()
        covariance = self._fitted_covariance()
        near = exact_nearest(
            covariance.scale(A), covariance.scale(Z), min(self.n_neighbors, len(Z))
        )
        return union_moments(covariance, A, near, Z, mean, scale, spread)

    def _full_bound(self, A, target, likelihood):
        """The bound of given rows, all in one batch."""
        Z, mean, scale, spread = self._fitted_q()
        covariance = self._fitted_covariance()
        near = exact_nearest(
            covariance.scale(A), covariance.scale(Z), min(self.n_neighbors, len(Z))
        )
        batch = Batch(A, target, near, len(A), len(A))
        arrays = {"mean": mean, "inputs": Z, "spread": spread.stored(scale)}
        with mpi.each_rank_alone():
            return self._bound(covariance, likelihood, batch, arrays, spread).value
