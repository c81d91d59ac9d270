"""Oracles of channels: paths and received samples one by one, error rates in closed form."""

from functools import reduce

import numpy as np
from scipy.stats import norm


def response(n_antennas, psi):
    """Steering vector, entry by entry."""
    return np.array([np.exp(1j * np.pi * psi * n) for n in range(n_antennas)]) / n_antennas**0.5


def received(H1, H2, patterns, X):
    """Slabs [pattern, pilot, antenna]: H2 diag(theta) H1 X for one pattern and pilot at a time."""
    slabs = np.empty((patterns.shape[1], X.shape[1], len(H2)), dtype=complex)
    for i, theta in enumerate(patterns.T):
        for p, x in enumerate(X.T):
            slabs[i, p] = H2 @ np.diag(theta) @ H1 @ x
    return slabs


def dense_dictionary(factors):
    """The Kronecker product of all factors."""
    return reduce(np.kron, factors)


def mean_error(estimates, channels, power):
    """Average over patterns of the ratio of Frobenius norms, to a power."""
    ratios = []
    for A, B in zip(estimates, channels, strict=True):
        squares = sum(abs(a - b) ** 2 for a, b in zip(A.ravel(), B.ravel(), strict=True))
        ratios.append((squares / sum(abs(b) ** 2 for b in B.ravel())) ** (power / 2))
    return sum(ratios) / len(ratios)


def qpsk_error_rate(gain, noise_var):
    """Error rate of r = gain s + n, quadrant decision: 1 - P(both parts on the right side)."""
    scale = np.sqrt(noise_var / 2)
    turned = gain * (1 + 1j) / np.sqrt(2)
    return 1 - norm.cdf(turned.real / scale) * norm.cdf(turned.imag / scale)
