"""Evidence bounds of points that see few inducing inputs each, and their gradients.

Every point has a small Gaussian problem of its own: the H inducing inputs nearest to it. `moments`
gives mean and variance of the value at the point and the divergence of q(u) from the prior there;
`gradients` takes what the likelihood says of these back to q(u), inputs and parameters. Results
are kept point by point, for threads to share out the points, and are summed in their order.
"""

import math

import numpy as np
from numba import njit

from ._fast_exp import exp_of_negative

RATIONAL_QUADRATIC = 4
DIAGONAL, BLOCK, FULL = range(3)  # `spread` is deviations (M, 1); a factor; a covariance (M, M)
_ROOT3, _ROOT5 = math.sqrt(3.0), math.sqrt(5.0)


@njit(cache=True, nogil=True)
def moments(kinds, variances, shapes, scaled, x, neighbors, mean, spread, mode, jitter):
    """Return mean, variance, divergence, inverse covariances and weights of all points.

    scaled (T, M, d) and x (T, n, d) are inducing inputs and points over the lengthscales of each
    term; neighbors (n, H) int32, ascending; jitter is a share of the variance. The inverses are
    (n, H, H), the weights (n, H) those of the neighbors' values in the mean. NaN where a
    covariance could not be factorized.
    """
    n, H = neighbors.shape
    d = x.shape[2]
    found, variance, divergence = np.empty(n), np.empty(n), np.empty(n)
    inverses, weights = np.empty((n, H, H)), np.empty((n, H))
    K, root, P = np.empty((H, H)), np.empty((H, H)), np.empty((H, H))
    z, rows = np.empty((d, H)), np.empty((4, H))
    r2, phi, slope, k = rows[0], rows[1], rows[2], rows[3]
    for i in range(n):
        near, W, a = neighbors[i], inverses[i], weights[i]
        K[:] = 0.0
        k[:] = 0.0
        total = 0.0
        for t in range(kinds.shape[0]):
            total += variances[t]
            _gather(scaled[t], near, z)
            _correlate(kinds[t], shapes[t], z, x[t, i], 0, r2, phi, slope)
            for b in range(H):
                k[b] += variances[t] * phi[b]
            for c in range(H):
                _correlate(kinds[t], shapes[t], z, z[:, c], c, r2, phi, slope)
                for b in range(c, H):
                    K[c, b] += variances[t] * phi[b]
        for c in range(H):
            K[c, c] = (1.0 + jitter) * total
        half_log = _invert(K, P, W)
        for c in range(H):
            a[c] = _dot(W[c], k)
        half_log -= _root(mode, spread, near, root, K, P)
        _products(mode, root, W, P)
        mu, v, trace = 0.0, total, 0.0
        for c in range(H):
            m = mean[near[c]]
            mu += a[c] * m
            v -= a[c] * k[c]
            s = 0.0
            for b in range(H):
                s += root[b, c] * a[b]
                trace += P[c, b] * root[b, c]
                trace += m * W[c, b] * mean[near[b]]
            v += s * s
        found[i], variance[i] = mu, v
        divergence[i] = 0.5 * (trace - H) + half_log
    return found, variance, divergence, inverses, weights


@njit(cache=True, nogil=True)
def gradients(
    kinds, variances, shapes, scaled, x, neighbors, mean, spread, mode, jitter,
    inverses, weights, by_mean, by_variance, share, lengthscales,
):  # fmt: skip
    """Return the gradients of sum_i E_i - share * divergence_i, for each point and neighbor.

    by_mean and by_variance (n,) are those of E_i. Returned are the gradients by mean (n, H), by
    spread ((n, H) by log deviations, else (n, H, H)), by inducing inputs (n, H, d) and by the
    logarithms of variance, lengthscales and shape of all terms (n, T * (d + 2)).
    """
    n, H = neighbors.shape
    T, d = lengthscales.shape
    to_mean, to_inputs = np.empty((n, H)), np.zeros((n, H, d))
    to_spread = np.empty((n, H, 1 if mode == DIAGONAL else H))
    to_theta = np.zeros((n, T * (d + 2)))
    squares = np.empty((4, H, H))
    D, root, P, W2 = squares[0], squares[1], squares[2], squares[3]
    z, moved, rows = np.empty((d, H)), np.empty((d, H)), np.empty((7, H))
    r2, phi, slope, to_k, s, beta, c = (
        rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6]
    )  # fmt: skip
    for i in range(n):
        near, W, a = neighbors[i], inverses[i], weights[i]
        g, h = by_mean[i], by_variance[i]
        _root(mode, spread, near, root, P, W2)
        _products(mode, root, W, P)
        for b in range(H):
            s[b] = 0.0
            for e in range(H):
                s[b] += root[e, b] * a[e]
        for b in range(H):
            beta[b], c[b] = 0.0, 0.0
            for e in range(H):
                beta[b] += W[b, e] * mean[near[e]]
                c[b] += P[e, b] * s[e]
            to_mean[i, b] = g * a[b] - share * beta[b]
            to_k[b] = g * beta[b] + 2.0 * h * (c[b] - a[b])
        _to_spread(mode, root, W, P, W2, a, s, h, share, to_spread[i])
        _to_covariance(W, P, a, beta, c, g, h, share, D)
        for t in range(T):
            first = t * (d + 2)
            theta, V = to_theta[i, first : first + d + 2], variances[t]
            _gather(scaled[t], near, z)
            moved[:] = 0.0
            theta[0] += V * h
            _correlate(kinds[t], shapes[t], z, x[t, i], 0, r2, phi, slope)
            _pull(V, z, x[t, i], to_k, phi, slope, 2.0, theta, moved)
            if kinds[t] == RATIONAL_QUADRATIC:
                _pull_shape(V, shapes[t], to_k, r2, phi, theta)
            for e in range(H):
                theta[0] += V * jitter * D[e, e]
                _correlate(kinds[t], shapes[t], z, z[:, e], 0, r2, phi, slope)
                _pull(V, z, z[:, e], D[e], phi, slope, 4.0, theta, moved)
                if kinds[t] == RATIONAL_QUADRATIC:
                    _pull_shape(V, shapes[t], D[e], r2, phi, theta)
            for b in range(H):
                for f in range(d):
                    to_inputs[i, b, f] += moved[f, b] / lengthscales[t, f]
    return to_mean, to_spread, to_inputs, to_theta


