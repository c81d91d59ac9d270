"""What every policy does before its first evaluation: parameters, candidates, initial design."""

import time
from numbers import Integral, Real

import numpy as np
from scipy.stats import qmc
from sklearn.base import BaseEstimator
from sklearn.gaussian_process.kernels import RBF
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions

from .. import mpi
from .._arrays import is_array, to_compute, to_numpy
from ._candidates import Candidates
from ._kernel import KernelFunction
from ._ledger import Ledger

_OPEN_UNIT = Interval(Real, 0, 1, closed="neither")


class PolicySetup(BaseEstimator):
    """Parameters that all policies share, and `initialize`."""

    _parameter_constraints: dict = {
        "noise_variance": [Interval(Real, 0, None, closed="neither")],
        "lam": [None, Interval(Real, 0, None, closed="neither")],
        "fnorm": [Interval(Real, 0, None, closed="left")],
        "delta": [None, StrOptions({"auto", "1/T"}), _OPEN_UNIT],
        "max_evals": [None, Interval(Integral, 1, None, closed="left")],
        "beta_scale": [Interval(Real, 0, None, closed="left")],
        "normalize_y": [StrOptions({"initial"}), Options(bool, {False})],
        "n_initial": [Interval(Integral, 1, None, closed="left")],
        "initial": [StrOptions({"random", "sobol"}), "array-like"],
        "maximize": ["boolean"],
        "random_state": ["random_state"],
    }

    def initialize(self, X=None, *, bounds=None, n_candidates=16384):
        """Start afresh on a set of candidates.

        Parameters
        ----------
        X : array of shape (n_candidates, n_features), default=None
            The candidates; under ``with sparseprob.distributed():`` those of this rank. A CuPy
            array is computed on the GPU.
        bounds : array-like of shape (n_features, 2), default=None
            Lower and upper ends of a box; then the candidates are scrambled Sobol points in it.
        n_candidates : int, default=16384
            Number of Sobol points.

        Returns
        -------
        self : object
            The policy, ready for `ask`.
        """
        self._check_parameters()
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        self._seed = int(mpi.broadcast(seed))
        self._rng = np.random.default_rng(self._seed)
        with mpi.errors_together():
            if (X is None) == (bounds is None):
                raise ValueError("Give either candidates X or the bounds of a box, not both.")
            rows = self._check_rows(X) if bounds is None else self._sobol(bounds, n_candidates)
        self._candidates = Candidates(rows)
        with mpi.errors_together():
            self._candidates.check_finite()
        if self._candidates.total < 1:
            raise ValueError("X must have at least one candidate, got none.")
        self.n_features_in_ = self._candidates.n_features
        self._kernel = KernelFunction(self._checked_kernel(), self.n_features_in_)
        with mpi.errors_together():
            self._check_prior()
        self._begin()
        return self

    def _begin(self):
        """Empty ledger, no feedback, a queue of initial evaluations."""
        self._lam = float(self.noise_variance if self.lam is None else self.lam)
        self._delta = self._failure_probability()
        self._beta = np.nan
        self._shift, self._scale = 0.0, 1.0
        self._sign = 1.0 if self.maximize else -1.0
        self._ledger = Ledger(self.n_features_in_)
        self._batch, self._closed, self._clock = 0, False, time.perf_counter()
        self._queue = self._initial_design()
        self._start()

    def _check_parameters(self):
        self._validate_params()
        if self.delta == "1/T" and self.max_evals is None:
            raise ValueError("delta='1/T' needs max_evals, the number of evaluations T.")

    def _failure_probability(self):
        if self.delta is None or (self.delta == "auto" and self.max_evals is None):
            return 0.5
        if self.delta in ("auto", "1/T"):
            return 1.0 / max(2, self.max_evals)
        return float(self.delta)

    def _check_rows(self, X):
        X = X if is_array(X) else np.asarray(X)
        if X.ndim != 2:
            raise ValueError(f"X must have shape (n_candidates, n_features), got {tuple(X.shape)}.")
        if to_compute(X[:0, :]).dtype.kind not in "fiub":
            raise ValueError(f"X must be numeric, got dtype {X.dtype}; encode the candidates.")
        if X.shape[1] < 1:
            raise ValueError("X must have at least one feature, got none.")
        return X

    def _sobol(self, bounds, n_candidates):
        low, high = checked_bounds(bounds)
        if n_candidates < 1:
            raise ValueError(f"n_candidates must be at least 1, got {n_candidates!r}.")
        unit = sobol_points(n_candidates, len(low), self._rng)
        return (low + (high - low) * unit)[mpi.row_slice(n_candidates)]

    def _checked_kernel(self):
        if self.kernel is not None:
            return self.kernel
        X, xp = self._candidates.X, self._candidates.xp
        ends = [np.full(self.n_features_in_, -np.inf)] * 2
        if len(X):
            ends = [to_numpy(X.max(axis=0)), -to_numpy(xp.min(X, axis=0))]
        high, low = np.max(mpi.all_gather(np.array(ends, dtype=np.float64)), axis=0)
        spread = high + low
        return RBF(0.2 * np.where(spread > 0, spread, 1.0))

    def _check_prior(self):
        variances = self._kernel.diag(self._candidates.X[:65536])
        if len(variances) and not bool((variances > 0).all()):
            raise ValueError(
                "The kernel must give every candidate a positive variance; kernel.diag(X) has an "
                "entry that is zero or negative."
            )

    def _initial_design(self):
        """Numbers of the candidates to evaluate first."""
        total = self._candidates.total
        if not isinstance(self.initial, str):
            given = np.asarray(self.initial)
            if given.ndim != 1 or len(given) < 1 or given.dtype.kind not in "iu":
                raise ValueError(
                    "initial must be 'random', 'sobol' or a list of candidate numbers, got "
                    f"{self.initial!r}."
                )
            return self._check_indices(given).tolist()
        if self.n_initial > total:
            raise ValueError(
                f"n_initial={self.n_initial} is more than the {total} candidates; lower it."
            )
        if self.initial == "random":
            return self._rng.choice(total, self.n_initial, replace=False).tolist()
        return self._nearest_to_sobol(self.n_initial)

    def _nearest_to_sobol(self, n):
        """Candidates nearest to Sobol points in the box of all candidates, none twice."""
        X, xp = self._candidates.X, self._candidates.xp
        ends = np.array([to_numpy(X.max(axis=0)), -to_numpy(X.min(axis=0))], dtype=np.float64)
        high, low = np.max(mpi.all_gather(ends), axis=0) * [[1], [-1]]
        chosen, free = [], xp.ones(len(X), dtype=bool)
        for point in low + (high - low) * sobol_points(n, len(low), self._rng):
            distance = ((X - xp.asarray(point)) ** 2).sum(axis=1)
            index, _ = self._candidates.argmax(xp.where(free, -distance, -xp.inf))
            chosen.append(index)
            if self._candidates.local(index) is not None:
                free[self._candidates.local(index)] = False
        return chosen


def checked_bounds(bounds):
    """Return lower and upper ends of a box, or refuse them in one sentence."""
    bounds = np.asarray(bounds, dtype=np.float64)
    if bounds.ndim != 2 or bounds.shape[1] != 2 or not len(bounds):
        raise ValueError(f"bounds must be pairs (low, high), one a feature, got {bounds.shape}.")
    low, high = bounds.T
    if not (np.isfinite(bounds).all() and (low < high).all()):
        raise ValueError(f"bounds must be finite with low < high, got {bounds.tolist()}.")
    return low, high


def sobol_points(n, n_features, rng):
    """Return the first n of scrambled Sobol points of the unit cube."""
    seed = np.random.default_rng(rng.integers(2**63))
    sampler = qmc.Sobol(n_features, scramble=True, rng=seed)
    return sampler.random_base2(max(0, int(n - 1).bit_length()))[:n]
