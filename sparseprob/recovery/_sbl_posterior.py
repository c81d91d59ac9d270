"""Posterior of coefficients with independent Gaussian priors (M. E. Tipping, JMLR 1:211-244, 2001).

Coefficients are x ~ N(0, diag(gamma)), noise N(0, noise_var I), both real or both circular complex.
Whatever is factored has the smaller of two sizes: measurements, or active columns.
"""

import warnings
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

_BLOCK = 2**22  # entries of the blocks of columns that are worked on at a time


class Posterior(NamedTuple):
    """Moments of the active coefficients, and what an update of the prior needs of them."""

    mean: Any  # (k, T)
    ratio: Any  # (k,) posterior over prior variance, in [0, 1]
    residual: Any  # (M, T) of the mean
    log_det: float  # of the covariance C of the measurements
    quadratic: float  # sum over snapshots of y^H C^{-1} y


class ActiveColumns:
    """The columns in use, unit length, with their Gram matrix and correlations when asked for.

    Dense matrices are read block by block; columns of others are written out once.
    """

    def __init__(self, columns, Y, indices, *, written=None):
        self.columns, self.Y, self.indices, self.xp = columns, Y, indices, columns.xp
        self.shape = (columns.shape[0], len(indices))
        if written is None and not columns.is_dense:
            written = columns.take(indices)
        self._written = written

    def blocks(self):
        """Yield slices of the active set and their columns, dense arrays of M rows."""
        width = max(1, _BLOCK // self.shape[0])
        for start in range(0, self.shape[1], width):
            part = slice(start, min(start + width, self.shape[1]))
            if self._written is None:
                yield part, self.columns.take(self.indices[part])
            else:
                yield part, self._written[:, part]

    @cached_property
    def gram(self):
        """Gram matrix (k, k) of the active columns."""
        A = self.xp.concatenate([block for _, block in self.blocks()], axis=1)
        return A.conj().T @ A

    @cached_property
    def correlations(self):
        """Inner products (k, T) of the active columns with the measurements."""
        return self.xp.concatenate([block.conj().T @ self.Y for _, block in self.blocks()])

    def restricted(self, indices):
        """Return the active set of other indices; of a subset nothing is computed again."""
        if len(indices) == self.shape[1] and bool((indices == self.indices).all()):
            return self
        places = self.xp.searchsorted(self.indices, indices)
        inside = bool((places < self.shape[1]).all())
        if not inside or bool((self.indices[places] != indices).any()):
            return ActiveColumns(self.columns, self.Y, indices)
        written = None if self._written is None else self._written[:, places]
        smaller = ActiveColumns(self.columns, self.Y, indices, written=written)
        for name, cut in (("gram", (places[:, None], places)), ("correlations", places)):
            if name in vars(self):
                setattr(smaller, name, vars(self)[name][cut])
        return smaller


def posterior(active, gamma, noise_var):
    """Return the posterior of the active coefficients given their variances and the noise's.

    Parameters
    ----------
    active : ActiveColumns
    gamma : array of shape (k,)
        Prior variances, positive.
    noise_var : float

    Returns
    -------
    found : Posterior
    """
    n_rows, n_active = active.shape
    if n_active == 0:
        log_det, quadratic = n_rows * np.log(noise_var), square_sum(active.Y) / noise_var
        return Posterior(active.Y[:0], gamma, active.Y, log_det, quadratic)
    side = _from_columns if n_active <= n_rows else _from_rows
    mean, ratio, residual, log_det = side(active, gamma, noise_var)
    # y^H C^{-1} y, as a sum of positive terms: nothing cancels when there is little noise
    quadratic = square_sum(residual) / noise_var + square_sum(mean / active.xp.sqrt(gamma)[:, None])
    return Posterior(mean, active.xp.clip(ratio, 0, 1), residual, log_det, quadratic)


def _from_columns(active, gamma, noise_var):
    """Use the k x k matrix K = Gamma^{1/2} A^H A Gamma^{1/2} + noise_var I."""
    mean, ratio, _, log_det = small_posterior(
        active.gram, active.correlations, gamma, noise_var, active.xp
    )
    residual = active.Y.copy()
    for part, block in active.blocks():
        residual -= block @ mean[part]
    n_rows, n_active = active.shape
    return mean, ratio, residual, log_det + (n_rows - n_active) * np.log(noise_var)


def small_posterior(gram, correlations, gamma, noise_var, xp):
    """Return mean, ratio of variances, inverse Cholesky factor and log determinant of K."""
    root = xp.sqrt(gamma)
    factor = cholesky(root[:, None] * gram * root, noise_var, xp)
    inverse = solve_lower(factor, xp.eye(len(gamma), dtype=gram.dtype), xp)
    mean = root[:, None] * (inverse.conj().T @ (inverse @ (root[:, None] * correlations)))
    ratio = noise_var * (xp.abs(inverse) ** 2).sum(axis=0)
    return mean, ratio, inverse, _log_det(factor, xp)


def _from_rows(active, gamma, noise_var):
    """Use the M x M covariance C = noise_var I + A Gamma A^H of the measurements."""
    xp, n_active = active.xp, active.shape[1]
    factor, white = _row_factor(active, gamma, noise_var)
    mean = xp.empty((n_active, white.shape[1]), dtype=white.dtype)
    explained = xp.empty_like(gamma)
    for part, block in active.blocks():
        V = solve_lower(factor, block, xp)
        mean[part] = gamma[part, None] * (V.conj().T @ white)
        explained[part] = gamma[part] * (xp.abs(V) ** 2).sum(axis=0)
    residual = noise_var * solve_lower(factor, white, xp, adjoint=True)
    return mean, 1 - explained, residual, _log_det(factor, xp)


def _row_factor(active, gamma, noise_var):
    """Return the Cholesky factor L of C, and L^{-1} Y."""
    xp, n_rows = active.xp, active.shape[0]
    C = xp.zeros((n_rows, n_rows), dtype=active.Y.dtype)
    for part, block in active.blocks():
        weighted = block * xp.sqrt(gamma[part])
        C += weighted @ weighted.conj().T
    factor = cholesky(C, noise_var, xp)
    return factor, solve_lower(factor, active.Y, xp)


def log_evidence(found, n_snapshots):
    """Return log p(Y) of the snapshots of this rank."""
    n_rows = found.residual.shape[0]
    scale, turn = (1.0, np.pi) if found.residual.dtype.kind == "c" else (0.5, 2 * np.pi)
    each = n_rows * np.log(turn) + found.log_det
    return float(-scale * (n_snapshots * each + found.quadratic))


# ---------------------------------------------------------------- covariance of a fitted model
def posterior_factor(active, gamma, noise_var):
    """Return the factor W of the posterior covariance, in units of the prior's deviations.

    With k <= M active columns W is (k, k) and the covariance W^H W; with more it is (M, k) and the
    covariance I - W^H W. The k x k covariance of more columns than rows is not formed.
    """
    xp, (n_rows, n_active) = active.xp, active.shape
    if n_active == 0:
        return xp.zeros((0, 0), dtype=active.Y.dtype)
    root = xp.sqrt(gamma)
    if n_active <= n_rows:
        _, _, inverse, _ = small_posterior(active.gram, active.correlations, gamma, noise_var, xp)
        return inverse * np.sqrt(noise_var).astype(root.dtype)
    factor, _ = _row_factor(active, gamma, noise_var)
    W = xp.empty((n_rows, n_active), dtype=active.Y.dtype)
    for part, block in active.blocks():
        W[:, part] = solve_lower(factor, block * root[part], xp)
    return W


def row_variances(rows, root, W, xp):
    """Return the variances of rows times the coefficients, given prior deviations and factor."""
    R = root[:, None] * rows.conj().T
    inner = (xp.abs(W @ R) ** 2).sum(axis=0)
    if len(W) == len(root):
        return inner
    return xp.maximum((xp.abs(R) ** 2).sum(axis=0) - inner, 0)


def colored(noise, root, W, xp):
    """Turn white noise (k, n) into deviations from the posterior mean."""
    if len(W) == len(root):
        return root[:, None] * (W.conj().T @ noise)
    _, lengths, Vh = xp.linalg.svd(W, full_matrices=False)
    shrunk = 1 - xp.sqrt(xp.clip(1 - lengths**2, 0, 1))  # (I - W^H W)^{1/2} = I - V shrunk V^H
    return root[:, None] * (noise - Vh.conj().T @ (shrunk[:, None] * (Vh @ noise)))


# ---------------------------------------------------------------- linear algebra
def cholesky(A, shift, xp):
    """Return the lower Cholesky factor of A + shift I, with the least jitter that succeeds.

    A may be changed in place.
    """
    A = xp.ascontiguousarray(A)
    diagonal = A.reshape(-1)[:: len(A) + 1]  # a view
    diagonal += shift
    jitter, added = float(np.finfo(A.dtype).eps) * float(abs(diagonal).max()), 0.0
    while True:
        factor = _try_cholesky(A, xp)
        if factor is not None:
            break
        if not added < 1e-3 * abs(diagonal).max():
            raise FloatingPointError(
                "The Cholesky factor of the posterior covariance is not finite; rescale X and y or "
                "give noise_var."
            )
        diagonal += jitter
        added, jitter = added + jitter, 10 * jitter
    if added > 0:
        warnings.warn(
            f"A covariance was not positive definite in {A.dtype}; {added:.1e} was added to its "
            "diagonal. Give a larger noise_var or double precision.",
            ConvergenceWarning,
        )
    return factor


def _try_cholesky(A, xp):
    try:
        factor = xp.linalg.cholesky(A)
    except np.linalg.LinAlgError:
        return None
    return factor if bool(xp.isfinite(xp.diagonal(factor)).all()) else None


def solve_lower(factor, B, xp, *, adjoint=False):
    """Return L^{-1} B, or L^{-H} B."""
    if xp is np:
        from scipy.linalg import solve_triangular
    else:
        from cupyx.scipy.linalg import solve_triangular
    return solve_triangular(factor, B, lower=True, trans=2 if adjoint else 0, check_finite=False)


def square_sum(A):
    """Return the sum of squared moduli, in double precision."""
    return float((abs(A) ** 2).sum(dtype=np.float64))


def _log_det(factor, xp):
    return 2 * float(xp.log(abs(xp.diagonal(factor)).astype(np.float64)).sum())