@njit(cache=True)
def sum_by_neighbor(neighbors, values, total):
    """Add values (n, H, k) of points and their neighbors to total (M, k), in the order of rows."""
    for i in range(neighbors.shape[0]):
        for b in range(neighbors.shape[1]):
            for f in range(values.shape[2]):
                total[neighbors[i, b], f] += values[i, b, f]


@njit(cache=True)
def sum_by_pair(neighbors, values, total):
    """Add values (n, H, H) of points and pairs of their neighbors to total (M, M)."""
    for i in range(neighbors.shape[0]):
        for b in range(neighbors.shape[1]):
            for e in range(neighbors.shape[1]):
                total[neighbors[i, b], neighbors[i, e]] += values[i, b, e]


@njit(cache=True, nogil=True)
def nearest(x, z, candidates, found):
    """Write the numbers of the rows of z nearest to each row of x, ascending.

    candidates (n, C) are the rows of z to look at, ascending; (n, 0) looks at all. Ties go to the
    smaller number. found is (n, H) int32.
    """
    n, H = found.shape
    M, d = z.shape
    C = candidates.shape[1]
    r2, best = np.empty(max(M, 1) if C == 0 else C), np.empty(H)
    for i in range(n):
        r2[:] = 0.0
        for c in range(r2.shape[0]):
            row = z[candidates[i, c]] if C else z[c]
            for f in range(d):
                r2[c] += (x[i, f] - row[f]) ** 2
        best[:] = np.inf
        for b in range(H):  # where distances are not numbers, any will do
            found[i, b] = candidates[i, b] if C else b
        for c in range(r2.shape[0]):
            if r2[c] < best[H - 1]:
                b = H - 1
                while b > 0 and best[b - 1] > r2[c]:
                    best[b], found[i, b] = best[b - 1], found[i, b - 1]
                    b -= 1
                best[b] = r2[c]
                found[i, b] = candidates[i, c] if C else c
        found[i].sort()


@njit(cache=True)
def _gather(scaled, near, z):
    for b in range(near.shape[0]):
        for f in range(z.shape[0]):
            z[f, b] = scaled[near[b], f]


@njit(cache=True)
def _correlate(kind, shape, z, point, start, r2, phi, slope):
    """Correlations of a point with columns of z from `start`, and their derivatives by r2."""
    H = r2.shape[0]
    r2[start:] = 0.0
    for f in range(z.shape[0]):
        p = point[f]
        for b in range(start, H):
            r2[b] += (z[f, b] - p) ** 2
    if kind == 0:
        for b in range(start, H):
            r = math.sqrt(r2[b])
            phi[b] = exp_of_negative(-r)
            slope[b] = -0.5 * phi[b] / max(r, 1e-300) if r > 0.0 else 0.0
    elif kind == 1:
        for b in range(start, H):
            r = _ROOT3 * math.sqrt(r2[b])
            e = exp_of_negative(-r)
            phi[b], slope[b] = (1.0 + r) * e, -1.5 * e
    elif kind == 2:
        for b in range(start, H):
            r = _ROOT5 * math.sqrt(r2[b])
            e = exp_of_negative(-r)
            phi[b], slope[b] = (1.0 + r + r * r / 3.0) * e, -(5.0 / 6.0) * (1.0 + r) * e
    elif kind == 3:
        for b in range(start, H):
            phi[b] = exp_of_negative(-0.5 * r2[b])
            slope[b] = -0.5 * phi[b]
    else:
        for b in range(start, H):
            t = 0.5 * r2[b] / shape
            phi[b] = exp_of_negative(-shape * math.log1p(t))
            slope[b] = -0.5 * phi[b] / (1.0 + t)


