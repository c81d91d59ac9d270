"""Kernel parameters by maximum marginal likelihood, from counts and means of feedback."""

import numpy as np
from scipy.linalg import cho_solve, cholesky
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from .._covariance import (
    MATERN_12,
    MATERN_32,
    MATERN_52,
    RATIONAL_QUADRATIC,
    Covariance,
)
from .._threads import blas_threads_for

_MAX_ITER = 100  # of a search from one start
_IMPOSSIBLE = 1e25  # minus the log likelihood of a singular matrix


def fit_kernel(kernel, X, means, counts, noise_variance, *, starts=(), n_hyper=500):
    """Return a kernel of the same form whose free parameters have the largest likelihood.

    Distinct points with the mean of so many values each, whose noise has the given variance, carry
    all that the values say about the kernel.

    Parameters
    ----------
    kernel : sklearn.gaussian_process.kernels.Kernel
        Parameters are searched from here, within its bounds; fixed ones stay.
    X : float64 array of shape (n, n_features)
    means, counts : arrays of shape (n,)
    noise_variance : float
        Of a single value.
    starts : sequence of kernels of the same form
        Where to search from as well.
    n_hyper : int, default=500
        Of more points, so many are used, evenly spread over their order.

    Returns
    -------
    fitted : sklearn.gaussian_process.kernels.Kernel
    """
    if not len(kernel.theta):
        return kernel
    if len(X) > n_hyper:
        rows = np.linspace(0, len(X) - 1, n_hyper).round().astype(np.int64)
        X, means, counts = X[rows], means[rows], counts[rows]
    evidence = Evidence(kernel, X, means, noise_variance / counts)
    with blas_threads_for(len(X) ** 3):
        found = [
            minimize(
                evidence.loss,
                np.clip(start.theta, *kernel.bounds.T),
                jac=True,
                method="L-BFGS-B",
                bounds=kernel.bounds,
                options={"maxiter": _MAX_ITER},
            )
            for start in (kernel, *starts)
        ]
    return kernel.clone_with_theta(min(found, key=lambda one: one.fun).x)


def fit_to_feedback(ledger, kernel, noise_variance, *, starts=(), n_hyper=500):
    """Return a kernel fitted to the feedback that a policy's ledger has taken in."""
    means = ledger.sums / ledger.counts
    return fit_kernel(
        kernel, ledger.points, means, ledger.counts, noise_variance, starts=starts, n_hyper=n_hyper
    )


class Evidence:
    """Log marginal likelihood of values at points as a function of a kernel's parameters.

    Parameters
    ----------
    kernel : sklearn.gaussian_process.kernels.Kernel
    X : float64 array of shape (n, n_features)
    y, noise : arrays of shape (n,)
        Values and the variances of their noise.
    """

    def __init__(self, kernel, X, y, noise):
        self.kernel, self.X, self.y, self.noise = kernel, X - X.mean(axis=0), y, noise
        try:
            self._terms = Covariance.from_kernel(kernel, X.shape[1])
        except (TypeError, ValueError):
            self._terms, self.X = None, X

    def loss(self, theta):
        """Return minus the log likelihood and its gradient by theta."""
        matrix, gradient = self._stationary if self._terms is not None else self._any
        K, parts = matrix(theta)
        K[np.diag_indices_from(K)] += self.noise
        try:
            L = cholesky(K, lower=True, overwrite_a=True, check_finite=False)
        except np.linalg.LinAlgError:
            return _IMPOSSIBLE, np.zeros(len(theta))
        weights = cho_solve((L, True), self.y)
        value = 0.5 * (self.y @ weights + len(self.y) * np.log(2 * np.pi))
        value += np.log(np.diag(L)).sum()
        inverse, _ = dpotri(L, lower=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        return value, -0.5 * gradient(np.outer(weights, weights) - inverse, parts)

    @property
    def _stationary(self):
        return self._stationary_matrix, self._stationary_gradient

    @property
    def _any(self):
        return self._any_matrix, self._any_gradient

    def _any_matrix(self, theta):
        return self.kernel.clone_with_theta(theta)(self.X, eval_gradient=True)

    def _any_gradient(self, Q, slopes):
        return np.einsum("ij,ijp->p", Q, slopes)

    def _stationary_matrix(self, theta):
        terms = self._terms.with_theta(theta)
        K, parts = np.zeros((len(self.X), len(self.X))), []
        for kind, variance, shape, scales in zip(
            terms.kinds, terms.variances, terms.shapes, terms.lengthscales, strict=True
        ):
            Z = self.X / scales
            norms = (Z**2).sum(axis=1)
            r2 = np.maximum(norms[:, None] + norms - 2 * Z @ Z.T, 0.0)
            np.fill_diagonal(r2, 0.0)
            k, slope = _correlation_and_slope(int(kind), shape, r2)
            K += variance * k
            parts.append((kind, variance, shape, Z, r2, k, slope))
        return K, (terms, parts)

    def _stationary_gradient(self, Q, parts):
        terms, parts = parts
        rows = []
        for kind, variance, shape, Z, r2, k, slope in parts:
            S = variance * Q * slope
            # the sum over pairs of S_ij (z_i - z_j)^2, for every feature
            lengths = 2 * (S.sum(axis=1) @ Z**2 - (Z * (S @ Z)).sum(axis=0))
            if terms.n_lengthscales == 1:
                lengths = lengths.sum(keepdims=True)
            by_shape = 0.0
            if kind == RATIONAL_QUADRATIC:
                b = 1 + r2 / (2 * shape)
                by_shape = variance * (Q * k * (r2 / (2 * b) - shape * np.log(b))).sum()
            rows.append([variance * (Q * k).sum(), *lengths, by_shape])
        return terms.chain(np.array(rows).ravel())


def _correlation_and_slope(kind, shape, r2):
    """Correlation at squared scaled distances, and minus twice its derivative by these."""
    if kind == RATIONAL_QUADRATIC:
        b = 1 + r2 / (2 * shape)
        return b**-shape, b ** (-shape - 1)
    if kind not in (MATERN_12, MATERN_32, MATERN_52):
        k = np.exp(-0.5 * r2)
        return k, k
    r = np.sqrt((2 * kind + 1) * r2)
    e = np.exp(-r)
    if kind == MATERN_52:
        return (1 + r + r**2 / 3) * e, 5 / 3 * (1 + r) * e
    if kind == MATERN_32:
        return (1 + r) * e, 3 * e
    return e, e / np.where(r > 0, r, np.inf)  # at the same point the distance does not matter
