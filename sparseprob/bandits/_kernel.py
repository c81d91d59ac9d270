"""Kernel objects of scikit-learn as functions of NumPy and CuPy rows."""

import numpy as np
from sklearn.gaussian_process.kernels import (
    CompoundKernel,
    DotProduct,
    Kernel,
    KernelOperator,
    WhiteKernel,
)

from .._arrays import compute_namespace, is_on_gpu, to_numpy
from .._covariance import Covariance

_CHUNK = 8192


class KernelFunction:
    """A kernel with fixed parameters; fast for sums of stationary terms and for `DotProduct`.

    Parameters
    ----------
    kernel : sklearn.gaussian_process.kernels.Kernel
    n_features : int

    Attributes
    ----------
    terms : Covariance or None
        The kernel as a sum of stationary terms, if it is one.
    """

    def __init__(self, kernel, n_features):
        if not isinstance(kernel, Kernel):
            raise TypeError(
                "kernel must be a kernel object of sklearn.gaussian_process.kernels, got "
                f"{type(kernel).__name__}; for example RBF(0.2)."
            )
        _refuse_noise(kernel)
        self.kernel, self.n_features = kernel, n_features
        try:
            self.terms = Covariance.from_kernel(kernel, n_features)
        except (TypeError, ValueError):
            self.terms = None
        kernel(np.zeros((1, n_features)))  # refuses lengthscales of another number of features

    def __call__(self, X, Y):
        """Return the matrix (n, m) of two sets of rows, float64, in the library of X."""
        xp = compute_namespace(X)
        if self.terms is not None:
            return self.terms(xp.asarray(X, dtype=np.float64), xp.asarray(Y, dtype=np.float64))
        if isinstance(self.kernel, DotProduct):
            return xp.asarray(X, dtype=np.float64) @ xp.asarray(Y).T + self.kernel.sigma_0**2
        self._refuse_gpu(X)
        K = np.empty((len(X), len(Y)))
        for start in range(0, len(X), _CHUNK):
            stop = start + _CHUNK
            K[start:stop] = self.kernel(np.asarray(X[start:stop], dtype=np.float64), to_numpy(Y))
        return K

    def diag(self, X):
        """Return the prior variances (n,) of rows, float64, in the library of X."""
        xp = compute_namespace(X)
        if self.terms is not None:
            return xp.full(len(X), self.terms.variance)
        if isinstance(self.kernel, DotProduct):
            return (xp.asarray(X, dtype=np.float64) ** 2).sum(axis=1) + self.kernel.sigma_0**2
        self._refuse_gpu(X)
        return np.asarray(self.kernel.diag(np.asarray(X, dtype=np.float64)), dtype=np.float64)

    def _refuse_gpu(self, X):
        if is_on_gpu(X):
            raise TypeError(
                f"The kernel {self.kernel} runs on the host only; on a GPU use sums of constants "
                "times RBF, Matern or RationalQuadratic, or DotProduct."
            )


def _refuse_noise(kernel):
    if isinstance(kernel, WhiteKernel):
        raise ValueError(
            "The kernel must have no WhiteKernel term: noise is the parameter noise_variance."
        )
    if isinstance(kernel, KernelOperator):
        _refuse_noise(kernel.k1)
        _refuse_noise(kernel.k2)
    for part in getattr(kernel, "kernels", [getattr(kernel, "kernel", None)]):
        if isinstance(part, Kernel):
            _refuse_noise(part)
    if isinstance(kernel, CompoundKernel):
        raise TypeError("The kernel must be one kernel, got a CompoundKernel of several.")
