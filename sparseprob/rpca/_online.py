"""Robust PCA that learns row by row, by stochastic optimization or on the Grassmannian.

J. Feng, H. Xu, S. Yan (NeurIPS 2013); J. He, L. Balzano, A. Szlam (CVPR 2012).
"""

import math
import warnings
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .. import mpi
from .._arrays import (
    compute_dtype,
    compute_namespace,
    is_on_gpu,
    like,
    row_chunks,
    to_compute,
    to_cupy,
    to_numpy,
)
from .._threads import one_blas_thread
from ._grasta import GrassmannTracker
from ._online_start import checked_basis, principal_rows, start_from
from ._orpca import StochasticDictionary
from ._subspace import SubspaceTransformer, refuse_bad_entries

_SOLVERS = {"orpca": StochasticDictionary, "grasta": GrassmannTracker}
_START_ROWS = 100  # at least, and ten for each component
_TRUST = 10  # rows for each component, as which a given basis counts
_BLOCK_BYTES = 2**22
_MANY = 0.01  # share of rows that were not solved to tolerance, from which on it is said


class OnlineRobustPCA(SubspaceTransformer):
    r"""Subspace of rows with gross errors, learned from one row after the other.

    ``solver="orpca"`` [1]_ finds for every row z the coordinates r and errors e that minimize
    :math:`\tfrac12 \|z - D^T r - e\|^2 + \tfrac\lambda2 \|r\|^2 + \lambda \|e\|_1`, adds them to
    sums of fixed size, and improves the basis D one vector after the other. ``solver="grasta"``
    [2]_ finds coordinates of least absolute deviations in an orthonormal basis, and turns the
    basis along the gradient. Neither keeps the rows.

    Parameters
    ----------
    n_components : int
        The rank.
    solver : {"orpca", "grasta"}, default="orpca"
        "grasta" ends nearer to the subspace, above all if what is not gross is exact or much is
        missing; "orpca" does with a poor start, a single row for instance.
    lam : "auto" or float, default="auto"
        :math:`\lambda`, in the units of X: deviations beyond it are gross errors, and no row moves
        the basis by more. "auto" takes twice the median deviation of the first rows from the
        subspace they start with; it needs ``2 * n_components`` of them, and takes half the median
        magnitude if there are fewer.
    max_iter : int, default=1
        Passes of `fit` over the rows.
    tol : float, default=0
        `fit` stops when a pass turns the subspace by less than this, as the sine of the largest
        angle. 0 makes all passes.
    forgetting : float, default=1.0
        What earlier rows weigh after one more row; 0.99 remembers about a hundred.
    init : array of shape (n_components, n_features), default=None
        Basis to start from, for example ``RobustPCA(...).fit(X[:500]).components_``; it counts as
        ``10 * n_components`` rows. None takes the singular vectors of the first rows, gross
        entries clipped.
    missing : {None, "nan"}, default=None
        What NaN means: an error, or an entry that is not known and does not influence the fit.
    robust : bool, default=True
        New rows are corrupted too, so `transform` minimizes absolute deviations; False multiplies
        by the components.
    random_state : int, RandomState instance or None, default=None
        Seed of the directions that are missing from the start if the first rows have a lower rank.

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        Orthonormal rows that span the subspace, those of most energy first.
    singular_values_ : array of shape (n_components,)
        Root of the energy in each direction, of the rows that are remembered.
    lam_ : float
        :math:`\lambda`.
    center_ : None
        Rows are not centered; a constant offset is one more component.
    n_samples_seen_ : int
        Number of rows that the basis has learned from, in all passes.
    n_iter_ : int
        Number of passes of `fit`.
    n_features_in_ : int
        Number of columns of X.

    See Also
    --------
    RobustPCA : All rows at once, with a certificate.
    BackgroundSubtractor : Moving objects in video.

    Notes
    -----
    A row costs of the order of ``n_features * n_components ** 2`` operations, some ten times;
    memory is that of a few bases. The model after a row does not depend on how the rows came in
    batches, except that the start is made from the first batch, or from its first
    ``max(100, 10 * n_components)`` rows. Rows of zeros are skipped. Every row waits for the one
    before it, hence rows cannot be shared out to ranks, and a GPU pays off for very long rows only.

    References
    ----------
    .. [1] J. Feng, H. Xu, S. Yan. "Online Robust PCA via Stochastic Optimization". NeurIPS, 2013.
    .. [2] J. He, L. Balzano, A. Szlam. "Incremental Gradient on the Grassmannian for Online
       Foreground and Background Separation in Subsampled Video". CVPR, 2012.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.rpca import OnlineRobustPCA
    >>> rng = np.random.default_rng(0)
    >>> L = rng.normal(size=(1000, 3)) @ rng.normal(size=(3, 80))
    >>> X = L + np.where(rng.random(L.shape) < 0.1, rng.uniform(-1000, 1000, L.shape), 0)
    >>> model = OnlineRobustPCA(3, random_state=0)
    >>> for start in range(0, 1000, 100):
    ...     model = model.partial_fit(X[start : start + 100])
    >>> bool(np.linalg.norm(L @ model.components_.T) > 0.999 * np.linalg.norm(L))
    True
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "solver": [StrOptions(set(_SOLVERS))],
        "lam": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "forgetting": [Interval(Real, 0, 1, closed="right")],
        "init": ["array-like", None],
        "missing": [StrOptions({"nan"}), None],
        "robust": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components,
        *,
        solver="orpca",
        lam="auto",
        max_iter=1,
        tol=0.0,
        forgetting=1.0,
        init=None,
        missing=None,
        robust=True,
        random_state=None,
    ):
        self.n_components = n_components
        self.solver = solver
        self.lam = lam
        self.max_iter = max_iter
        self.tol = tol
        self.forgetting = forgetting
        self.init = init
        self.missing = missing
        self.robust = robust
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn the subspace from scratch.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
            NumPy, CuPy or torch array, memory map or h5py dataset.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X has infinity, NaN without ``missing="nan"``, a row or column that is missing
            altogether, or fewer rows or columns than components; inside ``with distributed():``.

        Warns
        -----
        ConvergenceWarning
            If the last of `max_iter` passes turned the subspace by more than a positive `tol`.
        """
        X = self._check_input(X, reset=True, method="fit")
        if self.n_components > X.shape[0]:
            raise ValueError(
                f"n_components must not exceed n_samples={X.shape[0]} in fit, got "
                f"{self.n_components!r}; use partial_fit for fewer rows."
            )
        turned = math.inf
        with one_blas_thread(), self._at_work(self._start(X), X) as state:
            steps = self._iterations(
                X, y, max_iter=self.max_iter, until=lambda: turned <= self.tol
            )  # fmt: skip
            for n_iter in steps:
                before = state.components if self.tol > 0 else None
                self._learn(state, X, first_pass=n_iter == 0)
                turned = math.inf if before is None else _sine(before, state.components)
                state.n_iter = n_iter + 1
        if turned > self.tol > 0:
            warnings.warn(
                f"Pass {self.n_iter_} still turned the subspace by {turned:.1e}, more than "
                f"tol={self.tol:g}; increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Go on learning with more rows.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
            Any number of rows; the first call makes the start from them.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator; as it was if X is refused.
        """
        first = not hasattr(self, "_state")
        X = self._check_input(X, reset=first, method="partial_fit")
        state = self._start(X) if first else self._state.copied_to(compute_namespace(X))
        with one_blas_thread(), self._at_work(state, X):
            self._learn(state, X)
        return self

    @contextmanager
    def _at_work(self, state, X):
        """Let callbacks see a state; keep it if no error came."""
        self._now = state, X
        try:
            yield state
            self._state = state
            for name, value in self._fitted_attributes().items():
                setattr(self, name, value)
        finally:
            del self._now

    def _check_input(self, X, *, reset, method):
        if mpi.n_ranks() > 1:
            raise ValueError(
                "OnlineRobustPCA learns from one row after the other and cannot share them out to "
                f"ranks; call {method} outside distributed(), or use RobustPCA."
            )
        X = self._check_X(X, reset=reset, method=method)
        if self.n_components > X.shape[1]:
            raise ValueError(
                f"n_components must not exceed n_features={X.shape[1]}, got {self.n_components!r}."
            )
        if self.forgetting < 1 - 1 / self.n_components:
            raise ValueError(
                f"forgetting={self.forgetting!r} remembers fewer rows than n_components="
                f"{self.n_components!r}; it must be at least {1 - 1 / self.n_components:g}."
            )
        return X

    def _start(self, X):
        """State before the first row, from the first rows."""
        dtype, rng = compute_dtype(X), check_random_state(self.random_state)
        n_rows = max(_START_ROWS, 10 * self.n_components)
        _, rows = next(row_chunks(X, n_rows, dtype, stop=n_rows))
        rows = rows[:n_rows]
        self._refuse(rows, 0)
        basis, lam = start_from(rows, self.n_components, self.lam, rng)
        if self.init is not None:
            init = (to_cupy if is_on_gpu(X) else to_numpy)(to_compute(self.init))
            basis = checked_basis(init, basis.shape, dtype, compute_namespace(X))
        n_trusted = 0 if self.init is None else _TRUST * self.n_components
        return _SOLVERS[self.solver](basis, lam, float(self.forgetting), n_trusted)

    def _refuse(self, block, start):
        """Raise for entries that cannot be learned from."""
        refuse_bad_entries(block, start, self.missing)
        xp = compute_namespace(block)
        limit = math.sqrt(float(xp.finfo(block.dtype).max)) / block.shape[1]
        if float(xp.nanmax(abs(block))) > limit:
            raise FloatingPointError(
                "The squares of X overflow when they are summed; scale X down first."
            )

    def _learn(self, state, X, first_pass=False):
        """Take in all rows of X."""
        dtype, missed = state.D.dtype, 0
        n_rows = max(32, _BLOCK_BYTES // (X.shape[1] * dtype.itemsize))
        seen = np.zeros(X.shape[1], dtype=bool)
        for start, block in row_chunks(X, n_rows, dtype):
            self._refuse(block, start)
            missed += state.update(block)
            if first_pass and self.missing is not None:
                seen |= to_numpy((block == block).any(axis=0))
        state.n_seen += X.shape[0]
        if first_pass and self.missing is not None and not seen.all():
            raise ValueError(
                f"Column {int(seen.argmin())} of X has only missing entries; leave it out."
            )
        if not all(bool(compute_namespace(A).isfinite(A).all()) for A in (state.D, state.A)):
            raise FloatingPointError("The basis is not finite after these rows; scale X down.")
        if missed > _MANY * X.shape[0]:
            warnings.warn(
                f"The coordinates of {missed} of {X.shape[0]} rows were not found to tolerance; "
                "increase lam.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _fitted_attributes(self):
        state, X = self._now
        components, energies = principal_rows(state.D, state.A)
        attributes = {
            "components_": like(components, X),
            "singular_values_": like(energies, X),
            "lam_": state.lam,
            "center_": None,
            "n_samples_seen_": state.n_seen,
        }
        return attributes | ({"n_iter_": state.n_iter} if state.n_iter else {})


def _sine(before, after):
    """Sine of the largest angle between the spans of orthonormal rows."""
    rest = after - (after @ before.T) @ before
    return float(compute_namespace(after).linalg.norm(rest, 2))
