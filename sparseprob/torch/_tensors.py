"""Tensors of any floating type as NumPy or CuPy arrays, and back."""

import array_api_compat
import numpy as np

from .._arrays import compute_namespace, is_array, like, to_compute

NARROW = ("float16", "bfloat16")


def is_torch(X):
    """Whether X is a torch tensor."""
    return array_api_compat.is_torch_array(X)


def to_array(X, dtype=None):
    """View a tensor or an array as NumPy or CuPy; half precision, which they lack, is widened.

    Parameters
    ----------
    X : tensor or array
        Gradients are not followed.
    dtype : numpy.dtype, default=None
        Type of the answer; None keeps that of X where NumPy has it.
    """
    if is_torch(X):
        import torch

        X = X.detach()
        if X.dtype in (torch.float16, torch.bfloat16):
            X = X.float()
        if X.device.type == "cuda" and not X.is_contiguous():
            X = X.contiguous()
    A = to_compute(X if is_array(X) else np.asarray(X))
    return A if dtype is None else A.astype(dtype, copy=False)


def solver_dtype(X):
    """Floating type in which a layer is solved: double on the CPU, single on a GPU."""
    return np.dtype(np.float64 if compute_namespace(X) is np else np.float32)


def back(A, X):
    """Return the NumPy or CuPy array `A` in the library, on the device and of the type of `X`."""
    answer = like(A, X)
    if is_torch(X):
        return answer.to(X.dtype)
    return answer.astype(X.dtype, copy=False)


def to_tensor(A, X):
    """Return the array `A` as a torch tensor, of the type and on the device of `X` if that is one.

    Indices and masks keep their own type.
    """
    import torch

    if is_torch(X):
        found = like(A, X)
        return found.to(X.dtype) if A.dtype.kind == "f" else found
    found = torch.from_dlpack(A) if compute_namespace(A) is not np else torch.as_tensor(A)
    return found.to(getattr(torch, str(X.dtype))) if A.dtype.kind == "f" else found
