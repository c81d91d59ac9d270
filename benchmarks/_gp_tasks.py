"""Fields to learn from, and scores of predictions; for gp.py and gp_speed.py."""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky
from sklearn.gaussian_process.kernels import ConstantKernel, Matern


class Task(NamedTuple):
    """Training points, test points with noise and without, and what they were drawn from."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    f_test: np.ndarray
    nu: float
    noise: float

    @property
    def kernel(self):
        """The kernel of the field."""
        return ConstantKernel(1.0) * Matern(0.1, nu=self.nu)

    @property
    def start_kernel(self):
        """A kernel to start learning from, with one lengthscale, as the peers have."""
        return ConstantKernel(float(self.y.var())) * Matern(0.25, nu=self.nu)


def field_2d(nu, n=5000):
    """Draw n uniform points in the unit square, four fifths of them to learn from."""
    rng, noise = np.random.default_rng(0), 0.01
    X = rng.random((n, 2))
    K = Matern(0.1, nu=nu)(X)
    K[np.diag_indices(n)] += 1e-8
    f = cholesky(K, lower=True) @ rng.standard_normal(n)
    y = f + np.sqrt(noise) * rng.standard_normal(n)
    cut = 4 * n // 5
    return Task(X[:cut], y[:cut], X[cut:], y[cut:], f[cut:], nu, noise)


def nlpd(y, mean, variance):
    """Mean negative log density of observations, under normal distributions."""
    return float(np.mean(0.5 * np.log(2 * np.pi * variance) + 0.5 * (y - mean) ** 2 / variance))


def scores(task, prediction):
    """Return NLPD of the noisy test values and RMSE of the field."""
    error = np.sqrt(np.mean((prediction.mean - task.f_test) ** 2))
    return nlpd(task.y_test, prediction.mean, prediction.variance + prediction.noise), float(error)
