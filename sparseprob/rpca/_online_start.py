"""Where online robust PCA starts: a basis and a unit of errors from the first rows."""

import numpy as np

from .._arrays import compute_namespace

_GROSS = 4.45  # medians of magnitudes; three standard deviations of a normal distribution
_NOISE = 2.0  # medians of residuals; Huber's 1.345 standard deviations
_FLOOR, _SHORT = 0.02, 0.5  # least lam, and lam where few rows say nothing of the noise
_FILLS = 5  # rounds in which missing entries get what the basis expects


def start_from(rows, n_components, lam, rng):
    """Return a basis (n_components, n_features) and lam, from rows with NaN where missing.

    Gross entries are clipped before the singular value decomposition. Fewer rows than components
    leave room for random directions.
    """
    xp, n = compute_namespace(rows), len(rows)
    seen = ~xp.isnan(rows)
    sizes = abs(rows[seen & (rows != 0)])
    scale = float(xp.median(sizes)) if len(sizes) else 1.0
    clipped = xp.clip(xp.where(seen, rows, 0), -_GROSS * scale, _GROSS * scale)
    basis = _leading_rows(clipped, n_components)
    if not bool(seen.all()):
        for _ in range(_FILLS):
            expected = clipped @ basis.T @ basis
            clipped = xp.where(seen, clipped, expected)
            basis = _leading_rows(clipped, n_components)
    if lam == "auto":
        if n < 2 * n_components:
            lam = _SHORT * scale
        else:
            residual = abs(clipped - clipped @ basis.T @ basis)[seen]
            lam = max(_NOISE * float(xp.median(residual)), _FLOOR * scale)
    return _completed(basis, n_components, rng), float(lam)


def _leading_rows(A, n_components):
    """Leading right singular vectors whose singular values are not zero."""
    xp = compute_namespace(A)
    _, s, Vt = xp.linalg.svd(A, full_matrices=False)
    rank = int((s > s[0] * max(A.shape) * xp.finfo(A.dtype).eps).sum())
    return Vt[: min(rank, n_components)]


def _completed(basis, n_components, rng):
    """Add random orthonormal rows until there are `n_components`."""
    xp, n_known = compute_namespace(basis), len(basis)
    if n_known == n_components:
        return basis
    more = rng.standard_normal((n_components - n_known, basis.shape[1]))
    more = xp.asarray(more, dtype=basis.dtype)
    for _ in range(2):
        more = more - (more @ basis.T) @ basis
    return xp.concatenate([basis, xp.linalg.qr(more.T)[0].T])


def checked_basis(init, shape, dtype, xp):
    """Return the given basis with orthonormal rows, or refuse it in one sentence."""
    if init.shape != shape:
        raise ValueError(
            f"init must have the shape (n_components, n_features) = {shape}, got {init.shape}."
        )
    init = xp.asarray(init, dtype=np.float64)
    if not bool(xp.isfinite(init).all()):
        raise ValueError("init contains NaN or infinity; give a basis of finite numbers.")
    Q, R = xp.linalg.qr(init.T)
    diagonal = abs(xp.diagonal(R))
    if not bool((diagonal > 1e-10 * diagonal.max()).all()):
        raise ValueError("The rows of init are linearly dependent; give n_components directions.")
    signs = xp.where(xp.diagonal(R) < 0, -1, 1)
    return (Q * signs).T.astype(dtype)


def principal_rows(D, A):
    """Return orthonormal rows that span those of D, by energy, and their singular values.

    A sums the products of coordinates in D, so that the rows seen have the scatter ``D' A D``.
    """
    xp = compute_namespace(D)
    Q, R = xp.linalg.qr(D.T.astype(np.float64))
    energy, W = xp.linalg.eigh(R @ A @ R.T)
    V = (Q @ W[:, ::-1]).T
    largest = xp.take_along_axis(V, abs(V).argmax(axis=1)[:, None], axis=1)
    V = V * xp.where(largest < 0, -1, 1)
    s = xp.sqrt(xp.maximum(energy[::-1], 0))
    return xp.ascontiguousarray(V, dtype=D.dtype), s.astype(D.dtype)
