"""Robust PCA (E. Candes, X. Li, Y. Ma, J. Wright, 2011), by several solvers."""

import math
import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .. import mpi
from .._arrays import compute_dtype, like
from .._threads import one_blas_thread
from ._accaltproj import AcceleratedProjections
from ._altproj import AlternatingProjections
from ._blocks import LowRank, RowBlocks
from ._filled import HALF
from ._godec import GoDec
from ._pcp import AlternatingDirections, AugmentedLagrangian
from ._problem import SolverOptions, column_medians, summarize
from ._sparse_part import sparse_part
from ._stable import StablePursuit
from ._subspace import SubspaceTransformer

_SOLVERS = {
    "ialm": AugmentedLagrangian,
    "admm": AlternatingDirections,
    "stable": StablePursuit,
    "godec": GoDec,
    "altproj": AlternatingProjections,
    "accaltproj": AcceleratedProjections,
}
_NEEDS_RANK = ("godec", "altproj", "accaltproj")
_GAP_TOL = 1e-3
_FLOAT32_TOL = 1e-5
_SMALL = 32  # columns or rows up to which all singular triplets are computed


class RobustPCA(SubspaceTransformer):
    r"""Split a matrix into a low-rank part and sparse gross errors, and say whether to trust it.

    ``solver="ialm"`` and ``"admm"`` solve principal component pursuit,
    :math:`\min \|L\|_* + \lambda \|S\|_1` subject to :math:`L + S = X`, which recovers L and S
    exactly if L has low rank, its singular vectors are spread out, and few entries are wrong, by
    any amount [1]_. A small residual does not prove that: the duality gap `dual_gap_` does.

    Parameters
    ----------
    n_components : int, default=None
        The rank, which "godec", "altproj" and "accaltproj" need to be told. The other solvers find
        it; given, L is truncated to it afterwards.
    solver : {"ialm", "admm", "stable", "godec", "altproj", "accaltproj"}, default="ialm"
        "ialm" [2]_ is fast, and is run again with a slower penalty if it missed the optimum. "admm"
        takes hundreds of iterations and ends at the optimum. "stable" [3]_ allows for dense noise.
        The others know the rank, minimize nothing, and have no certificate: "accaltproj" [4]_ is
        the fastest, "altproj" [5]_ goes from rank to rank, "godec" [6]_ also knows the number of
        outliers and allows for noise.
    lam : "auto" or float, default="auto"
        :math:`\lambda`; "auto" is :math:`1 / \sqrt{\max(n, p)}`.
    mu : float, default=None
        First penalty of "ialm", the penalty of "admm"; None chooses it from the norms of X.
    rho : float, default=1.5
        Growth of the penalty of "ialm" from step to step.
    card : int or float, default=None
        For "godec": number of outliers, or their share of all entries.
    gamma : "auto" or float, default="auto"
        For "altproj" and "accaltproj": decay of the threshold. 0.5 is fast and goes wrong from
        about a tenth of outliers on; "auto" tries 0.5, then 0.9, then 0.97 as long as half of a row
        or column ends up as outliers, or with 0.5 more than 15 % of all entries.
    noise_scale : float, default=None
        For "stable": standard deviation of the noise; None estimates it from what L leaves.
    tol : float, default=1e-7
        Relative residual, or change of L, at which to stop; at least 1e-5 in single precision.
    max_iter : int, default=500
        Largest number of iterations.
    center : {None, "median"}, default=None
        Take the median off each column first. Means would smear the outliers over all entries.
    svd : {"auto", "full", "randomized"}, default="auto"
        "randomized" computes the singular triplets above the threshold, from those of the step
        before; "full" all of them; "auto" does so for at most 32 rows or columns.
    missing : {None, "nan"}, default=None
        What NaN means: an error, or an entry that is not known and does not influence the fit.
    robust : bool, default=True
        New rows are corrupted too, so `transform` minimizes absolute deviations; False multiplies
        by the components.
    random_state : int, RandomState instance or None, default=None
        Seed of the start of the first singular value decomposition.

    Attributes
    ----------
    components_ : array of shape (rank, n_features)
        Orthonormal rows that span the rows of L.
    singular_values_ : array of shape (rank,)
        Singular values of L.
    scores_ : array of shape (n_samples, rank)
        Coordinates of the rows of L; ``low_rank_`` is ``scores_ @ components_ + center_``.
    sparse_ : sparse or dense array of shape (n_samples, n_features)
        S; a CSR array if fewer than a quarter of its entries are not zero and X is of NumPy or
        CuPy.
    rank_ : int
        Rank of L.
    center_ : array of shape (n_features,) or None
        Medians of the columns.
    lam_ : float
        :math:`\lambda`.
    noise_scale_ : float
        Standard deviation of the noise, given or estimated; only by "stable".
    objective_ : float
        Value of the objective; the relative residual for solvers without one.
    dual_gap_ : float
        How far the objective may be above the optimum, as a share of it. NaN for solvers that have
        no certificate. Above 1e-3 the fit warns.
    residual_ : float
        Norm of X - L - S over that of X.
    n_iter_ : int
        Number of iterations, of both runs if "ialm" ran twice.
    n_features_in_ : int
        Number of columns of X.

    See Also
    --------
    OnlineRobustPCA : One pass over rows that never end.
    BackgroundSubtractor : Moving objects in video.

    Notes
    -----
    "ialm" keeps two arrays of the size of X beside it, in a file if X is on disk; "accaltproj" none
    but S. A step costs a few products of X with ``rank`` vectors. Inside ``with distributed():``
    each rank has its own rows, and of `scores_` and `sparse_` those of its rows.

    References
    ----------
    .. [1] E. Candes, X. Li, Y. Ma, J. Wright. "Robust Principal Component Analysis?" Journal of the
       ACM 58(3), 2011.
    .. [2] Z. Lin, M. Chen, Y. Ma. "The Augmented Lagrange Multiplier Method for Exact Recovery of
       Corrupted Low-Rank Matrices". arXiv:1009.5055, 2010.
    .. [3] Z. Zhou, X. Li, J. Wright, E. Candes, Y. Ma. "Stable Principal Component Pursuit". ISIT,
       2010.
    .. [4] H. Cai, J.-F. Cai, K. Wei. "Accelerated Alternating Projections for Robust Principal
       Component Analysis". JMLR 20, 2019.
    .. [5] P. Netrapalli, U. N. Niranjan, S. Sanghavi, A. Anandkumar, P. Jain. "Non-convex Robust
       PCA". NeurIPS, 2014.
    .. [6] T. Zhou, D. Tao. "GoDec: Randomized Low-rank & Sparse Matrix Decomposition in Noisy
       Case". ICML, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.rpca import RobustPCA
    >>> rng = np.random.default_rng(0)
    >>> L = rng.normal(size=(100, 3)) @ rng.normal(size=(3, 80))
    >>> S = np.where(rng.random(L.shape) < 0.05, rng.uniform(-50, 50, L.shape), 0)
    >>> model = RobustPCA(random_state=0).fit(L + S)
    >>> model.rank_, bool(abs(model.low_rank_ - L).max() < 1e-4), bool(model.dual_gap_ < 1e-3)
    (3, True, True)
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left"), None],
        "solver": [StrOptions(set(_SOLVERS))],
        "lam": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "mu": [Interval(Real, 0, None, closed="neither"), None],
        "rho": [Interval(Real, 1, None, closed="neither")],
        "card": [
            Interval(Integral, 0, None, closed="left"), Interval(Real, 0, 1, closed="both"), None,
        ],
        "gamma": [Interval(Real, 0, 1, closed="neither"), StrOptions({"auto"})],
        "noise_scale": [Interval(Real, 0, None, closed="neither"), None],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "center": [StrOptions({"median"}), None],
        "svd": [StrOptions({"auto", "full", "randomized"})],
        "missing": [StrOptions({"nan"}), None],
        "robust": ["boolean"],
        "random_state": ["random_state"],
    }  # fmt: skip

    def __init__(
        self,
        n_components=None,
        *,
        solver="ialm",
        lam="auto",
        mu=None,
        rho=1.5,
        card=None,
        gamma="auto",
        noise_scale=None,
        tol=1e-7,
        max_iter=500,
        center=None,
        svd="auto",
        missing=None,
        robust=True,
        random_state=None,
    ):
        self.n_components = n_components
        self.solver = solver
        self.lam = lam
        self.mu = mu
        self.rho = rho
        self.card = card
        self.gamma = gamma
        self.noise_scale = noise_scale
        self.tol = tol
        self.max_iter = max_iter
        self.center = center
        self.svd = svd
        self.missing = missing
        self.robust = robust
        self.random_state = random_state

    @property
    def low_rank_(self):
        """The low-rank part L of the fitted rows, computed from its factors."""
        return self.inverse_transform(self.scores_)

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Split X.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
            NumPy, CuPy or torch array, memory map or h5py dataset. Inside ``with distributed():``
            the rows of this rank.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X has infinity, NaN without ``missing="nan"`` or a row or column that is missing
            altogether, or if the solver needs a parameter that was not given.

        Warns
        -----
        ConvergenceWarning
            If the iterations did not end, or ended at a split that is not the optimum, or that
            takes most of a row or column for outliers.
        """
        with mpi.errors_together():
            X = self._check_X(X, reset=True)
        with one_blas_thread():
            rows = RowBlocks(X, compute_dtype(X))
            self._check_sizes(rows)
            summary = summarize(rows, self.missing)
            if not math.isfinite(summary.norm):
                raise FloatingPointError(
                    "The squares of X overflow when they are summed; scale X down first."
                )
            if self.center == "median":
                rows = RowBlocks(X, rows.dtype, column_medians(rows))
                summary = summarize(rows, self.missing)
            self._X, self._n_iter = X, 0
            options = self._options(rows)
            self._solver: Any = _Nothing(rows, options)
            if summary.norm > 0:  # zeros need no solver
                self._solver = _SOLVERS[self.solver](rows, summary, options)
                self._run(X, y)
            self._finish(options)
        del self._solver, self._X, self._n_iter
        return self

    def _check_sizes(self, rows):
        smaller = min(rows.n_rows, rows.shape[1])
        if self.n_components is not None and self.n_components > smaller:
            raise ValueError(
                f"n_components must not exceed the {rows.n_rows} rows or {rows.shape[1]} columns "
                f"of X, got {self.n_components!r}."
            )
        if self.solver in _NEEDS_RANK and self.n_components is None:
            raise ValueError(f"solver={self.solver!r} needs n_components, the rank; give it.")
        if self.solver == "godec" and self.card is None:
            raise ValueError("solver='godec' needs card, the number or share of outliers; give it.")

    def _options(self, rows):
        sizes = rows.n_rows, rows.shape[1]
        svd = "full" if self.svd == "full" or (self.svd == "auto" and min(sizes) <= _SMALL) else ""
        return SolverOptions(
            lam=1 / math.sqrt(max(sizes)) if self.lam == "auto" else float(self.lam),
            tol=max(self.tol, _FLOAT32_TOL) if rows.dtype == np.float32 else self.tol,
            rng=check_random_state(self.random_state), rank=self.n_components, mu=self.mu,
            rho=self.rho, card=self.card, gamma=self.gamma, noise_scale=self.noise_scale, svd=svd,
            gap_tol=_GAP_TOL,
        )  # fmt: skip

    def _run(self, X, y):
        solver = self._solver
        steps = self._iterations(
            X, y, max_iter=self.max_iter, until=lambda: solver.finished
        )  # fmt: skip
        for n_iter in steps:
            solver.step()
            self._n_iter = n_iter + 1
            if not math.isfinite(solver.residual):
                raise FloatingPointError(
                    f"The residual of step {n_iter + 1} is {solver.residual}; scale X to values "
                    "whose squares can be summed."
                )

    def _fitted_attributes(self):
        solver, X = self._solver, self._X
        low = solver.low if self.n_components is None else solver.low.truncated(self.n_components)
        sign = _signs(low)
        attributes = {
            "components_": like((low.V * sign).T, X),
            "singular_values_": like(low.s, X),
            "scores_": like(low.scaled * sign, X),
            "rank_": low.rank,
            "center_": None if solver.rows.center is None else like(solver.rows.center, X),
            "lam_": solver.options.lam,
            "objective_": solver.objective,
            "dual_gap_": solver.gap,
            "residual_": solver.residual,
            "n_iter_": self._n_iter,
        }
        if hasattr(solver, "noise_scale"):
            attributes["noise_scale_"] = solver.noise_scale
        return attributes

    def _finish(self, options):
        solver = self._solver
        self.__dict__.pop("noise_scale_", None)
        for name, value in self._fitted_attributes().items():
            setattr(self, name, value)
        self.sparse_ = sparse_part(solver, self._X)
        problem = None
        if not solver.finished:
            problem = (
                f"solver={self.solver!r} stopped after max_iter={self.max_iter} iterations at a "
                f"relative residual of {solver.residual:.1e}; increase max_iter or tol."
            )
        elif solver.gap > options.gap_tol:
            problem = (
                f"L + S equals X, but the split is not the optimum: its relative duality gap is "
                f"{solver.gap:.1e}, above {options.gap_tol:g}. Do not trust low_rank_ and sparse_; "
                "try solver='admm', or expect too many outliers or too high a rank."
            )
        elif not solver.has_certificate and (share := solver.largest_share()) > HALF:
            problem = (
                f"{share:.0%} of a row or column are taken for outliers, which is typical of a "
                "wrong split; check n_components, or use solver='ialm', which has a certificate."
            )
        if problem is not None:
            warnings.warn(problem, ConvergenceWarning, stacklevel=3)


class _Nothing:
    """The split of a matrix of zeros."""

    has_certificate, finished = True, True
    gap = residual = objective = n_sparse = 0.0

    def __init__(self, rows, options):
        self.rows, self.options, self.low = rows, options, LowRank.zeros(rows)

    def sparse_block(self, start, block, out):
        out[...] = 0
        return 0


def _signs(low):
    """Signs that make the largest entry of each component positive."""
    if low.rank == 0:
        return low.s
    picked = (low.V * (abs(low.V) == abs(low.V).max(axis=0))).sum(axis=0)
    return (2 * (picked >= 0) - 1).astype(low.s.dtype)
