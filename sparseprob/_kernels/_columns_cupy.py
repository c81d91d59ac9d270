"""Launches of the kernels that give one warp to each column: code, workspaces, sums of warps."""

from functools import lru_cache

import cupy
import numpy as np

from ._gp_cuda import column_source

_COMFORTABLE = 48 * 1024  # bytes of shared memory of a block: several blocks fit a multiprocessor
_WARPS = 4  # of a block, if its shared memory allows
_BLOCKS = 16  # of a launch, for each multiprocessor
_SCRATCH = 2**29  # bytes of global memory for columns that do not fit into shared memory


def largest_column(indptr, first, stop):
    """Size of the largest of the columns first, ..., stop - 1."""
    return int((indptr[first + 1 : stop + 1] - indptr[first:stop]).max())


def launch_columns(name, terms, sizes, arguments, *, n_lengthscales=0, n_sums=0):
    """Run a kernel over columns and return what its warps summed, (n_sums,).

    Parameters
    ----------
    name : str
    terms : tuple
        Kinds, variances, shapes and scaled inputs, see `Terms`.
    sizes : tuple of int
        Number of columns, points of the largest, and vectors a warp needs besides inputs.
    arguments : tuple
        Of the kernel, behind those that all of them have.
    n_lengthscales : int
        0 without derivatives.
    """
    kinds, variances, shapes, scaled = terms
    T, n, d = scaled.shape
    n_columns, size, n_rows = sizes
    n_numbers = size * (size + 1) // 2 + (T * d + 1 + n_rows) * (size | 1)
    place = Place(n_numbers, n_columns)
    kinds = tuple(int(kind) for kind in cupy.asnumpy(kinds))
    kernel = _kernel(name, kinds, d, n_lengthscales, place.shared > 0, cupy.cuda.Device().id)
    common = (scaled, variances, shapes, np.int64(n), np.int32(size), np.int32(n_rows))
    return place.run(kernel, (*common, place.scratch, *arguments), n_sums)


class Place:
    """Where warps work: blocks, warps of each, and bytes of shared memory, 0 for global.

    Parameters
    ----------
    n_numbers : int
        Numbers of 8 bytes that a warp works with.
    n_columns : int
    """

    def __init__(self, n_numbers, n_columns):
        n_bytes = 8 * n_numbers
        available, processors = _device_limits(cupy.cuda.Device().id)
        self.warps = _WARPS
        while self.warps > 1 and self.warps * n_bytes > _COMFORTABLE:
            self.warps //= 2
        self.shared = self.warps * n_bytes
        most = _BLOCKS * processors
        if self.shared > available:
            self.shared, self.warps = 0, 1
            most = max(1, min(most, _SCRATCH // n_bytes))
        self.blocks = min(-(-n_columns // self.warps), most)
        self.scratch = cupy.empty(1 if self.shared else self.blocks * self.warps * n_numbers)

    def run(self, kernel, arguments, n_sums=0):
        """Launch a kernel; return the sums over its warps, (n_sums,), if it has any."""
        if self.shared:
            kernel.max_dynamic_shared_size_bytes = self.shared
        grid, block = (self.blocks,), (32 * self.warps,)
        if not n_sums:
            return kernel(grid, block, arguments, shared_mem=self.shared)
        sums = cupy.zeros((self.blocks * self.warps, n_sums))
        kernel(grid, block, (*arguments, sums), shared_mem=self.shared)
        return sums.sum(axis=0)


@lru_cache
def _device_limits(device):
    """Bytes of shared memory that a block can have, and the number of multiprocessors."""
    attributes = cupy.cuda.Device(device).attributes
    return attributes["MaxSharedMemoryPerBlockOptin"], attributes["MultiProcessorCount"]


@lru_cache(maxsize=64)
def _kernel(name, kinds, n_features, n_lengthscales, in_shared, device):
    source = column_source(name, kinds, n_features, n_lengthscales, in_shared)
    return cupy.RawKernel(source, name, options=("-std=c++17",))
