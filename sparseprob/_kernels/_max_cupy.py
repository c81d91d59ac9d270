"""Truncated posteriors of models whose causes combine by a maximum, on a GPU.

One warp per point; see ``_max_cuda`` for the code. Twin of ``_max_numba``.
"""

from functools import lru_cache

import cupy
import numpy as np

from ._max_cuda import THREADS, WARPS, excess_source, source_of
from ._max_numba import depth_first
from ._superpositions import SOFT

_REAL = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
_SEGMENT = 2**20  # points of a launch
_SUM_BITS = 62  # of the fixed-point sums over a launch, which do not depend on their order
_SCRATCH_BYTES, _MOST_BLOCKS = 2**30, 4096


def excess_scores(Y, W):
    """Score causes by how far they exceed the data; see the twin on the CPU."""
    Y, W = (cupy.ascontiguousarray(A, dtype=Y.dtype) for A in (Y, W))
    (n, D), H = Y.shape, len(W)
    scores = cupy.empty((n, H), dtype=Y.dtype)
    if n:
        grid = (-(-n // 64), -(-H // 64))
        arguments = (Y, W, np.int64(n), np.int32(H), np.int32(D), scores)
        _excess(_REAL[Y.dtype], cupy.cuda.Device().id)(grid, (16, 16), arguments)
    return scores


def truncated_posterior(problem, singles, candidates, table, *, num=None, den=None, mean=None):
    """Posterior over the null state, all singletons and the table; see the twin on the CPU."""
    (n, H), dtype, D = singles.shape, singles.dtype, problem.data.shape[1]
    log_norm, mean_energy = cupy.empty(n), cupy.empty(n)
    alone, marginals = cupy.empty((n, H), dtype), cupy.empty((n, H), dtype)
    gathers, averages = num is not None, mean is not None
    largest = float(abs(problem.data).max()) if gathers and n else 1.0
    launch = _launcher(problem, table, dtype, gathers, averages)
    for start in range(0, n, _SEGMENT):
        stop = min(start + _SEGMENT, n)
        sums = cupy.zeros((2, H, D) if gathers else (2, 1, 1), dtype=cupy.int64)
        unit = 2.0 ** ((stop - start - 1).bit_length() - _SUM_BITS)
        units = np.array([max(largest, np.finfo(dtype).tiny), 1.0]) * unit
        launch(
            problem, singles, candidates, start, stop,
            (*map(np.float64, 1 / units), sums, mean if averages else sums,
             log_norm, mean_energy, alone, marginals),
        )  # fmt: skip
        if gathers:
            num += sums[0] * units[0]
            den += sums[1] * units[1]
    return log_norm, mean_energy, alone, marginals


def state_energies(problem, singles, candidates, table):
    """Energies (1 + H + S, n) of all states; see the twin on the CPU."""
    (n, H), S = singles.shape, len(table.length)
    energies = cupy.zeros((1 + H + S, n), dtype=singles.dtype)
    energies[1 : 1 + H] = singles.T
    if S and n:
        found = cupy.empty((n, S), dtype=singles.dtype)
        kernel = _kernel("energies", *_sizes(problem, table, singles.dtype), False, False)
        arguments = _arguments(problem, singles, candidates, 0, n)
        kernel((min(-(-n // WARPS), _MOST_BLOCKS),), (THREADS,), (*arguments, found))
        energies[1 + H + cupy.asarray(depth_first(table)[-1])] = found.T
    return energies


# ---------------------------------------------------------------- compilation
@lru_cache(maxsize=16)
def _excess(real, device):
    return cupy.RawKernel(excess_source(real), "excess")


def _sizes(problem, table, dtype):
    """What the code of a kernel depends on."""
    return problem.kind, table.n_candidates, table.max_active, len(table.length), _REAL[dtype]


@lru_cache(maxsize=64)
def _compiled(name, kind, C, G, S, real, gathers, averages, device):
    source = source_of(name, kind, C, G, S, real, gathers, averages)
    return cupy.RawKernel(source, name, options=("--std=c++11",))


def _kernel(name, *sizes):
    return _compiled(name, *sizes, cupy.cuda.Device().id)


def _arguments(problem, singles, candidates, start, stop):
    """Arguments that both kernels share, contiguous and of the types they expect."""
    dtype = singles.dtype
    Y, half, scale, singles = (
        cupy.ascontiguousarray(A, dtype=dtype)
        for A in (problem.data, problem.half, problem.scale, singles)
    )
    row_type = np.float64 if problem.kind == SOFT else dtype
    rows, reach = (cupy.ascontiguousarray(A, dtype=row_type) for A in (problem.rows, problem.reach))
    (n, D), H = Y.shape, singles.shape[1]
    return (
        Y, half, np.int64(D if len(half) > 1 else 0), rows, reach, scale,
        np.float64(problem.exponent), np.float64(problem.precision), np.float64(problem.bonus),
        singles, cupy.ascontiguousarray(candidates, dtype=np.int32),
        np.int32(H), np.int32(D), np.int64(n), np.int64(start), np.int64(stop),
    )  # fmt: skip


def _launcher(problem, table, dtype, gathers, averages):
    """A function that launches the posterior kernel with as many warps as the scratch allows."""
    kernel = _kernel("posterior", *_sizes(problem, table, dtype), gathers, averages)
    S = max(1, len(table.length))
    fitting = max(1, _SCRATCH_BYTES // (S * np.dtype(dtype).itemsize * WARPS))
    members = cupy.asarray(np.ascontiguousarray(table.members[depth_first(table)[-1]]))

    def launch(problem, singles, candidates, start, stop, outputs):
        n_blocks = min(-(-(stop - start) // WARPS), fitting, _MOST_BLOCKS)
        scratch = cupy.empty(S * n_blocks * WARPS, dtype=dtype)
        arguments = _arguments(problem, singles, candidates, start, stop)
        kernel((n_blocks,), (THREADS,), (*arguments, *outputs, members, scratch))

    return launch
