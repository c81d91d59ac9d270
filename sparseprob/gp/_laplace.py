"""Vecchia-Laplace approximations (Zilber & Katzfuss, 2021) with incomplete Cholesky factors."""

from typing import NamedTuple

import numpy as np

from .._arrays import compute_namespace
from ._incomplete_cholesky import gram_on_pattern, incomplete_factor
from ._sparse_solves import Factor, conjugate_gradients

_MANY = 8  # steps of conjugate gradients from which a new incomplete factor is cheaper

_SAFE = 10  # steps of iterated least squares where the curvature is negative


class LaplaceInfo(NamedTuple):
    """How a Laplace approximation was found."""

    n_iter: int  # Newton steps
    n_cg: int  # steps of conjugate gradients, all together
    n_shifts: int  # shifts of the diagonal that incomplete factors took, all together
    converged: bool
    objective: float  # log p(y | nu) + log p(nu) without its constants


def laplace_start(
    indptr, indices, U, y, likelihood, mean=0.0, *, max_iter=100, tol=1e-6, rtol=1e-6
):
    r"""Mode of the latent values given y, and an incomplete factor of the precision there.

    The prior precision is :math:`U U^\top`. Newton steps solve
    :math:`(U U^\top + W) \Delta = g - U U^\top (\nu - \mu)`, with W and g the curvature and slope
    of the log likelihood, by conjugate gradients preconditioned with :math:`V V^\top`, where V is
    the incomplete Cholesky factor of the matrix on the pattern of U. A step is halved until the
    log posterior rises. Only V is approximate: the mode is exact for the given U.

    Where the curvature is negative (Student t, far from y) it counts as zero in V. If conjugate
    gradients find the whole matrix indefinite, the first steps are those of iterated least squares
    instead, safe but slow, and later ones end where the curvature is negative; all lead uphill. The
    start is the mode for Gaussian noise of the same scale there. V is renewed on the way only when
    conjugate gradients grow slow, and at the mode.

    Every rank of `distributed` finds the same; on a GPU the last digits of V vary from run to run.

    Parameters
    ----------
    indptr, indices, U : array
        Prior factor by columns, upper triangular, the diagonal last in each.
    y : array of shape (n,)
        In the order of U.
    likelihood : Likelihood
        With its rows in the order of U.
    mean : float or array of shape (n,)
        Prior mean.
    max_iter : int
        Largest number of Newton steps.
    tol : float
        Ends when the root mean square of a step is below this share of that of nu - mean, or of the
        prior standard deviation.
    rtol : float
        Share of the gradient that conjugate gradients leave.

    Returns
    -------
    nu : array of shape (n,)
        The mode.
    V : array of shape (nnz,)
        Data of the incomplete factor, on the pattern of U. If no step can be computed at all, it is
        U, and nu is the mean.
    info : LaplaceInfo
    """
    search = _Search(Factor(indptr, indices, U), y.astype(np.float64), likelihood, mean)
    for n_iter in range(1, max_iter + 1):
        length = search.step(first=n_iter == 1, rtol=rtol)
        converged = length <= tol * max(search.prior_sd, _rms(search.delta))
        if converged or search.stuck or search.failed:
            break
    search.refactor()
    info = LaplaceInfo(
        n_iter,
        search.n_cg,
        search.n_shifts,
        bool(converged),
        search.objective,
    )
    return search.latent(search.delta), search.V.data, info


class _Search:
    """State of the Newton steps: delta = nu - mean, the factor V and the curvature it is for."""

    def __init__(self, U, y, likelihood, mean):
        self.U = U
        self.V, self.W = self.U, None
        self.y, self.likelihood, self.mean = y, likelihood, mean
        self.delta = compute_namespace(y).zeros(len(y))
        self.gram = gram_on_pattern(U.indptr, U.indices, U.data, 0.0, U.rows)
        self.n_cg = self.n_shifts = self.n_safe = self.last_cg = 0
        self.prior_sd = float(1 / abs(U.data[0]))  # of the first point, which has no one before it
        self.failed = self.stuck = False
        self.objective = self.log_posterior(self.delta)

    def latent(self, delta):
        return self.mean + delta

    def log_posterior(self, delta):
        with np.errstate(over="ignore", invalid="ignore"):
            fit = self.likelihood.log_density(self.y, self.latent(delta)).sum()
            return float(fit - 0.5 * (self.U.product_transposed(delta) ** 2).sum())

    def factorize(self, W):
        """Make V the incomplete factor for the curvature W, unless it is already."""
        if self.W is not None and np.array_equal(W, self.W):
            return
        U = self.U
        Q = self.gram.copy()
        Q[U.indptr[1:] - 1] += W
        data, n_shifts = incomplete_factor(U.indptr, U.indices, Q)
        self.V, self.W, self.last_cg = Factor(U.indptr, U.indices, data, U.rows), W, 0
        self.n_shifts += n_shifts

    def refactor(self):
        """Make V the incomplete factor at the mode."""
        if not self.failed:
            self.factorize(self.likelihood.derivatives(self.y, self.latent(self.delta))[1])

    def step(self, *, first, rtol):
        """Take a Newton step and return the root mean square of the whole step."""
        likelihood = self.likelihood.start() if first else self.likelihood
        f = self.latent(self.delta)
        g, W = likelihood.value_and_slope(self.y, f)[1], likelihood.majorizing_curvature(self.y, f)
        if not (np.isfinite(g).all() and np.isfinite(W).all()):
            self.failed = True
            return np.inf
        if self.W is None or self.last_cg > _MANY:
            self.factorize(W)
        gradient = g - self.U.product(self.U.product_transposed(self.delta))
        solution = self.solve(likelihood.curvature(self.y, f), gradient, rtol)
        if solution.indefinite and (self.n_safe < _SAFE or solution.n_iter == 0):
            self.n_safe += 1
            solution = self.solve(W, gradient, rtol)
        direction = solution.x  # cut short if indefinite: its length says nothing of convergence
        if first and likelihood is not self.likelihood:  # a better place to start, not a step
            self.delta, self.W = direction, None
            self.objective = self.log_posterior(self.delta)
            return np.inf
        self.search_line(direction, gradient @ direction)
        return np.inf if solution.indefinite else _rms(direction)

    def solve(self, W, gradient, rtol):
        """Return the step for the curvature W; it ends early if the whole is indefinite."""
        U = self.U
        solution = conjugate_gradients(
            lambda x: U.product(U.product_transposed(x)) + W * x,
            self.V.solve_gram,
            gradient,
            rtol=rtol,
        )
        self.n_cg += solution.n_iter
        self.last_cg = max(self.last_cg, solution.n_iter)
        return solution

    def search_line(self, direction, slope):
        """Move along the direction, half as far until the log posterior rises enough."""
        noise = 1e-13 * max(1.0, abs(self.objective))
        for halving in range(40):
            share = 0.5**halving
            delta = self.delta + share * direction
            objective = self.log_posterior(delta)
            if objective >= self.objective + 1e-4 * share * slope - noise:
                self.delta, self.objective = delta, objective
                return
        self.stuck = True


def _rms(x):
    return float(np.sqrt(np.mean(x * x)))
