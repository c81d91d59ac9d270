"""Covariances of points of eight columns side by side, and products with their derivatives."""

import math

from numba import njit

from ._fast_exp import exp_of_negative
from ._fast_root import root
from ._lanes import LANES, load, mul, plus_product, store, sub

_ROOT3, _ROOT5 = math.sqrt(3.0), math.sqrt(5.0)
_options = {"cache": True, "fastmath": {"contract"}, "error_model": "numpy"}
_inlined = _options | {"forceinline": True}  # or loops over it would not be vectorized


@njit(**_options)
def _squared_distances(x, size, R):
    for a in range(size):
        row = a * (a + 1) // 2
        own = load(x[0], a)
        for b in range(a + 1):
            gap = sub(own, load(x[0], b))
            store(R, row + b, mul(gap, gap))
        for k in range(1, x.shape[0]):
            own = load(x[k], a)
            for b in range(a + 1):
                gap = sub(own, load(x[k], b))
                store(R, row + b, plus_product(load(R, row + b), gap, gap))


# Correlation at squared distance r2, and -2 times its derivative by r2 (Matern-1/2: zero distance
# has no derivative, and any number serves, for it is multiplied by the distance).


@njit(**_inlined)
def _matern12(r2):
    r = math.sqrt(r2)
    e = exp_of_negative(-r)
    return e, e / max(r, 1e-150)


@njit(**_inlined)
def _matern32(r2):
    r = _ROOT3 * math.sqrt(r2)
    e = exp_of_negative(-r)
    return (1.0 + r) * e, 3.0 * e


@njit(**_inlined)
def _matern52(r2):
    r = _ROOT5 * math.sqrt(r2)
    e = exp_of_negative(-r)
    return (1.0 + r + r * r * (1.0 / 3.0)) * e, (5.0 / 3.0) * (1.0 + r) * e


@njit(**_options)
def _correlations(kind, variance, shape, r2, slopes, phi, slope):
    """Write variance times correlation and, if `slopes`, times -2 its derivative by r2."""
    if kind == 0:
        for q in range(r2.size):
            p, s = _matern12(r2[q])
            phi[q] = variance * p
            if slopes:
                slope[q] = variance * s
    elif kind == 1:
        for q in range(r2.size):
            p, s = _matern32(r2[q])
            phi[q] = variance * p
            if slopes:
                slope[q] = variance * s
    elif kind == 2:
        for q in range(r2.size):
            p, s = _matern52(r2[q])
            phi[q] = variance * p
            if slopes:
                slope[q] = variance * s
    elif kind == 3:
        for q in range(r2.size):
            phi[q] = variance * exp_of_negative(-0.5 * r2[q])
            if slopes:
                slope[q] = phi[q]
    else:
        for q in range(r2.size):
            share = 1.0 / (1.0 + 0.5 * r2[q] / shape)
            phi[q] = variance * root(share, shape)
            if slopes:
                slope[q] = phi[q] * share


@njit(**_options)
def _shape_derivatives(shape, r2, phi, out):
    """Write the derivative of a rational quadratic by its log shape."""
    for q in range(r2.size):
        t = 0.5 * r2[q] / shape
        out[q] = shape * phi[q] * (t / (1.0 + t) - math.log1p(t))


@njit(**_options)
def pair_covariances(kinds, variances, shapes, size, n_lengthscales, work):
    """Write packed covariances of gathered inputs and, if n_lengthscales > 0, their parts.

    Parts of a term: itself; what multiplies squared gaps of a feature in the derivative by its log
    lengthscale, or with one lengthscale that derivative; the derivative by log shape.
    """
    inputs, R, parts, K, _, _ = work
    n = size * (size + 1) // 2
    r2, total = R[:n].reshape(n * LANES), K[:n].reshape(n * LANES)
    slopes = n_lengthscales > 0
    alone = kinds.shape[0] == 1 and not slopes
    for t in range(kinds.shape[0]):
        _squared_distances(inputs[t], size, R)
        phi = total if alone else parts[t, 0, :n].reshape(n * LANES)
        slope = parts[t, 1, :n].reshape(n * LANES)  # not phi: loops over one array are scalar
        _correlations(kinds[t], variances[t], shapes[t], r2, slopes, phi, slope)
        if slopes and kinds[t] == 4:
            _shape_derivatives(shapes[t], r2, phi, parts[t, 2, :n].reshape(n * LANES))
        if n_lengthscales == 1:
            slope *= r2
        if t == 0 and not alone:
            total[:] = phi
        elif t > 0:
            total += phi


@njit(**_options)
def _symmetric_product(W, size, u, out):
    """Write the products of packed symmetric matrices with u."""
    for a in range(size):
        row = a * (a + 1) // 2
        own, total = load(u, a), mul(load(W, row + a), load(u, a))
        for b in range(a):
            w = load(W, row + b)
            total = plus_product(total, w, load(u, b))
            store(out, b, plus_product(load(out, b), w, own))
        store(out, a, total)


@njit(**_options)
def _gap_product(W, x, size, u, out):
    """Write the products with u of W times the squared gaps of one feature x."""
    for a in range(size):
        row = a * (a + 1) // 2
        own, x_own, total = load(u, a), load(x, a), mul(load(u, 0), sub(load(x, 0), load(x, 0)))
        for b in range(a):
            gap = sub(x_own, load(x, b))
            w = mul(load(W, row + b), mul(gap, gap))
            total = plus_product(total, w, load(u, b))
            store(out, b, plus_product(load(out, b), w, own))
        store(out, a, total)


@njit(**_options)
def derivative_columns(kinds, n_lengthscales, size, work, u, out):
    """Write the products of u with the derivatives by every parameter, (T (n_l + 2), size)."""
    inputs, parts = work[0], work[2]
    for t in range(kinds.shape[0]):
        row = t * (n_lengthscales + 2)
        _symmetric_product(parts[t, 0], size, u, out[row])
        if n_lengthscales == 1:
            _symmetric_product(parts[t, 1], size, u, out[row + 1])
        else:
            for k in range(n_lengthscales):
                _gap_product(parts[t, 1], inputs[t, k], size, u, out[row + 1 + k])
        if kinds[t] == 4:
            _symmetric_product(parts[t, 2], size, u, out[row + n_lengthscales + 1])
