"""Bounds of sparse-within-sparse Gaussian processes (Tran, Milios, Michiardi & Filippone, 2021)."""

from typing import Any, NamedTuple

import numpy as np

from .. import mpi
from .._arrays import compute_namespace, to_numpy
from .._kernels import kernels
from .._kernels._local_bound_numba import BLOCK, DIAGONAL, FULL
from ._inducing import over_parts

MODES = {"diag": DIAGONAL, "block": BLOCK, "full": FULL}
JITTER = 1e-6  # of the covariance of inducing inputs, as a share of the variance
LEAST_VARIANCE = 1e-10  # of a value, likewise
_BESIDE = 0.1  # step beside the diagonal of a factor, for a step of 1 of the log diagonal


class Bound(NamedTuple):
    """Value of a bound and its gradients by the arrays that are trained."""

    value: float
    gradients: dict


class Batch(NamedTuple):
    """Some rows, their targets and neighbors, and how many rows they stand for."""

    X: Any  # (b, d)
    y: Any  # (b,)
    neighbors: Any  # (b, H) int32, ascending
    n_represented: int
    n_in_batch: int  # on all ranks


class Spread:
    """How the covariance of q(u) is stored: logarithms of deviations, or of a factor's diagonal.

    Rows of the factor, which is lower, are stored over their diagonal elements.

    Parameters
    ----------
    covariance : {"diag", "block", "full"}
    """

    def __init__(self, covariance):
        self.mode = MODES[covariance]

    def start(self, n_inducing, deviation, xp):
        """Return what is stored for independent values of equal deviation."""
        if self.mode == DIAGONAL:
            return xp.full((n_inducing, 1), np.log(deviation))
        return np.log(deviation) * xp.eye(n_inducing)

    def units(self, stored):
        """Lengths of the steps of what is stored."""
        if self.mode == DIAGONAL:
            return 1.0
        xp = compute_namespace(stored)
        return _BESIDE + (1.0 - _BESIDE) * xp.eye(len(stored))

    def scale(self, stored):
        """Return deviations (M, 1), or the factor (M, M)."""
        xp = compute_namespace(stored)
        if self.mode == DIAGONAL:
            return xp.exp(stored)
        diagonal = xp.exp(xp.diagonal(stored))[:, None]
        return diagonal * (xp.tril(stored, -1) + xp.eye(len(stored)))

    def stored(self, scale):
        """Return what is stored for a scale: the inverse of `scale`."""
        xp = compute_namespace(scale)
        if self.mode == DIAGONAL:
            return xp.log(scale)
        diagonal = xp.diagonal(scale)
        return xp.tril(scale / diagonal[:, None], -1) + xp.diag(xp.log(diagonal))

    def spread(self, scale):
        """Return what kernels receive for a scale."""
        return scale @ scale.T if self.mode == FULL else scale

    def chain(self, stored, gradient):
        """Gradient by what is stored from that by log deviations, factor or covariance."""
        if self.mode == DIAGONAL:
            return gradient
        xp, factor = compute_namespace(stored), self.scale(stored)
        gradient = xp.tril(2 * gradient @ factor if self.mode == FULL else gradient)
        diagonal = (gradient * factor).sum(axis=1)
        gradient *= xp.diagonal(factor)[:, None]
        at = xp.arange(len(stored))
        gradient[at, at] = diagonal
        return gradient

    def gathered(self, stored, rows, to_covariance):
        """Gradient by what is stored from that by the covariance of some inducing inputs."""
        xp, scale = compute_namespace(stored), self.scale(stored)
        total = xp.zeros_like(stored)
        if self.mode == DIAGONAL:
            total[rows, 0] = 2 * xp.diagonal(to_covariance) * scale[rows, 0] ** 2
            return total
        at = xp.ix_(rows, rows)
        if self.mode == BLOCK:
            total[at] = 2 * to_covariance @ scale[at]
        else:
            total[at] = to_covariance
        return self.chain(stored, total)

    def covariance(self, scale, rows):
        """Return the covariance of q(u) at some inducing inputs."""
        if self.mode == DIAGONAL:
            return compute_namespace(scale).diag(scale[rows, 0] ** 2)
        factor = scale[rows][:, rows] if self.mode == BLOCK else scale[rows]
        return factor @ factor.T


