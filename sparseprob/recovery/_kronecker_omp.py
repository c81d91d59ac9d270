"""Orthogonal matching pursuit with Kronecker structure (C. F. Caiafa, A. Cichocki, 2013)."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import Interval

from .. import mpi
from .._arrays import compute_namespace
from ..linear_operators import grid, mode_products
from ..mpi import row_sum
from ._kronecker_posterior import squared_norm
from ._kronecker_problem import KroneckerRegressor

_LIMIT = 10  # entries of each factor when nothing is said


class KroneckerOMP(KroneckerRegressor):
    r"""Greedy pursuit of a vector whose support is a product of small supports.

    For :math:`y = (A_1 \otimes \dots \otimes A_K) x + e`. Each step looks for the column, scaled to
    unit length, that correlates most with the residual, adds its coordinates to the supports of
    the factors, and fits all coefficients on the product of the supports anew. Pseudo-inverses of
    the chosen columns of the factors give that fit; no large matrix is formed.

    Parameters
    ----------
    n_nonzero_per_mode : int or sequence of int, default=None
        Most entries of each factor's support. None means 10, or what the factor's shape allows.
    tol : float, default=1e-2
        Stop when the length of the residual is at most this share of that of y.

    Attributes
    ----------
    coef_ : array of shape (N_1, ..., N_K) or (N_1, ..., N_K, n_snapshots)
    supports_ : list of int arrays
        Entries of each factor, in the order they were chosen.
    residual_norms_ : array of shape (n_iterations + 1,)
        Length of the residual, over that of y, at the start and after each step.
    n_iter_ : int
    stop_reason_ : str
        "tol", "active_index" (the best column is in the product of supports already, or its
        coordinates would exceed the limits), "limits", "callback" or "zero_target".

    See Also
    --------
    KroneckerSBL : The Bayesian estimator, which needs no limits and tells its uncertainty.

    References
    ----------
    .. [1] C. F. Caiafa, A. Cichocki. "Computing Sparse Representations of Multidimensional Signals
       Using Kronecker Bases". Neural Computation 25:186-220, 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.recovery import KroneckerOMP
    >>> rng = np.random.default_rng(0)
    >>> factors = [rng.normal(size=(8, 15)), rng.normal(size=(12, 15))]
    >>> x = np.zeros((15, 15))
    >>> x[np.ix_([2, 7], [3, 11])] = [[1.0, -2.0], [3.0, 1.5]]
    >>> model = KroneckerOMP().fit(factors, factors[0] @ x @ factors[1].T)
    >>> [sorted(support.tolist()) for support in model.supports_]
    [[2, 7], [3, 11]]
    """

    _parameter_constraints = {
        "n_nonzero_per_mode": [Interval(Integral, 1, None, closed="left"), tuple, list, None],
        "tol": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(self, n_nonzero_per_mode=None, *, tol=1e-2):
        self.n_nonzero_per_mode = n_nonzero_per_mode
        self.tol = tol

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Choose supports and fit coefficients.

        Parameters
        ----------
        X : list of arrays of shape (M_k, N_k), or KroneckerOperator
            NumPy, CuPy or torch.
        y : array of shape (M,) or (M_1, ..., M_K), or either with a last axis of snapshots
            M is the product of the M_k. Snapshots share their supports. Inside
            ``with distributed():`` the snapshots of this rank.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If y does not fit the factors, an array has NaN or infinity, or a limit is impossible.
        TypeError
            If an array is not numeric or is float16.
        """
        problem = self._check_problem(X, y)
        with mpi.errors_together():
            limits = self._limits(problem.factors)
        self._form, self._problem = problem.form, problem
        self._pursuit = _Pursuit(problem.factors, problem.Y, limits, self.tol)
        if not self._pursuit.stop_reason:
            steps = self._iterations(
                X, y, max_iter=sum(limits), until=lambda: self._pursuit.stop_reason
            )
            for _ in steps:
                self._pursuit.step()
        for name, value in self._fitted_attributes().items():
            setattr(self, name, value)
        del self._pursuit, self._problem
        return self

    def _fitted_attributes(self):
        pursuit, problem = self._pursuit, self._problem
        return {
            "coef_": problem.answer(problem.coef(pursuit.coefficients())),
            "supports_": [np.array(S, dtype=np.int64) for S in pursuit.supports],
            "residual_norms_": np.array(pursuit.residual_norms),
            "n_iter_": len(pursuit.residual_norms) - 1,
            "stop_reason_": pursuit.stop_reason or "callback",
        }

    def _limits(self, factors):
        most, given = [min(F.shape) for F in factors], self.n_nonzero_per_mode
        if given is None:
            return [min(_LIMIT, n) for n in most]
        limits = [given] * len(factors) if isinstance(given, Integral) else list(given)
        if len(limits) != len(factors):
            raise ValueError(
                f"n_nonzero_per_mode has {len(limits)} values for {len(factors)} factors; give as "
                "many."
            )
        suit = (
            isinstance(a, Integral) and 1 <= int(a) <= b for a, b in zip(limits, most, strict=True)
        )
        if not all(suit):
            raise ValueError(
                f"n_nonzero_per_mode must be integers from 1 to min(M_k, N_k), here {most}, got "
                f"{given!r}."
            )
        return limits


class _Pursuit:
    """Supports so far, the fit on their product, and the residual."""

    def __init__(self, factors, Y, limits, tol):
        self.xp = compute_namespace(Y)
        self.factors, self.Y, self.residual = factors, Y, Y
        self.limits, self.tol = limits, tol
        self.supports: list[list[int]] = [[] for _ in factors]
        self.stop_reason = ""
        lengths = [self.xp.linalg.norm(F, axis=0) for F in factors]
        self._adjoints = [
            (F / self.xp.where(n > 0, n, 1)).conj().T for F, n in zip(factors, lengths, strict=True)
        ]
        self._energy = row_sum(squared_norm(Y))
        self.residual_norms = [1.0 if self._energy > 0 else 0.0]
        self._fit = None
        if self._energy == 0 or any(not n.any() for n in lengths):
            self.stop_reason = "zero_target"

    def step(self):
        """Add the coordinates of the best column, and fit again."""
        added = False
        for i, support, limit in zip(self._best(), self.supports, self.limits, strict=True):
            if i not in support and len(support) < limit:
                support.append(i)
                added = True
        if not added:
            self.stop_reason = "active_index"
            return
        columns = [F[:, S] for F, S in zip(self.factors, self.supports, strict=True)]
        self._fit = mode_products(self.Y, [self.xp.linalg.pinv(C) for C in columns])
        self.residual = self.Y - mode_products(self._fit, columns)
        self.residual_norms.append((row_sum(squared_norm(self.residual)) / self._energy) ** 0.5)
        if self.residual_norms[-1] <= self.tol:
            self.stop_reason = "tol"
        elif all(len(S) == limit for S, limit in zip(self.supports, self.limits, strict=True)):
            self.stop_reason = "limits"

    def _best(self):
        """Return the coordinates of the column that correlates most with the residuals."""
        correlations = self.xp.abs(mode_products(self.residual, self._adjoints)) ** 2
        total = row_sum(correlations.sum(axis=0))
        position = mpi.broadcast(int(total.argmax()))
        return [int(i) for i in np.unravel_index(position, total.shape)]

    def coefficients(self):
        """Return the coefficients (T, N_1, ..., N_K)."""
        shape = (len(self.Y), *(F.shape[1] for F in self.factors))
        full = self.xp.zeros(shape, dtype=self.Y.dtype)
        if self._fit is not None:
            full[grid(self.xp, range(len(self.Y)), *self.supports)] = self._fit
        return full
