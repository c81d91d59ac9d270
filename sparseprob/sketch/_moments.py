"""Moments of two columns from rows that stand for 1 / p rows each."""

from typing import NamedTuple

import numpy as np


class JoinMoments(NamedTuple):
    """What two columns look like over their join.

    Parameters
    ----------
    n_common : int
        Number of keys that both sketches hold.
    size : float
        Estimated number of rows of the join.
    mean, std : tuple of two floats
        Estimated means and standard deviations of the columns over the join.
    correlation : float
        Pearson's; NaN if a column is constant, or no key is common.
    correlation_std : float
        Estimated standard deviation of the correlation around that of the whole join.
    """

    n_common: int
    size: float
    mean: tuple[float, float]
    std: tuple[float, float]
    correlation: float
    correlation_std: float


def weighted_moments(x, y, p):
    """Return the `JoinMoments` of rows that were sampled with some probabilities.

    Parameters
    ----------
    x, y, p : ndarray of shape (n,)

    Returns
    -------
    moments : JoinMoments
    """
    if not len(p):
        nan = float("nan")
        return JoinMoments(0, 0.0, (nan, nan), (nan, nan), nan, nan)
    weights = 1 / p
    size = float(weights.sum())
    moments = [_standardized(column[:, None], weights, size) for column in (x, y)]
    means, stds = (
        (float(left[0]), float(right[0])) for left, right in list(zip(*moments, strict=True))[:2]
    )
    r, std = _correlations(moments[0][2], moments[1][2], weights, size)
    return JoinMoments(len(p), size, means, stds, float(r[0]), float(std[0]))


def weighted_correlations(A, y, p):
    """Return correlations of columns with y, and their standard deviations around all rows'.

    Parameters
    ----------
    A : ndarray of shape (n, d)
    y, p : ndarray of shape (n,)

    Returns
    -------
    r, std : ndarray of shape (d,)
        NaN for constants.
    """
    weights = 1 / p
    size = weights.sum()
    columns, target = (_standardized(M, weights, size)[2] for M in (A, y[:, None]))
    return _correlations(columns, target, weights, size)


def _correlations(Z, z, weights, size):
    r = np.clip(weights @ (Z * z) / size, -1, 1)
    # what a row that stands for others shifts r by, to first order
    influence = Z * z - r / 2 * (Z**2 + z**2)
    variance = (weights * (weights - 1)) @ influence**2 / size**2
    return r, np.sqrt(variance)


def _standardized(A, weights, size):
    """Return means, standard deviations and standardized columns, NaN for constants."""
    scale = np.abs(A).max(axis=0)  # squares of it neither overflow nor vanish
    scale = np.where(scale > 0, scale, 1.0)
    shifted = A / scale - A[0] / scale  # exactly zero for a constant
    mean = weights @ shifted / size
    centered = shifted - mean
    std = np.sqrt(weights @ centered**2 / size)
    Z = np.where(std > 0, centered / np.where(std > 0, std, 1.0), np.nan)
    return A[0] + scale * mean, scale * std, Z
