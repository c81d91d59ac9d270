"""What the posteriors by double Kullback-Leibler minimization share (Cao et al., 2023)."""

import warnings
from contextlib import contextmanager
from numbers import Integral, Real

import numba
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .. import mpi
from .._arrays import compute_namespace, like, to_compute
from ._base import SparseGP, check_gpu_memory, count_repeated
from ._covariance import default_kernel, read_sum
from ._dklgp_prediction import JointLatent, Trained, predict_each
from ._elbo import Pattern
from ._inverse_cholesky import as_csc
from ._patterns import Sparsity
from ._stochastic import StochasticSearch
from ._task import Task
from ._variational import NoisySearch, ProfiledSearch

_SOLVERS = {"lbfgs": ProfiledSearch, "adam": StochasticSearch, "response": NoisySearch}
_FEW = 20000  # points up to which predictions see all ancestors
_ONE_THREAD = 1000  # fewer points are not worth a second one
_ORDERINGS = {"maximin", "maximin-approximate", "random", "coordinate", "given"}


class DKLGP(SparseGP):
    """Base of the Gaussian processes whose prior and posterior have sparse inverse factors."""

    _parameter_constraints = {
        "kernel": "no_validation",
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "rho": [Interval(Real, 1, None, closed="left")],
        "pattern": [StrOptions({"nearest", "ball"})],
        "variant": [StrOptions({"full", "global", "diagonal"})],
        "ordering": [StrOptions(_ORDERINGS)],
        "metric": [StrOptions({"euclidean", "correlation"})],
        "nugget": [Interval(Real, 0, None, closed="left")],
        "ancestors": [StrOptions({"auto", "pattern", "ball", "full"})],
        "solver": [StrOptions({"auto", *_SOLVERS})],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "reorder_tol": [Interval(Real, 0, None, closed="left")],
        "optimize_kernel": ["boolean"],
        "random_state": ["random_state"],
    }
    _y_mean, _y_scale = 0.0, 1.0

    def _train(self, A, target, X, y, likelihood, variance=1.0):
        """Fit to all rows A (n, d) and targets of a likelihood; X and y are the caller's."""
        solver = self._chosen_solver(likelihood)
        self._check_sparsity(A)
        n_entries = len(A) * (min(self.n_neighbors, len(A) - 1) + 1)
        check_gpu_memory(A, 80 * n_entries, f"lower n_neighbors={self.n_neighbors}")
        self._keep_training(A, X)
        self._given, self._A = X, A
        kernel = default_kernel(A, variance) if self.kernel is None else self.kernel
        seed = mpi.broadcast(int(check_random_state(self.random_state).randint(2**31 - 1)))
        names = ("rho", "pattern", "variant", "ordering", "metric")
        options = {name: getattr(self, name) for name in names}
        sparsity = Sparsity(self.n_neighbors, seed=seed, **options)
        task = Task(
            A,
            target,
            likelihood,
            read_sum(kernel, A.shape[1]),
            sparsity,
            self.ancestors,
            float(self.nugget),
            float(self.reorder_tol),
        )
        with _threads_for(len(A)):
            self._search = _SOLVERS[solver](
                task,
                learn=self.optimize_kernel,
                batch_size=self.batch_size,
                learning_rate=self.learning_rate,
                max_iter=self.max_iter,
            )
            self._iterate(X, y)
            self._set_fitted()
        self._warn_of_fit(self._search.at_bounds())
        del self._search, self._given, self._A
        return self

    def _iterate(self, X, y):
        """Search, announcing iterations."""
        search = self._search
        self.n_iter_: int = 0
        self.elbo_history_: list[float] = []
        for n_iter in self._iterations(
            X, y, max_iter=self.max_iter, until=lambda: search.converged
        ):
            search.step(self.tol)
            self.elbo_history_ = [*self.elbo_history_, float(search.value)]
            self.n_iter_ = n_iter + 1
            if not np.isfinite(search.value):
                raise FloatingPointError(
                    f"The bound became {search.value} in iteration {n_iter + 1}; lower "
                    "learning_rate, or raise nugget or the noise."
                )

    def _chosen_solver(self, likelihood):
        is_gaussian = "noise_variance" in likelihood.free
        if self.solver == "response" and not is_gaussian:
            raise ValueError(
                "solver='response' needs Gaussian noise; use solver='lbfgs' or 'adam'."
            )
        if not self.optimize_kernel and self.solver != "adam":
            return "lbfgs"
        if self.solver != "auto":
            return self.solver
        return "response" if is_gaussian else "lbfgs"

    def _check_sparsity(self, A):
        balls = self.pattern == "ball" or self.ancestors == "ball"
        if balls and "maximin" not in self.ordering:
            raise ValueError(
                "pattern='ball' and ancestors='ball' need a maximin ordering, got "
                f"ordering={self.ordering!r}."
            )
        if balls and self.metric == "correlation" and self.ancestors == "ball":
            raise ValueError("ancestors='ball' needs metric='euclidean'.")
        if self.nugget == 0 and count_repeated(A):
            raise ValueError("X has repeated rows, whose values need a nugget above 0.")

    def _fitted_attributes(self):
        self._set_fitted()
        return {name: value for name, value in vars(self).items() if name.endswith("_")}

    def _set_fitted(self):
        """Set all fitted attributes from the state of the search."""
        task, layout, U, self.elbo_ = self._search.finish()
        X, posterior, patterns = self._given, layout.posterior, layout.bound.patterns
        self.kernel_, self._covariance = task.covariance.kernel(), task.covariance
        self._set_likelihood(task.likelihood)
        self.order_, self.lengths_ = (
            like(layout.order, X),
            self._like_given(layout.lengths(task), X),
        )
        nu = posterior.nu
        self._nu, self._sparsity = like(nu, X), task.sparsity
        xp = compute_namespace(nu)
        mean = xp.empty_like(nu)
        mean[layout.order] = nu
        self.mean_ = self._like_given(self._y_mean + self._y_scale * mean, X)
        self.prior_factor_ = as_csc(U, patterns.prior.indices, patterns.prior.indptr)
        pattern = patterns.posterior
        self.factor_ = as_csc(posterior.V, pattern.indices, pattern.indptr)
        empty = xp.zeros(0, dtype=np.int32)
        self._ancestors = patterns.ancestors if len(mean) > _FEW else Pattern(pattern.indptr, empty)
        self.ancestor_bias_ = layout.bias
        self.n_jitter_, self.n_ic_shift_ = layout.n_jitter, posterior.n_shifts
        self.converged_ = bool(self._search.converged)

    def _set_likelihood(self, likelihood):
        """Keep what is learned of the likelihood."""
        self._likelihood = likelihood

    def _warn_of_fit(self, at_bounds):
        if at_bounds:
            warnings.warn(
                f"The parameters {', '.join(at_bounds)} ended at a bound; widen the bounds or fix "
                "them.",
                UserWarning,
                stacklevel=4,
            )
        if not self.converged_ and self.tol > 0:
            warnings.warn(
                f"The bound still rose by more than tol={self.tol} of itself after "
                f"max_iter={self.max_iter} iterations; increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=4,
            )
        if self.n_jitter_:
            warnings.warn(
                f"The covariances of {self.n_jitter_} neighborhoods are singular to rounding and "
                "got a larger diagonal; raise nugget, or use a rougher kernel.",
                UserWarning,
                stacklevel=4,
            )

    def elbo(self):
        """Return the evidence lower bound of the training targets.

        Returns
        -------
        elbo : float
            With the ancestors of the fit, in the units of the targets after scaling.
        """
        check_is_fitted(self)
        return self.elbo_

    def sample_y(self, X, n_samples=1, random_state=0):
        """Draw latent functions, without noise, from the posterior.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=0

        Returns
        -------
        samples : array of shape (n_queries, n_samples)
        """
        rng = check_random_state(random_state)
        queries = self._check_queries(X, "sample_y")
        samples = JointLatent(self._trained(queries), queries).samples(n_samples, rng)
        return self._like_given(self._y_mean + self._y_scale * samples, X)

    def _latent(self, queries, *, with_deviations=True, joint=False):
        """Means and standard deviations of latent values, in scaled units, like the queries."""
        trained = self._trained(queries)
        if not joint:
            return predict_each(trained, queries, with_deviations=with_deviations)
        posterior = JointLatent(trained, queries)
        deviations = posterior.deviations() if with_deviations else 0.0 * posterior.mean()
        return like(posterior.mean(), queries), like(deviations, queries)

    def _trained(self, A):
        """The posterior with arrays that live where A lives."""

        def near(B, dtype=np.float64):
            return like(to_compute(B), A).astype(dtype, copy=False)

        factor = self.factor_
        pattern = Pattern(near(factor.indptr, np.int64), near(factor.indices, np.int32))
        return Trained(
            self._covariance,
            self._sparsity,
            float(self.nugget),
            near(self.X_train_)[near(self.order_, np.int64)],
            near(self.lengths_),
            near(self._nu),
            near(factor.data),
            pattern,
            Pattern(near(self._ancestors[0], np.int64), near(self._ancestors[1], np.int32)),
        )


@contextmanager
def _threads_for(n):
    """Keep Numba to one thread for few points: the others would take longer to wake up."""
    before = numba.get_num_threads()
    numba.set_num_threads(1 if n < _ONE_THREAD else before)
    try:
        yield
    finally:
        numba.set_num_threads(before)