def local_moments(covariance, X, neighbors, Z, mean, spread, mode):
    """Mean and variance of the values at rows, each from its neighbors alone."""
    xp, moments = compute_namespace(X), kernels("local_bound", X).moments
    terms, x = covariance.terms(Z), covariance.terms(X).scaled

    def part(rows):
        return moments(*terms, x[:, rows], neighbors[rows], mean, spread, mode, JITTER)[:2]

    mu, v = _joined(xp, over_parts(part, X))
    return mu, xp.maximum(v, LEAST_VARIANCE * covariance.variance)


def _joined(xp, parts):
    """Join what the threads return, array by array."""
    return [xp.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def local_bound(covariance, likelihood, batch, arrays, spread, weight=1.0):
    """Estimate the bound from a batch: the scaled fit minus weight times the mean divergence.

    Parameters
    ----------
    covariance : Covariance
    likelihood : Gaussian or Bernoulli
    batch : Batch
        The rows of this rank.
    arrays : dict
        "mean" (M,), "spread" as stored, "inputs" (M, d).
    spread : Spread
    weight : float

    Returns
    -------
    bound : Bound
        Summed over ranks.
    """
    X, Z, neighbors = batch.X, arrays["inputs"], batch.neighbors
    xp, compiled = compute_namespace(X), kernels("local_bound", X)
    terms, x = covariance.terms(Z), covariance.terms(X).scaled
    posterior = (arrays["mean"], spread.spread(spread.scale(arrays["spread"])), spread.mode, JITTER)
    lengthscales = xp.asarray(covariance.lengthscales)
    factor, share = batch.n_represented / batch.n_in_batch, weight / batch.n_in_batch
    local = {}

    def forward(rows):
        found = compiled.moments(*terms, x[:, rows], neighbors[rows], *posterior)
        local[rows.start] = found[3:]  # what the way back needs again
        return found[:3]

    def backward(rows):
        return compiled.gradients(
            *terms, x[:, rows], neighbors[rows], *posterior, *local[rows.start],
            factor * by_mean[rows], factor * by_variance[rows], share, lengthscales,
        )  # fmt: skip

    mu, v, divergence = _joined(xp, over_parts(forward, X))
    v = xp.maximum(v, LEAST_VARIANCE * covariance.variance)
    expected, by_mean, by_variance = likelihood.expected(batch.y, mu, v)
    to_mean, to_spread, to_inputs, to_theta = _joined(xp, over_parts(backward, X))
    value = factor * expected.sum() - share * divergence.sum()
    noise = factor * likelihood.expected_parameter_gradient(batch.y, mu, v)
    gradients = {
        "mean": _by_inducing(compiled, neighbors, to_mean[:, :, None], Z)[:, 0],
        "spread": _by_spread(compiled, neighbors, to_spread, spread, Z),
        "inputs": _by_inducing(compiled, neighbors, to_inputs, Z),
        "theta": by_theta(covariance, to_numpy(to_theta.sum(axis=0))),
        "noise": to_numpy(xp.asarray(noise)),
    }
    value, *sums = mpi.row_sum(float(value), *gradients.values())
    gradients = dict(zip(gradients, sums, strict=True))
    gradients["spread"] = spread.chain(arrays["spread"], gradients["spread"])
    return Bound(float(value), gradients)


def _by_inducing(compiled, neighbors, values, Z):
    xp = compute_namespace(Z)
    total = xp.zeros((len(Z), values.shape[2]))
    compiled.sum_by_neighbor(neighbors, xp.ascontiguousarray(values), total)
    return total


def _by_spread(compiled, neighbors, values, spread, Z):
    if spread.mode == DIAGONAL:
        return _by_inducing(compiled, neighbors, values, Z)
    total = compute_namespace(Z).zeros((len(Z), len(Z)))
    compiled.sum_by_pair(neighbors, values, total)
    return total


def by_theta(covariance, gradient):
    """Gradient by theta from that by log variance, d log lengthscales and log shape of terms."""
    gradient = gradient.reshape(len(covariance.kinds), -1)
    if covariance.n_lengthscales == 1:
        shared = gradient[:, 1:-1].sum(axis=1)
        gradient = np.stack((gradient[:, 0], shared, gradient[:, -1]), axis=1)
    return covariance.chain(gradient.ravel())
