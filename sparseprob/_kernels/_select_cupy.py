"""Selection of the largest entries of rows on the GPU, without sorting them."""

import cupy

_count = cupy.ReductionKernel(
    "T x, T bound", "int64 n", "x >= bound", "a + b", "n = a", "0", "count_at_least"
)


def nth_largest(moduli, n):
    """Return the n-th largest entry of each row, of shape (T, 1).

    Floating-point numbers that are not negative are ordered as the integers of the same bits: the
    answer is found bit by bit, each by one pass that counts.

    Parameters
    ----------
    moduli : C-contiguous float32 or float64 array of shape (T, N)
        Not negative, but for -1, which comes last.
    n : int
        From 1 to N.
    """
    kind = cupy.int32 if moduli.dtype == cupy.float32 else cupy.int64
    bits = moduli.view(kind)
    found = cupy.zeros((len(moduli), 1), dtype=kind)
    enough = _count(bits, found, axis=1)[:, None] >= n
    for place in range(8 * bits.itemsize - 2, -1, -1):
        raised = found | kind(1 << place)
        found = cupy.where(_count(bits, raised, axis=1)[:, None] >= n, raised, found)
    return cupy.where(enough, found.view(moduli.dtype), moduli.dtype.type(-1))
