"""Kernel objects of scikit-learn and gpytorch read as covariances; the default kernel."""

import numpy as np
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from .._arrays import like, to_compute
from .._covariance import Covariance


def read_covariance(kernel, n_features):
    """Read a kernel object of scikit-learn, or any of gpytorch, as a covariance.

    Returns
    -------
    covariance : Covariance or TorchCovariance
    """
    if not _is_torch_module(kernel):
        return Covariance.from_kernel(kernel, n_features)
    from ._gpytorch import read_kernel

    return read_kernel(kernel, n_features)


def read_sum(kernel, n_features):
    """Read a kernel object that is a sum of stationary terms, of scikit-learn or gpytorch."""
    covariance = read_covariance(kernel, n_features)
    if isinstance(covariance, Covariance):
        return covariance
    raise TypeError(
        f"The kernel {type(kernel).__name__} is not a sum of scaled Matern, RBF and RQ "
        "kernels; use VecchiaGPRegressor, which learns any kernel of gpytorch."
    )


def _is_torch_module(kernel):
    return any(base.__module__.startswith("torch.nn.") for base in type(kernel).__mro__)


def default_kernel(X, variance=1.0):
    """ARD Matern-3/2 whose start lengthscales follow the ranges of the features."""
    X = to_compute(X)
    ranges = like(X.max(axis=0) - X.min(axis=0), np.empty(0)).astype(np.float64)
    ranges[ranges <= 0] = 1.0
    lengthscales = 0.25 * np.sqrt(max(X.shape[1], 2) / 2) * ranges
    bounds = (1e-3 * lengthscales.min(), 1e3 * lengthscales.max())
    scale = max(float(variance), 1e-12)
    return ConstantKernel(scale, (1e-4 * scale, 1e4 * scale)) * Matern(
        lengthscales, length_scale_bounds=bounds, nu=1.5
    )
