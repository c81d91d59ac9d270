"""Online robust PCA, row after row, as formulas over the features; see the Numba twin."""

import math

from .._arrays import compute_namespace

_RIDGE, _START_RIDGE = 1e-12, 1e-3
_ORTHONORMALIZE_EVERY = 100


def learn_dictionary(Z, D, A, B, lam, forgetting, tol, max_steps):
    """OR-PCA in place, for the rows of Z in turn; return how many codes missed `tol`."""
    xp = compute_namespace(Z)
    missed = 0
    for z in Z:
        seen = ~xp.isnan(z)
        if not bool((z[seen] != 0).any()):
            continue
        code, residual, solved = _robust_code(z, seen, D, lam, lam, tol, max_steps)
        missed += not solved
        clean = (code @ D + xp.clip(residual, -lam, lam)).astype(B.dtype)
        code = code.astype(A.dtype)
        A[...] = forgetting * A + xp.outer(code, code)
        B[...] = forgetting * B + xp.outer(code, clean)
        for j in range(len(D)):
            D[j] += (B[j] - A[:, j] @ D - lam * D[j]) / (A[j, j] + lam)
    return missed


def _robust_code(z, seen, D, lam, ridge, tol, max_steps):
    """Minimize sum_j huber(z_j - (D' code)_j) + ridge / 2 |code|^2; also the residual."""
    xp = compute_namespace(z)
    z = xp.where(seen, z, z.dtype.type(0))
    code, residual = D[:, 0] * 0, z
    limit = lam * math.sqrt(int(seen.sum()))
    sharp, value = False, float(_huber(residual, lam))
    for _ in range(max_steps):
        clipped, size = xp.clip(residual, -lam, lam), abs(residual)
        weight = xp.where(size <= lam, 1, 0 if sharp else lam / xp.maximum(size, lam)) * seen
        H = ((D * weight.astype(D.dtype)) @ D.T).astype(float) + ridge * xp.eye(len(D))
        step = xp.linalg.solve(H, (D @ clipped - ridge * code).astype(float)).astype(D.dtype)
        new = xp.where(seen, z - (code + step) @ D, z)
        penalty = 0.5 * ridge * float(((code + step).astype(float) ** 2).sum())
        before, reached = value, float(_huber(new, lam)) + penalty
        if sharp and reached > before:
            sharp = False
            continue
        moved = float(xp.linalg.norm(new - residual))
        code, residual, value = code + step, new, reached
        if moved <= tol * limit:
            return code, residual, True
        sharp = moved <= limit
    return code, residual, False


def _huber(residual, lam):
    xp = compute_namespace(residual)
    size = abs(residual.astype(float))
    inside = xp.minimum(size, lam)
    return (inside * (size - 0.5 * inside)).sum()


def track_subspace(Z, U, A, state, lam, forgetting, step, tol, max_steps, n_passes):
    """GRASTA in place, for the rows of Z in turn."""
    xp = compute_namespace(Z)
    for z in Z:
        seen = ~xp.isnan(z)
        if int(seen.sum()) <= len(U) or not bool((z[seen] != 0).any()):
            continue
        _, residual, _ = _robust_code(z, seen, U, lam, _START_RIDGE, tol, max_steps)
        weights, gradient = _split_row(z, seen, U, lam, n_passes, residual)
        squares = float((weights**2).sum())
        state[0] += 1
        state[1] = forgetting * state[1] + 1
        state[2] = forgetting * state[2] + 1
        state[3] = forgetting * state[3] + squares
        A[...] = forgetting * A + xp.outer(weights, weights)
        length = math.sqrt(squares / max(state[3] / state[2], 1e-300))
        _turn(U, weights.astype(U.dtype), gradient, step * length / (1 + state[1]))
        if state[0] % _ORTHONORMALIZE_EVERY == 0:
            U[...] = _orthonormal_rows(U)


def _split_row(z, seen, U, lam, n_passes, residual):
    """Minimize |z - U' w|_1 by alternating directions; weights and gradient by U' w."""
    xp = compute_namespace(z)
    z = xp.where(seen, z, z.dtype.type(0))
    scaled = U * seen
    part = xp.clip(residual, -lam, lam)
    s, y = (residual - part) * seen, -part / lam * seen
    inverse = xp.linalg.inv(scaled.astype(float) @ U.T.astype(float) + _RIDGE * xp.eye(len(U)))
    for _ in range(n_passes):
        weights = inverse @ (scaled @ (z - s - lam * y)).astype(float)
        fitted = weights.astype(U.dtype) @ scaled
        free = z - fitted - lam * y
        s = free - xp.clip(free, -lam, lam)
        rest = (fitted + s - z) / lam
        y = y + rest
    return weights, y + rest


def _turn(U, weights, gradient, angle_of_unit):
    """Move U along the geodesic of the gradient of |z - U' w|_1, by at most a radian."""
    xp = compute_namespace(U)
    gradient = gradient - (U @ gradient) @ U
    norm, length = float(xp.linalg.norm(gradient)), float(xp.linalg.norm(weights))
    if norm == 0 or length == 0:
        return
    angle = min(angle_of_unit * norm / math.sqrt(U.shape[1]), 1.0)
    turn = (math.cos(angle) - 1) * (weights @ U) / length - math.sin(angle) * gradient / norm
    U += xp.outer(weights / length, turn)


def _orthonormal_rows(U):
    """Orthonormal rows of the same span, by a triangular factor with a positive diagonal."""
    xp = compute_namespace(U)
    Q, R = xp.linalg.qr(U.T)
    return (Q * xp.where(xp.diagonal(R) < 0, -1, 1).astype(U.dtype)).T
