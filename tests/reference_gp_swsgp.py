"""Slow, obvious oracles of sparse-within-sparse Gaussian processes, from the formulas."""

import numpy as np


def local_moments(kernel, X, Z, neighbors, mean, covariance, jitter):
    """Mean and variance at every row of X, and the divergence, from its neighbors in Z alone.

    covariance(near) is the covariance (H, H) of q(u) at the inducing inputs of these numbers.
    """
    found = []
    for x, near in zip(X, neighbors, strict=True):
        variance = kernel(x[None], x[None])[0, 0]
        K = kernel(Z[near], Z[near]) + jitter * variance * np.eye(len(near))
        k, S, m = kernel(Z[near], x[None])[:, 0], covariance(near), mean[near]
        inverse = np.linalg.inv(K)
        a = inverse @ k
        divergence = np.trace(inverse @ S) + m @ inverse @ m - len(near)
        divergence += np.linalg.slogdet(K)[1] - np.linalg.slogdet(S)[1]
        found.append((a @ m, variance - a @ k + a @ S @ a, 0.5 * divergence))
    return np.array(found).T


def gaussian_bound(
    kernel, X, y, Z, neighbors, mean, covariance, noise_variance, jitter, n_represented
):
    """Sum of expected log densities minus the mean divergence."""
    mu, v, divergence = local_moments(kernel, X, Z, neighbors, mean, covariance, jitter)
    expected = -0.5 * np.log(2 * np.pi * noise_variance) - ((y - mu) ** 2 + v) / 2 / noise_variance
    return n_represented * expected.mean() - divergence.mean()


def svgp_bound(kernel, X, y, Z, mean, S, noise_variance, jitter, n_represented):
    """Evidence lower bound of a variational GP with all inducing inputs (Hensman et al., 2013)."""
    variance = kernel(X[:1], X[:1])[0, 0]
    K = kernel(Z, Z) + jitter * variance * np.eye(len(Z))
    A = np.linalg.solve(K, kernel(Z, X))
    mu = A.T @ mean
    v = variance - np.sum(A * kernel(Z, X), axis=0) + np.sum(A * (S @ A), axis=0)
    expected = -0.5 * np.log(2 * np.pi * noise_variance) - ((y - mu) ** 2 + v) / 2 / noise_variance
    inverse = np.linalg.inv(K)
    divergence = np.trace(inverse @ S) + mean @ inverse @ mean - len(Z)
    divergence += np.linalg.slogdet(K)[1] - np.linalg.slogdet(S)[1]
    return n_represented * expected.mean() - 0.5 * divergence


def best_gaussian(kernel, X, y, Z, noise_variance, jitter):
    """Mean and covariance of the q(u) with the largest bound (Titsias, 2009)."""
    K = kernel(Z, Z) + jitter * kernel(X[:1], X[:1])[0, 0] * np.eye(len(Z))
    A = np.linalg.solve(K, kernel(Z, X))
    S = np.linalg.inv(np.linalg.inv(K) + A @ A.T / noise_variance)
    return S @ A @ y / noise_variance, S


def nearest(X, Z, count):
    """Numbers of the nearest rows of Z, ascending; ties to the smaller number."""
    squared = ((X[:, None] - Z[None]) ** 2).sum(axis=2)
    return np.sort(np.argsort(squared, axis=1, kind="stable")[:, :count], axis=1).astype(np.int32)
