"""Pairs of compiled kernels by topic, with the same names and arguments for each library."""

from importlib import import_module

from array_api_compat import is_cupy_array


def kernels(topic, A):
    """Return the kernel module of `topic` for the library of the array `A` (NumPy or CuPy)."""
    return import_module(f"{__name__}._{topic}_{'cupy' if is_cupy_array(A) else 'numba'}")
