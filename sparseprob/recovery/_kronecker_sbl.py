"""Sparse Bayesian learning with Kronecker-structured variances (Y. He, G. Joseph, 2024)."""

import logging
import math
import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .. import mpi
from .._arrays import compute_namespace, like, to_compute, to_numpy
from .._threads import blas_threads_for
from ..linear_operators import grid
from ._kronecker_em import EMOptions, KroneckerEM, measure
from ._kronecker_problem import KroneckerRegressor

_LOG = logging.getLogger("sparseprob.recovery")
_PRUNE = {"svd": 1e-3, "am": 1e-2, "one-step": 1e-2}  # half of it while the noise is learned
_SWEEPS, _COUPLED_SWEEPS = 50, 9


class KroneckerSBL(KroneckerRegressor):
    r"""Sparse Bayesian learning of a vector whose support is a product of small supports.

    :math:`y = (A_1 \otimes \dots \otimes A_K) x + e` with independent Gaussian noise of variance
    :math:`\sigma^2` and :math:`x \sim \mathcal N(0, \mathrm{diag}(\gamma_1 \otimes \dots \otimes
    \gamma_K))`, real or complex. The evidence of y is maximized by expectation maximization; most
    entries of the :math:`\gamma_k` go to zero. Posterior means and variances are exact and cost
    products along the modes: neither the dictionary nor a covariance is ever formed.

    Parameters
    ----------
    method : {"svd", "am", "one-step"}, default="svd"
        How the variances follow from the second moments: best rank-one approximation (needs the
        fewest iterations), alternating minimization until it settles (the evidence never falls
        as long as nothing is pruned), or a single round of it.
    noise_var : float, default=None
        Variance of the noise, in squared units of y; learned if None.
    coupling : float in [0, 1) or sequence of those, default=None
        What variances take from either neighbor, for each factor: supports in blocks. Needs
        ``method="am"``.
    max_iter : int, default=150
        Most iterations.
    tol : float, default=1e-4
        Iterations end when the variances change by less than this share of their length.
    prune : float in [0, 1) or sequence of those, default=None
        Entries of :math:`\gamma_k` below this share of the largest are dropped. None means 1e-3
        for "svd" and 1e-2 otherwise, half of that if the noise is learned.
    inner_tol : float, default=1e-4
        As `tol`, for the rounds of "am".
    inner_max : int, default=None
        Most rounds of "am"; None means 50, or 9 with coupling.
    init : list of arrays of shape (N_k,), default=None
        Variances to start from, ``gammas_`` of an earlier fit for example; entries that are zero
        stay so. By default all are equal, and of a size that explains y.
    verbose : int, default=0
        Log each iteration with ``logging``.

    Attributes
    ----------
    coef_ : array of shape (N_1, ..., N_K) or (N_1, ..., N_K, n_snapshots)
        Posterior mean of x.
    posterior_var_ : array of shape (N_1, ..., N_K)
        Posterior variances of the entries of x; zero where pruned.
    gammas_ : list of arrays of shape (N_k,)
        The prior variances, zeros where pruned; all but the last have unit length.
    supports_ : list of int arrays
        Entries of each factor that are left.
    noise_var_ : float
        Variance of the noise.
    log_evidence_ : array of shape (n_iterations + 1,)
        Log evidence of y, in nats, at the start and after every iteration.
    n_iter_ : int
        Number of iterations.
    converged_ : bool
        Whether the variances settled.
    stop_reason_ : str
        "converged", "max_iter", "callback" or "zero_target".

    See Also
    --------
    KroneckerOMP : A greedy pursuit with the same structure, without variances.

    Notes
    -----
    An iteration takes singular value decompositions of the factors and four passes of products
    over the tensor of what is left; memory is about four such tensors. Factors and data shrink as
    entries are pruned. Under `sparseprob.distributed` every rank passes snapshots of its own.

    References
    ----------
    .. [1] Y. He, G. Joseph. "Bayesian Algorithms for Kronecker-structured Sparse Vector Recovery
       With Application to IRS-MIMO Channel Estimation". IEEE Transactions on Signal Processing,
       2024.
    .. [2] Y. He, G. Joseph. "Structure-aware Sparse Bayesian Learning-based Channel Estimation for
       Intelligent Reflecting Surface-aided MIMO". ICASSP, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.recovery import KroneckerSBL
    >>> rng = np.random.default_rng(0)
    >>> factors = [rng.normal(size=(8, 15)), rng.normal(size=(12, 15))]
    >>> x = np.zeros((15, 15))
    >>> x[np.ix_([2, 7], [3, 11])] = [[1.0, -2.0], [3.0, 1.5]]
    >>> y = factors[0] @ x @ factors[1].T + 0.01 * rng.normal(size=(8, 12))
    >>> model = KroneckerSBL().fit(factors, y)
    >>> [support.tolist() for support in model.supports_]
    [[2, 7], [3, 11]]
    """

    _parameter_constraints = {
        "method": [StrOptions(set(_PRUNE))],
        "noise_var": [Interval(Real, 0, None, closed="neither"), None],
        "coupling": [Interval(Real, 0, 1, closed="left"), tuple, list, None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "prune": [Interval(Real, 0, 1, closed="left"), tuple, list, None],
        "inner_tol": [Interval(Real, 0, None, closed="left")],
        "inner_max": [Interval(Integral, 1, None, closed="left"), None],
        "init": [tuple, list, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self, method="svd", *, noise_var=None, coupling=None, max_iter=150, tol=1e-4, prune=None,
        inner_tol=1e-4, inner_max=None, init=None, verbose=0,
    ):  # fmt: skip
        self.method = method
        self.noise_var = noise_var
        self.coupling = coupling
        self.max_iter = max_iter
        self.tol = tol
        self.prune = prune
        self.inner_tol = inner_tol
        self.inner_max = inner_max
        self.init = init
        self.verbose = verbose

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Maximize the evidence of y.

        Parameters
        ----------
        X : list of arrays of shape (M_k, N_k), or KroneckerOperator
            NumPy, CuPy or torch.
        y : array of shape (M,) or (M_1, ..., M_K), or either with a last axis of snapshots
            M is the product of the M_k. Snapshots share their variances. Inside
            ``with distributed():`` the snapshots of this rank.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If y does not fit the factors, an array has NaN or infinity, or parameters do not suit.
        TypeError
            If an array is not numeric or is float16.
        FloatingPointError
            If the evidence is no longer finite.
        """
        problem = self._check_problem(X, y)
        with mpi.errors_together():
            options = self._options(problem.factors)
        self._form, (units, n_snapshots) = problem.form, measure(problem)
        if units.y == 0 or 0 in units.factors:
            return self._nothing_to_explain(problem)
        self._problem = problem
        self._em = KroneckerEM(problem, units, n_snapshots, options, self.init)
        with blas_threads_for(_largest_product(problem.factors)):
            for n_iter in self._iterations(
                X, y, max_iter=self.max_iter, until=lambda: self._em.converged
            ):
                self._em.step()
                if self.verbose and mpi.rank() == 0:
                    self._log(n_iter + 1)
        for name, value in self._fitted_attributes().items():
            setattr(self, name, value)
        if self.stop_reason_ == "max_iter" and self.tol > 0:
            warnings.warn(
                f"The variances still changed by more than tol={self.tol} after {self.max_iter} "
                "iterations; increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        del self._em, self._problem
        return self

    def _fitted_attributes(self):
        em, answer = self._em, self._problem.answer
        n_iter = len(em.log_evidence) - 1
        stopped = "max_iter" if n_iter == self.max_iter else "callback"
        return {
            "coef_": answer(self._problem.coef(em.coefficients())),
            "posterior_var_": answer(em.variances()),
            "gammas_": [answer(g) for g in em.full_gammas()],
            "supports_": [S.copy() for S in em.supports],
            "noise_var_": em.noise_var(),
            "log_evidence_": np.array(em.log_evidence),
            "n_iter_": n_iter,
            "converged_": em.converged,
            "stop_reason_": "converged" if em.converged else stopped,
            "_covariance": em.covariance(),
        }

    def predict(self, X, return_std=False):
        """Predict measurements.

        Parameters
        ----------
        X : list of arrays of shape (P_k, N_k), or KroneckerOperator
        return_std : bool, default=False
            Also return how uncertain the predictions are.

        Returns
        -------
        y : array
            In the form of the y of ``fit``: a vector, a tensor, or one with an axis of snapshots.
        std : array
            Only if `return_std`. Standard deviation of A x, without noise; the same for all
            snapshots and without their axis.
        """
        if not return_std:
            return super().predict(X)
        factors, given = self._check_factors(X)
        mean = self._formed(self._predict(factors), given)
        if self._covariance is None:
            xp, real = compute_namespace(factors[0]), to_compute(self.posterior_var_).dtype
            std = xp.zeros(tuple(F.shape[0] for F in factors), dtype=real)
        else:
            covariance = self._covariance.moved_to(compute_namespace(factors[0]))
            std = covariance.prediction_variance(factors) ** 0.5
        return mean, self._formed(std[None], given, self._form.split()[0])

    def sample_posterior(self, n_samples=1, random_state=None):
        """Draw coefficients from their posterior, without forming its covariance.

        Parameters
        ----------
        n_samples : int, default=1
            How many draws.
        random_state : int, RandomState or None, default=None
            Numbers are drawn on the host.

        Returns
        -------
        array of shape (n_samples,) plus the shape of ``coef_``
            In the library of ``coef_``.
        """
        check_is_fitted(self)
        coef, rng = to_compute(self.coef_), check_random_state(random_state)
        xp = compute_namespace(coef)
        draws = xp.repeat(coef[None], n_samples, axis=0)
        if self._covariance is not None:
            covariance = self._covariance.moved_to(xp)
            supports = covariance.supports
            sizes, shape = [len(S) for S in supports], tuple(self.posterior_var_.shape)
            n_snapshots = coef.size // math.prod(shape)
            white = rng.standard_normal((n_samples * n_snapshots, *sizes))
            if coef.dtype.kind == "c":
                white = (white + 1j * rng.standard_normal(white.shape)) / 2**0.5
            around = covariance.color(xp.asarray(white, dtype=coef.dtype))
            around = around.reshape(n_samples, n_snapshots, *sizes)
            columns = xp.moveaxis(draws.reshape(n_samples, *shape, -1), -1, 1)
            columns[grid(xp, range(n_samples), range(n_snapshots), *supports)] += around
        return like(draws, self.coef_)

    def _options(self, factors):
        """Check parameters against each other and the factors."""
        if self.coupling is not None and self.method != "am":
            raise ValueError(f"coupling needs method='am', got method={self.method!r}.")
        prune = self.prune
        if prune is None:
            prune = _PRUNE[self.method] * (0.5 if self.noise_var is None else 1.0)
        coupling = self.coupling
        if coupling is not None:
            coupling = _for_each_factor("coupling", coupling, len(factors))
        self._check_init([F.shape[1] for F in factors])
        return EMOptions(
            self.method, self.noise_var, coupling, _for_each_factor("prune", prune, len(factors)),
            self.tol, self.inner_tol,
            self.inner_max or (_SWEEPS if coupling is None else _COUPLED_SWEEPS),
        )  # fmt: skip

    def _check_init(self, sizes):
        if self.init is None:
            return
        given = [to_numpy(g) for g in self.init]
        if [g.shape for g in given] != [(n,) for n in sizes]:
            raise ValueError(
                f"init must hold one vector of each of the lengths {sizes}, got shapes "
                f"{[g.shape for g in given]}."
            )
        if not all(np.isfinite(g).all() and (g >= 0).all() and g.any() for g in given):
            raise ValueError(
                "init must hold finite, non-negative variances, some of each vector positive."
            )

    def _nothing_to_explain(self, problem):
        """Set the attributes of a y, or of a factor, that is zero: so is the answer."""
        sizes, answer = tuple(F.shape[1] for F in problem.factors), problem.answer
        Y, xp = problem.Y, compute_namespace(problem.Y)
        zeros = xp.zeros(sizes, dtype=Y.real.dtype)
        self.coef_ = answer(problem.coef(xp.zeros((len(Y), *sizes), dtype=Y.dtype)))
        self.posterior_var_ = answer(zeros)
        self.gammas_ = [answer(xp.zeros(n, dtype=Y.real.dtype)) for n in sizes]
        self.supports_ = [np.arange(0) for _ in sizes]
        self.noise_var_ = 0.0 if self.noise_var is None else float(self.noise_var)
        self.log_evidence_, self.n_iter_ = np.empty(0), 0
        self.converged_, self.stop_reason_, self._covariance = True, "zero_target", None
        return self

    def _log(self, n_iter):
        em = self._em
        _LOG.info(
            "iteration %d evidence %.6f noise variance %.4g left %s",
            n_iter, em.log_evidence[-1], em.noise_var(), "x".join(str(len(S)) for S in em.supports),
        )  # fmt: skip


def _for_each_factor(name, value, n_factors):
    """Return one number in [0, 1) for each factor."""
    values = (value,) * n_factors if isinstance(value, Real) else tuple(value)
    if len(values) != n_factors:
        raise ValueError(f"{name} has {len(values)} values for {n_factors} factors; give as many.")
    if not all(isinstance(v, Real) and 0 <= float(v) < 1 for v in values):
        raise ValueError(f"{name} must be numbers in [0, 1), got {value!r}.")
    return values


def _largest_product(factors):
    """Return the multiplications of a factor with the tensor of the unknowns."""
    shapes = [factor.shape for factor in factors]
    return math.prod(n for _, n in shapes) * max(m for m, _ in shapes)
