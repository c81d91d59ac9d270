"""Coordinates of corrupted rows in a subspace: least absolute deviations by splitting."""

from .._arrays import compute_namespace

_MAX_STEPS = 500
_SMALL = 1e-6  # what fits of nothing but outliers are measured against, relative to the row
_RELAXATION = 1.6
_BALANCE_EVERY, _IMBALANCE = 10, 5.0


def least_absolute(X, V, tol):
    """Minimize ||x - V r||_1 for every row x of X; NaN entries do not count.

    Alternating directions with V orthonormal, so that a step is two products; each row has its own
    penalty, kept in balance, and stops on its own.

    Parameters
    ----------
    X : array of shape (n_rows, n_features)
        NumPy or CuPy.
    V : array of shape (n_features, rank)
        Orthonormal columns.
    tol : float
        Relative change at which a row stops.

    Returns
    -------
    R : array of shape (n_rows, rank)
    """
    xp = compute_namespace(X)
    missing = xp.isnan(X)
    X = xp.where(missing, X.dtype.type(0), X)
    result = X @ V
    length = xp.linalg.norm(X, axis=1)
    active = xp.flatnonzero(length > 0)
    if V.shape[1] == 0:
        return result
    X, missing, length = X[active], missing[active], length[active]
    limit = abs(X).mean(axis=1)
    tiny = xp.finfo(X.dtype).tiny
    R, E, D = result[active], X * 0, X * 0
    for step in range(1, _MAX_STEPS + 1):
        if len(active) == 0:
            break
        before = E
        R = (X - E - D) @ V
        fitted = R @ V.T
        relaxed = _RELAXATION * fitted + (1 - _RELAXATION) * (X - E)
        E = X - relaxed - D
        bound = limit[:, None]
        E = xp.where(missing, E, E - xp.clip(E, -bound, bound))
        D = D + relaxed + E - X
        size = xp.maximum(xp.linalg.norm(fitted, axis=1), _SMALL * length)
        primal = xp.linalg.norm(X - fitted - E, axis=1) / size
        dual = xp.linalg.norm((E - before) @ V, axis=1) / (xp.linalg.norm(D, axis=1) + tiny)
        result[active] = R
        going = (primal > tol) | (dual > tol)
        if step % _BALANCE_EVERY == 0:
            factor = xp.where(primal > _IMBALANCE * dual, 2.0, 1.0)
            factor = xp.where(dual > _IMBALANCE * primal, 0.5, factor).astype(X.dtype)
            limit, D = limit / factor, D / factor[:, None]
        if not bool(going.all()):
            active = active[going]
            X, E, D, missing = X[going], E[going], D[going], missing[going]
            limit, length = limit[going], length[going]
    return result