@njit(cache=True)
def _pull(V, z, point, weight, phi, slope, factor, theta, moved):
    """Add the gradients of sum_b weight_b k(point, z_b) by parameters and, times factor / 2, z."""
    H = weight.shape[0]
    for b in range(H):
        theta[0] += V * weight[b] * phi[b]
    for f in range(z.shape[0]):
        p, change = point[f], 0.0
        for b in range(H):
            step = V * weight[b] * slope[b] * (z[f, b] - p)
            moved[f, b] += factor * step
            change += step * (z[f, b] - p)
        theta[1 + f] -= 2.0 * change


@njit(cache=True)
def _pull_shape(V, shape, weight, r2, phi, theta):
    for b in range(weight.shape[0]):
        t = 0.5 * r2[b] / shape
        theta[-1] += V * weight[b] * shape * phi[b] * (t / (1.0 + t) - math.log1p(t))


@njit(cache=True)
def _invert(K, P, W):
    """Write the inverse of K, whose upper triangle is overwritten, into W; P is a buffer.

    Returns half the log determinant, NaN if K is not positive definite.
    """
    H = K.shape[0]
    half_log = 0.0
    for j in range(H):  # K = U'U
        if not K[j, j] > 0.0:
            W[:] = np.nan
            return np.nan
        u = math.sqrt(K[j, j])
        half_log += math.log(u)
        for b in range(j, H):
            K[j, b] /= u
        for c in range(j + 1, H):
            u = K[j, c]
            for b in range(c, H):
                K[c, b] -= u * K[j, b]
    for c in range(H):  # P = inverse of U', lower
        for b in range(c):
            P[c, b] = 0.0
        for j in range(c):
            u = K[j, c]
            for b in range(j + 1):
                P[c, b] -= u * P[j, b]
        u = 1.0 / K[c, c]
        for b in range(c):
            P[c, b] *= u
        P[c, c] = u
    W[:] = 0.0
    for j in range(H):
        for c in range(j + 1):
            u = P[j, c]
            for b in range(j + 1):
                W[c, b] += u * P[j, b]
    return half_log


@njit(cache=True)
def _root(mode, spread, near, root, K, P):
    """Write a lower factor of q(u)'s covariance at the neighbors; return the log determinant of it.

    For FULL the inverse of the covariance is left in P, whose use K is a buffer for.
    """
    H = near.shape[0]
    root[:] = 0.0
    half_log = 0.0
    if mode == DIAGONAL:
        for b in range(H):
            root[b, b] = spread[near[b], 0]
    elif mode == BLOCK:
        for c in range(H):
            for b in range(c + 1):
                root[c, b] = spread[near[c], near[b]]
    else:
        for c in range(H):
            for b in range(c, H):
                K[c, b] = spread[near[c], near[b]]
        half_log = _invert(K, root, P)
        for c in range(H):
            for b in range(H):
                root[c, b] = K[b, c] if b <= c else 0.0
        return half_log
    for b in range(H):
        half_log += math.log(root[b, b])
    return half_log


@njit(cache=True)
def _products(mode, root, W, P):
    """Write root' W into P."""
    H = root.shape[0]
    if mode == DIAGONAL:
        for c in range(H):
            for b in range(H):
                P[c, b] = root[c, c] * W[c, b]
        return
    P[:] = 0.0
    for e in range(H):
        for c in range(e + 1):
            for b in range(H):
                P[c, b] += root[e, c] * W[e, b]


@njit(cache=True)
def _to_spread(mode, root, W, P, precision, a, s, h, share, out):
    """Gradient by q(u)'s log deviations, factor (lower) or covariance; s is root' a."""
    H = root.shape[0]
    if mode == DIAGONAL:
        for b in range(H):
            out[b, 0] = 2.0 * h * s[b] ** 2 - share * (root[b, b] * P[b, b] - 1.0)
    elif mode == BLOCK:
        out[:] = 0.0
        for c in range(H):
            for b in range(c + 1):
                out[c, b] = 2.0 * h * a[c] * s[b] - share * P[b, c]
            out[c, c] += share / root[c, c]
    else:
        for c in range(H):
            for b in range(H):
                out[c, b] = h * a[c] * a[b] - 0.5 * share * (W[c, b] - precision[c, b])


@njit(cache=True)
def _to_covariance(W, P, a, beta, c, g, h, share, D):
    """Gradient (H, H) by the covariance of the neighbors."""
    H = W.shape[0]
    D[:] = 0.0
    for e in range(H):
        for i in range(H):
            u = P[e, i]
            for b in range(H):
                D[i, b] += u * P[e, b]
    for i in range(H):
        for b in range(H):
            expected = h * (a[i] * a[b] - c[i] * a[b] - a[i] * c[b])
            expected -= 0.5 * g * (beta[i] * a[b] + a[i] * beta[b])
            D[i, b] = expected + 0.5 * share * (D[i, b] + beta[i] * beta[b] - W[i, b])


@njit(cache=True)
def _dot(a, b):
    total = 0.0
    for i in range(a.shape[0]):
        total += a[i] * b[i]
    return total
