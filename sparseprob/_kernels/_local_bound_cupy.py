"""Evidence bounds of points that see few inducing inputs each, on a GPU, with whole arrays.

Twin of ``_local_bound_numba``; matrices (n, H, H) of all points of a batch are held at a time.
"""

import cupy

from ._covariance_arrays import radial
from ._local_bound_numba import BLOCK, DIAGONAL

_NUMBERS = 2**27  # of distances held at a time, of a search


def moments(kinds, variances, shapes, scaled, x, neighbors, mean, spread, mode, jitter):
    """Mean, variance, divergence, inverses, weights of all points; see the twin on the CPU."""
    n, H = neighbors.shape
    K, k, total = cupy.zeros((n, H, H)), cupy.zeros((n, H)), float(variances.sum())
    for t, kind, V, shape in _terms(kinds, variances, shapes):
        z = scaled[t][neighbors]
        K += V * radial(cupy, kind, shape, _squares(z[:, :, None], z[:, None]))[0]
        k += V * radial(cupy, kind, shape, _squares(z, x[t][:, None]))[0]
    at = cupy.arange(H)
    K[:, at, at] = (1 + jitter) * total
    inverses, half_log = _inverses(K)
    weights = _product(inverses, k)
    S, half_log_S = _covariances(mode, spread, neighbors)
    m = mean[neighbors]
    variance = total - (weights * k).sum(axis=1) + (weights * _product(S, weights)).sum(axis=1)
    trace = (inverses * S).sum(axis=(1, 2)) + (m * _product(inverses, m)).sum(axis=1)
    divergence = 0.5 * (trace - H) + half_log - half_log_S
    return (weights * m).sum(axis=1), variance, divergence, inverses, weights


def gradients(
    kinds, variances, shapes, scaled, x, neighbors, mean, spread, mode, jitter,
    inverses, weights, by_mean, by_variance, share, lengthscales,
):  # fmt: skip
    """Gradients of sum_i E_i - share * divergence_i; see the twin on the CPU."""
    n, H = neighbors.shape
    T, d = lengthscales.shape
    g, h, a, W = by_mean[:, None], by_variance[:, None], weights, inverses
    S, _ = _covariances(mode, spread, neighbors)
    beta, c = _product(W, mean[neighbors]), _product(W, _product(S, a))
    to_k = g * beta + 2 * h * (c - a)
    to_K = 0.5 * share * (W @ S @ W + _outer(beta, beta) - W)
    mixed = _outer(h * c + 0.5 * g * beta, a)
    to_K += _outer(h * a, a) - mixed - mixed.transpose(0, 2, 1)
    to_spread = _to_spread(mode, spread, neighbors, S, W, a, h, share)
    to_inputs, to_theta = cupy.zeros((n, H, d)), cupy.zeros((n, T * (d + 2)))
    own = cupy.trace(to_K, axis1=1, axis2=2)
    for t, kind, V, shape in _terms(kinds, variances, shapes):
        z, theta = scaled[t][neighbors], to_theta[:, t * (d + 2) : (t + 1) * (d + 2)]
        theta[:, 0] += V * (by_variance + jitter * own)
        for other, weight, ends in ((z[:, None], to_K, 2.0), (x[t][:, None, None], to_k, 1.0)):
            weight = weight.reshape(n, H, -1)
            phi, slope, by_shape = radial(cupy, kind, shape, _squares(z[:, :, None], other))
            theta[:, 0] += V * (weight * phi).sum(axis=(1, 2))
            theta[:, -1] += V * (weight * by_shape).sum(axis=(1, 2))
            slope = V * weight * slope
            for f in range(d):
                difference = z[:, :, None, f] - other[..., f]
                step = slope * difference
                to_inputs[:, :, f] += 2 * ends * step.sum(axis=2) / lengthscales[t, f]
                theta[:, 1 + f] -= 2 * (step * difference).sum(axis=(1, 2))
    return g * a - share * beta, to_spread, to_inputs, to_theta


def sum_by_neighbor(neighbors, values, total):
    """Add values (n, H, k) of points and their neighbors to total (M, k)."""
    cupy.add.at(total, neighbors, values)


def sum_by_pair(neighbors, values, total):
    """Add values (n, H, H) of points and pairs of their neighbors to total (M, M)."""
    cupy.add.at(total, (neighbors[:, :, None], neighbors[:, None]), values)


def nearest(x, z, candidates, found):
    """Write the numbers of the rows of z nearest to each row of x; see the twin on the CPU."""
    n, H = found.shape
    width = candidates.shape[1] or len(z)
    step = max(1, _NUMBERS // width)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        if candidates.shape[1]:
            r2 = _squares(z[candidates[rows]], x[rows, None])
        else:
            r2 = _squares(z[None], x[rows, None])
        chosen = cupy.argsort(r2, axis=1, kind="stable")[:, :H]
        if candidates.shape[1]:
            chosen = cupy.take_along_axis(candidates[rows], chosen, axis=1)
        found[rows] = cupy.sort(chosen, axis=1)


def _terms(kinds, variances, shapes):
    numbers = (array.tolist() for array in (kinds, variances, shapes))
    return [(t, *term) for t, term in enumerate(zip(*numbers, strict=True))]


def _squares(a, b):
    """Squared distances over the last axis, feature by feature: no array of differences."""
    return sum((a[..., f] - b[..., f]) ** 2 for f in range(a.shape[-1]))


def _product(A, b):
    return (A @ b[:, :, None])[:, :, 0]


def _outer(a, b):
    return a[:, :, None] * b[:, None]


def _inverses(K):
    """Inverses of covariances and half their log determinants; NaN where there are none."""
    factors = cupy.linalg.cholesky(K)
    roots = cupy.linalg.inv(factors)
    half_log = cupy.log(cupy.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    return roots.transpose(0, 2, 1) @ roots, half_log


def _blocks(spread, neighbors):
    return spread[neighbors[:, :, None], neighbors[:, None]]


def _covariances(mode, spread, neighbors):
    """Covariances of q(u) at the neighbors and half their log determinants."""
    if mode == DIAGONAL:
        deviations = spread[:, 0][neighbors]
        return _outer(deviations, deviations) * cupy.eye(neighbors.shape[1]), cupy.log(
            deviations
        ).sum(axis=1)
    blocks = _blocks(spread, neighbors)
    if mode == BLOCK:
        half_log = cupy.log(cupy.diagonal(blocks, axis1=1, axis2=2)).sum(axis=1)
        return blocks @ blocks.transpose(0, 2, 1), half_log
    factors = cupy.linalg.cholesky(blocks)
    return blocks, cupy.log(cupy.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)


def _to_spread(mode, spread, neighbors, S, W, a, h, share):
    """Gradient by q(u)'s log deviations (n, H, 1), factor or covariance (n, H, H)."""
    if mode == DIAGONAL:
        variances, own = (cupy.diagonal(A, axis1=1, axis2=2) for A in (S, W))
        return (2 * variances * (h * a * a - 0.5 * share * own) + share)[:, :, None]
    to_S = _outer(h * a, a) - 0.5 * share * W
    if mode != BLOCK:
        return to_S + 0.5 * share * _inverses(S)[0]
    blocks, at = _blocks(spread, neighbors), cupy.arange(neighbors.shape[1])
    gradient = cupy.tril(2 * to_S @ blocks)
    gradient[:, at, at] += share / cupy.diagonal(blocks, axis1=1, axis2=2)
    return gradient
