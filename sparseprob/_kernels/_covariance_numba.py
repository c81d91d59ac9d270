"""Sums of stationary covariance functions and their derivatives, for the columns of factors.

A sum of T terms is given by its kinds, variances and shapes and by the inputs divided by the
lengthscales of each term. Kinds: 0, 1, 2 Matern with nu = 1/2, 3/2, 5/2; 3 squared exponential;
4 rational quadratic, whose shape is its alpha. Parameters are logarithms; for each term they are
the variance, the lengthscales (one for all, or one per feature) and the shape.
"""

import math

from numba import njit

_ROOT3 = math.sqrt(3.0)
_ROOT5 = math.sqrt(5.0)


@njit(cache=True)
def radial(kind, shape, r2):
    """Return the correlation at squared distance r2 and its derivatives by r2 and log shape."""
    if kind == 0:
        r = math.sqrt(r2)
        phi = math.exp(-r)
        return phi, -0.5 * phi / r if r > 0.0 else 0.0, 0.0
    if kind == 1:
        r = _ROOT3 * math.sqrt(r2)
        e = math.exp(-r)
        return (1.0 + r) * e, -1.5 * e, 0.0
    if kind == 2:
        r = _ROOT5 * math.sqrt(r2)
        e = math.exp(-r)
        return (1.0 + r + r * r / 3.0) * e, -(5.0 / 6.0) * (1.0 + r) * e, 0.0
    if kind == 3:
        phi = math.exp(-0.5 * r2)
        return phi, -0.5 * phi, 0.0
    t = 0.5 * r2 / shape
    phi = math.exp(-shape * math.log1p(t))
    return phi, -0.5 * phi / (1.0 + t), shape * phi * (t / (1.0 + t) - math.log1p(t))


@njit(cache=True)
def squared_distance(a, b):
    """Squared distance of two points."""
    total = 0.0
    for k in range(a.shape[0]):
        total += (a[k] - b[k]) ** 2
    return total


@njit(cache=True)
def fill_lower(kinds, variances, shapes, scaled, points, nugget, K):
    """Write the lower triangle of the covariance of some points, the nugget on its diagonal.

    points (p,) are numbers of rows; K is at least (p, p).
    """
    for a in range(points.shape[0]):
        for b in range(a + 1):
            K[a, b] = 0.0
            for t in range(kinds.shape[0]):
                r2 = squared_distance(scaled[t, points[a]], scaled[t, points[b]])
                K[a, b] += variances[t] * radial(kinds[t], shapes[t], r2)[0]
        K[a, a] += nugget


@njit(cache=True)
def cross_row(kinds, variances, shapes, scaled_x, scaled, points, out):
    """Write the covariances of one point, scaled (T, d) for each term, with some rows."""
    for a in range(points.shape[0]):
        out[a] = 0.0
        for t in range(kinds.shape[0]):
            r2 = squared_distance(scaled_x[t], scaled[t, points[a]])
            out[a] += variances[t] * radial(kinds[t], shapes[t], r2)[0]


@njit(cache=True)
def derivative_products(kinds, variances, shapes, scaled, points, u, n_lengthscales, out):
    """Write (dK / dtheta_k) u for every parameter k into out (T * (n_lengthscales + 2), p).

    With one lengthscale its derivative is the sum over the features.
    """
    size = n_lengthscales + 2
    p, d = points.shape[0], scaled.shape[2]
    out[:, :p] = 0.0
    for t in range(kinds.shape[0]):
        first = t * size
        for a in range(p):
            x = scaled[t, points[a]]
            out[first, a] += variances[t] * u[a]
            for b in range(a):
                z = scaled[t, points[b]]
                r2 = squared_distance(x, z)
                phi, by_r2, by_shape = radial(kinds[t], shapes[t], r2)
                out[first, a] += variances[t] * phi * u[b]
                out[first, b] += variances[t] * phi * u[a]
                slope = -2.0 * variances[t] * by_r2
                if n_lengthscales == 1:
                    out[first + 1, a] += slope * r2 * u[b]
                    out[first + 1, b] += slope * r2 * u[a]
                else:
                    for k in range(d):
                        change = slope * (x[k] - z[k]) ** 2
                        out[first + 1 + k, a] += change * u[b]
                        out[first + 1 + k, b] += change * u[a]
                by_shape *= variances[t]
                out[first + size - 1, a] += by_shape * u[b]
                out[first + size - 1, b] += by_shape * u[a]
