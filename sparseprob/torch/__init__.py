"""The torch bridge: neural networks, made smaller and faster by the solvers of this package.

Modules, hooks and automatic differentiation stay with torch; the mathematics is done by the same
NumPy and CuPy kernels as everywhere else, on memory shared with the tensors.
"""

from importlib import import_module as _import_module

try:
    import torch as _torch  # noqa: F401 - whether it is there
except ImportError as error:
    raise ImportError(
        "sparseprob.torch needs PyTorch, which is not installed; "
        "run pip install 'sparseprob[torch]'."
    ) from error

_SUBPACKAGES = ("calibration", "layers", "solvers")
_LAZY = {
    "compress": "_compress",
    "CompressionReport": "_compression_report",
    "apply_stf": "_straight_through",
    "densify_": "_densify",
    "freeze_stf": "_straight_through",
}

__all__ = [
    "CompressionReport",
    "apply_stf",
    "calibration",
    "compress",
    "densify_",
    "freeze_stf",
    "layers",
    "solvers",
]


def __getattr__(name):
    if name in _SUBPACKAGES:
        return _import_module(f".{name}", __name__)
    if name in _LAZY:
        return getattr(_import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
