"""The s entries of largest modulus: the projection onto sparse vectors.

T. Blumensath, M. E. Davies. "Iterative hard thresholding for compressed sensing", 2009.
"""

from numbers import Integral

import array_api_compat
import numpy as np

from .._arrays import compute_namespace, is_array, like, to_compute
from .._kernels import kernels


def hard_threshold(x, n_nonzero, *, axis=None, out=None):
    """Keep the entries of largest modulus and set all others to zero.

    Exactly `n_nonzero` entries are kept (of entries that tie, those of lowest index), in time
    proportional to the size of x.

    Parameters
    ----------
    x : array
        Real or complex. Torch tensors stay where they are, half precision included, and the
        result has no gradient.
    n_nonzero : int
        How many entries are kept: of the whole array, or of each slice along `axis`.
    axis : int, default=None
        Axis along which entries compete; None means that all entries do.
    out : array, default=None
        Where the result is written; x itself is allowed.

    Returns
    -------
    array
        In the library of x, on its device and of its type; `out` if that was given.

    Raises
    ------
    ValueError
        If there are fewer than `n_nonzero` entries, or x has NaN.

    See Also
    --------
    IterativeHardThresholding : Recovers sparse vectors with this projection.

    References
    ----------
    .. [1] T. Blumensath, M. E. Davies. "Iterative hard thresholding for compressed sensing".
       Applied and Computational Harmonic Analysis 27(3):265-274, 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.recovery import hard_threshold
    >>> hard_threshold(np.array([3.0, -1.0, 0.5, -4.0]), 2)
    array([ 3.,  0.,  0., -4.])
    """
    x = x if is_array(x) else np.asarray(x)
    n_nonzero = _checked_count(x, n_nonzero, axis)
    select = _select_torch if array_api_compat.is_torch_array(x) else _select_array
    return select(x, n_nonzero, axis, out)


def largest(moduli, n_nonzero):
    """Return where the largest entries of each row are: a mask with exactly that many per row.

    Parameters
    ----------
    moduli : real array of shape (T, N), NumPy or CuPy
    n_nonzero : int
        At most N; of equal entries the first ones are taken.
    """
    xp, n_columns = compute_namespace(moduli), moduli.shape[1]
    if n_nonzero in (0, n_columns):
        return xp.full(moduli.shape, n_nonzero > 0)
    if moduli.dtype in (xp.float32, xp.float64):
        return kernels("select", moduli).largest(moduli, n_nonzero)
    if xp is not np:
        return largest(moduli.astype(xp.float64), n_nonzero)
    place = n_columns - n_nonzero
    smallest_kept = np.partition(moduli, place, axis=1)[:, place : place + 1]
    return _fill_ties(np, moduli > smallest_kept, moduli == smallest_kept, n_nonzero)


def largest_places(moduli, n_nonzero):
    """Return the places of the largest entries of each row, in order, of shape (T, n_nonzero)."""
    chosen = largest(moduli, n_nonzero)
    return compute_namespace(moduli).nonzero(chosen)[1].reshape(len(moduli), n_nonzero)


def _fill_ties(xp, kept, tied, n_nonzero):
    """Add to the mask of larger entries as many of the tied ones as there is room for."""
    room = n_nonzero - kept.sum(axis=1)[:, None]
    if bool((tied.sum(axis=1)[:, None] == room).all()):
        return kept | tied
    return kept | (tied & (xp.cumsum(tied, 1) <= room))


def _select_array(x, n_nonzero, axis, out):
    A = to_compute(x)
    xp = compute_namespace(A)
    rows = A.reshape(1, -1) if axis is None else xp.moveaxis(A, axis, -1)
    moduli = xp.abs(rows.reshape(-1, rows.shape[-1]))
    if bool(xp.isnan(moduli).any()):
        raise ValueError("x contains NaN, which has no place in an order; remove it first.")
    kept = largest(moduli, n_nonzero).reshape(rows.shape)
    kept = kept.reshape(A.shape) if axis is None else xp.moveaxis(kept, -1, axis)
    if out is None:
        return like(xp.where(kept, A, xp.zeros((), dtype=A.dtype)), x)
    out[...] = like(xp.where(kept, A, xp.zeros((), dtype=A.dtype)), x)
    return out


def _select_torch(x, n_nonzero, axis, out):
    """Do the same in torch, whose half-precision types NumPy does not have."""
    import torch

    with torch.no_grad():
        rows = x.reshape(1, -1) if axis is None else x.movedim(axis, -1)
        moduli = rows.reshape(-1, rows.shape[-1]).abs()
        if moduli.dtype in (torch.float16, torch.bfloat16):
            moduli = moduli.float()  # exact, and every device can order it
        if bool(moduli.isnan().any()):
            raise ValueError("x contains NaN, which has no place in an order; remove it first.")
        kept = _largest_torch(torch, moduli, n_nonzero).reshape(rows.shape)
        kept = kept.reshape(x.shape) if axis is None else kept.movedim(-1, axis)
        if out is None:
            return torch.where(kept, x, 0)
        out.copy_(torch.where(kept, x, 0))
        return out


def _largest_torch(torch, moduli, n_nonzero):
    n_columns = moduli.shape[1]
    if n_nonzero in (0, n_columns):
        return torch.full_like(moduli, n_nonzero > 0, dtype=torch.bool)
    place = n_columns - n_nonzero + 1  # counted from one
    smallest_kept = moduli.kthvalue(place, dim=1, keepdim=True).values
    return _fill_ties(torch, moduli > smallest_kept, moduli == smallest_kept, n_nonzero)


def _checked_count(x, n_nonzero, axis):
    if not isinstance(n_nonzero, Integral):
        raise TypeError(f"n_nonzero must be an integer, got {n_nonzero!r}.")
    n_nonzero = int(n_nonzero)
    if axis is not None and not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis={axis} does not exist in an array of shape {tuple(x.shape)}.")
    size = int(np.prod(x.shape)) if axis is None else x.shape[axis]
    if not 0 <= n_nonzero <= size:
        where = "x" if axis is None else f"each slice along axis {axis}"
        raise ValueError(
            f"n_nonzero must be between 0 and the {size} entries of {where}, got {n_nonzero}."
        )
    return n_nonzero
