"""Probabilistic modelling and sparse recovery with scikit-learn style estimators.

Everything follows X: NumPy arrays are computed with Numba kernels on the CPU, CuPy arrays with CUDA
kernels on the GPU, torch tensors with the same kernels where the tensor lives.
"""

from importlib import import_module as _import_module

from .mpi import distributed, row_slice, row_sum

__version__ = "0.1.0"

_SUBPACKAGES = (
    "bandits",
    "callbacks",
    "channel",
    "datasets",
    "dictionary",
    "gp",
    "linear_operators",
    "metrics",
    "mpi",
    "plotting",
    "polynomials",
    "recovery",
    "rpca",
    "sketch",
    "torch",
)
_LAZY = {"move_estimator_to": "_base"}

__all__ = [*_SUBPACKAGES, "distributed", "move_estimator_to", "row_slice", "row_sum"]


def __getattr__(name):
    if name in _SUBPACKAGES:
        return _import_module(f".{name}", __name__)
    if name in _LAZY:
        return getattr(_import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*__all__, "__version__"])
