"""Covariances that only torch can evaluate: any gpytorch kernel, behind a feature map or not.

Deep kernels: Wilson, Hu, Salakhutdinov and Xing, "Deep kernel learning", AISTATS 2016.
"""

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from gpytorch.kernels import Kernel

from .._arrays import compute_namespace, like, to_compute

_N_PAIRS = 200  # of rows, by whose distances a change of the neighborhoods is noticed
_LEAST = 1e-12


class TorchTerms(NamedTuple):
    """What columns in torch receive: the covariance and its inputs."""

    covariance: object
    scaled: np.ndarray  # (n, d) inputs

    def kernels(self, topic):
        """Return the module with the columns of any topic."""
        from . import _torch_columns

        return _torch_columns


class TorchCovariance:
    """A kernel of gpytorch with the interface of `Covariance`.

    Its theta are the raw parameters of the module that require a gradient, one after the other.
    The module is a copy, in double precision and in evaluation mode: no dropout while it learns.

    Parameters
    ----------
    module : gpytorch.kernels.Kernel or torch.nn.Sequential
    n_features : int
    theta : ndarray of shape (P,), default=None
        Raw parameters; None are those of the module.
    """

    n_lengthscales = 1
    has_information = False  # no Fisher information: quasi-Newton steps only

    def __init__(self, module, n_features, theta=None):
        self.n_features, self._given = n_features, copy.deepcopy(module)
        self._module = copy.deepcopy(module).double().eval()
        for part in self._module.modules():
            if getattr(type(part), "covar_dist", None) is Kernel.covar_dist:
                part.covar_dist = exact_distances
        if theta is not None:
            set_parameters(self._module, theta)
        free = self.free_parameters(self._module)
        self.theta = np.concatenate(
            [np.zeros(0), *(p.detach().cpu().numpy().ravel() for p in free.values())]
        )
        self.names = [
            f"{name}[{i}]" if p.numel() > 1 else name
            for name, p in free.items()
            for i in range(p.numel())
        ]
        self.bounds = np.tile([-np.inf, np.inf], (len(self.theta), 1))
        self.variance = self._checked_variance()

    @staticmethod
    def free_parameters(module):
        """Return the parameters that theta holds, by name."""
        return {name: p for name, p in module.named_parameters() if p.requires_grad}

    def _checked_variance(self):
        """Prior variance at a point, which shows that the kernel takes such rows."""
        rows = torch.linspace(0, 1, 2 * self.n_features, dtype=torch.float64)
        try:
            K = self.matrix(self._module, self.features(self._module, rows.reshape(1, 2, -1)))
        except RuntimeError as error:
            raise ValueError(
                f"The kernel does not take rows of {self.n_features} features: {error}"
            ) from error
        if K.shape != (1, 2, 2):
            raise ValueError(
                f"The covariance of 2 rows has shape {tuple(K.shape[1:])}; give a kernel with one "
                "output for each row."
            )
        return float(K.detach()[0, 0, 0])

    def module(self, device):
        """Return a copy of the module on a device."""
        return copy.deepcopy(self._module).to(device)

    def with_theta(self, theta):
        """Return the same covariance with other parameters."""
        return type(self)(self._given, self.n_features, np.asarray(theta, dtype=np.float64))

    def kernel(self):
        """Return a copy of the caller's module with the parameters of now, in its precision."""
        module = copy.deepcopy(self._given)
        set_parameters(module, self.theta)
        return module

    def chain(self, gradient):
        """Return the gradient by theta, which is what columns in torch give."""
        return gradient

    @staticmethod
    def features(module, rows):
        """Return what the kernel of a module sees of some rows."""
        return module[:-1](rows) if isinstance(module, torch.nn.Sequential) else rows

    @staticmethod
    def last(module) -> Any:
        """Return the kernel of a module."""
        return module[-1] if isinstance(module, torch.nn.Sequential) else module

    @staticmethod
    def matrix(module, features):
        """Return the dense covariances (..., p, p) of batches of features (..., p, q)."""
        return TorchCovariance.last(module)(features).to_dense()

    def terms(self, X):
        """Return what columns in torch receive; X (n, d) is NumPy or CuPy in double precision."""
        return TorchTerms(self, X)

    def scale(self, X):
        """Inputs for neighbors: features, over lengthscales if the kernel has them."""
        A = as_tensor(to_compute(X))
        module = self.module(A.device)
        with torch.no_grad():
            F = self.features(module, A)
            kernel = self.last(module)
            while hasattr(kernel, "base_kernel"):
                kernel = kernel.base_kernel
            if kernel.has_lengthscale and kernel.lengthscale.numel() in (1, F.shape[-1]):
                F = F / kernel.lengthscale.reshape(1, -1)
        return like(F.contiguous().cpu().numpy() if F.device.type == "cpu" else to_compute(F), X)

    def proportions(self, X):
        """Distances between pairs of rows, whose ratios change when neighborhoods do."""
        xp = compute_namespace(X)
        rows = np.linspace(0, len(X) - 1, min(len(X), 2 * _N_PAIRS) // 2 * 2).astype(int)
        F = self.scale(X[xp.asarray(rows)])
        distances = xp.sqrt(((F[::2] - F[1::2]) ** 2).sum(axis=1))
        return like(distances, np.empty(0)) + _LEAST

    def __call__(self, X, Y=None):
        """Dense covariance matrix of rows, for small n and for tests."""
        X = to_compute(X)
        xp = compute_namespace(X)
        A = as_tensor(X if Y is None else xp.concatenate([X, to_compute(Y)]))
        module = self.module(A.device)
        with torch.no_grad():
            K = self.matrix(module, self.features(module, A))
        K = like(K.numpy() if K.device.type == "cpu" else to_compute(K), X)
        return K if Y is None else K[: len(X), len(X) :]


def exact_distances(x1, x2, diag=False, last_dim_is_batch=False, square_dist=False, **_):
    """Distances from differences; `Kernel.covar_dist` expands squares, and loses half the digits.

    Equal points have the gradient 0.
    """
    if last_dim_is_batch:
        x1, x2 = (x.transpose(-1, -2).unsqueeze(-1) for x in (x1, x2))
    differences = x1 - x2 if diag else x1.unsqueeze(-2) - x2.unsqueeze(-3)
    squares = differences.square().sum(-1)
    if square_dist:
        return squares
    apart = squares > 0
    return torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0)


def set_parameters(module, theta):
    """Write theta into the free parameters of a module, one after the other."""
    start = 0
    with torch.no_grad():
        for parameter in TorchCovariance.free_parameters(module).values():
            values = torch.from_numpy(np.array(theta[start : start + parameter.numel()]))
            parameter.copy_(values.reshape(parameter.shape))
            start += parameter.numel()


def as_tensor(A):
    """View a NumPy or CuPy array as a tensor that shares its memory."""
    return torch.from_numpy(A) if isinstance(A, np.ndarray) else torch.from_dlpack(A)
