"""The bound of a batch from the neighbors of all its rows together, with whole arrays."""

import numpy as np

from .._arrays import compute_namespace, to_numpy
from .._kernels._covariance_arrays import radial
from ._swsgp_bound import JITTER, LEAST_VARIANCE, Bound, by_theta


def union_bound(covariance, likelihood, batch, arrays, spread):
    """Estimate the bound from a batch and the union of the neighbors of its rows.

    It is the bound of a variational GP that has these inducing inputs alone; see `local_bound` for
    the arguments. Every rank does the whole batch.
    """
    xp = compute_namespace(batch.X)
    rows = xp.unique(batch.neighbors)
    Z, m = arrays["inputs"][rows], arrays["mean"][rows]
    S = spread.covariance(spread.scale(arrays["spread"]), rows)
    inverse, half_log, A, Kx = _solved(covariance, Z, batch.X)
    SA = S @ A
    v = covariance.variance - (A * Kx).sum(axis=0) + (A * SA).sum(axis=0)
    v = xp.maximum(v, LEAST_VARIANCE * covariance.variance)
    mu, beta = A.T @ m, inverse @ m
    expected, by_mean, by_variance = likelihood.expected(batch.y, mu, v)
    factor = batch.n_represented / batch.n_in_batch
    g, h = factor * by_mean, factor * by_variance
    precision, half_log_S = _inverse(S)
    divergence = 0.5 * ((inverse * S).sum() + m @ beta - len(m)) + half_log - half_log_S
    C, Ag = inverse @ SA, A @ g
    to_K = 0.5 * (inverse @ S @ inverse + xp.outer(beta, beta) - inverse)
    to_K += (A * h) @ A.T - (C * h) @ A.T - (A * h) @ C.T
    to_K -= 0.5 * (xp.outer(beta, Ag) + xp.outer(Ag, beta))
    to_cross = xp.outer(beta, g) + 2.0 * (C - A) * h
    to_S = (A * h) @ A.T - 0.5 * (inverse - precision)
    to_inputs, to_theta = _pulled(covariance, Z, batch.X, to_K, to_cross)
    to_theta[:, 0] += covariance.variances * float(h.sum() + JITTER * xp.trace(to_K))
    noise = factor * likelihood.expected_parameter_gradient(batch.y, mu, v)
    gradients = {
        "mean": xp.zeros_like(arrays["mean"]),
        "inputs": xp.zeros_like(arrays["inputs"]),
        "spread": spread.gathered(arrays["spread"], rows, to_S),
        "theta": by_theta(covariance, to_theta),
        "noise": to_numpy(xp.asarray(noise)),
    }
    gradients["mean"][rows] = Ag - beta
    gradients["inputs"][rows] = to_inputs
    return Bound(float(factor * expected.sum() - divergence), gradients)


def union_moments(covariance, X, neighbors, Z, mean, scale, spread):
    """Posterior mean and covariance of the values at rows X given their neighbors together."""
    rows = compute_namespace(X).unique(neighbors)
    S = spread.covariance(scale, rows)
    _, _, A, Kx = _solved(covariance, Z[rows], X)
    return A.T @ mean[rows], covariance(X) - A.T @ Kx + A.T @ S @ A


def _solved(covariance, Z, X):
    """Inverse covariance of Z, half its log determinant, its product with k(Z, X), k(Z, X)."""
    K, Kx = covariance(Z), covariance(Z, X)
    xp = compute_namespace(K)
    inverse, half_log = _inverse(K + JITTER * covariance.variance * xp.eye(len(K)))
    return inverse, half_log, inverse @ Kx, Kx


def _inverse(K):
    """Return the inverse of a covariance and half its log determinant."""
    xp = compute_namespace(K)
    factor = xp.linalg.cholesky(K)
    root = xp.linalg.inv(factor)
    return root.T @ root, float(xp.log(xp.diagonal(factor)).sum())


def _pulled(covariance, Z, X, to_K, to_cross):
    """Gradients by Z and by log variance, d log lengthscales and log shape of every term."""
    xp = compute_namespace(X)
    to_Z = xp.zeros_like(Z)
    to_theta = np.zeros((len(covariance.kinds), X.shape[1] + 2))
    for t, kind in enumerate(covariance.kinds):
        lengthscales = xp.asarray(covariance.lengthscales[t])
        z, V = Z / lengthscales, covariance.variances[t]
        for other, weight, ends in ((z, to_K, 2.0), (X / lengthscales, to_cross, 1.0)):
            difference = z[:, None] - other[None]
            squared = (difference**2).sum(axis=2)
            phi, slope, by_shape = radial(xp, int(kind), covariance.shapes[t], squared)
            step = (V * weight * slope)[:, :, None] * difference
            to_Z += 2.0 * ends * step.sum(axis=1) / lengthscales
            to_theta[t, 0] += float((V * weight * phi).sum())
            to_theta[t, 1:-1] -= 2.0 * to_numpy((step * difference).sum(axis=(0, 1)))
            to_theta[t, -1] += float((V * weight * by_shape).sum())
    return to_Z, to_theta
