"""Codes with a few atoms from every segment of a dictionary, on a GPU: one warp for each row."""

from functools import lru_cache

import cupy
import numpy as np

_WARPS = 4  # of a block

_CODE = """
#define FULL 0xffffffffu

extern "C" __global__ void update_segment_codes(const REAL* G, REAL* B, int* indices, REAL* values,
                                                int n, int k, int s, int per, int size) {
  int lane = threadIdx.x % 32, row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= n) return;
  REAL* c = B + (long long)row * k;
  int* atoms = indices + (long long)row * s;
  REAL* values_of_row = values + (long long)row * s;
  for (int p = 0; p < s; ++p) {
    const REAL* g = G + (long long)atoms[p] * k;
    REAL x = values_of_row[p];
    for (int a = lane; a < k; a += 32) c[a] -= g[a] * x;
  }
  __syncwarp();
  for (int p = 0; p < s; ++p) {
    int first = p / per * per, start = p / per * size, old = atoms[p];
    const REAL* g_old = G + (long long)old * k;
    REAL x = values_of_row[p], gain = -1;
    int best = -1;
    for (int a = start + lane; a < start + size; a += 32) {
      bool taken = false;
      for (int q = first; q < first + per; ++q) taken |= q != p && atoms[q] == a;
      REAL r = c[a] + g_old[a] * x, square = G[(long long)a * k + a];
      REAL found = square > 0 ? r * r / square : 0;
      if (!taken && (best < 0 || found > gain || (found == gain && a == old))) {
        best = a; gain = found;
      }
    }
    for (int step = 16; step > 0; step /= 2) {
      REAL other_gain = __shfl_xor_sync(FULL, gain, step);
      int other = __shfl_xor_sync(FULL, best, step);
      bool equal = other_gain == gain && best != old && (other == old || other < best);
      if (other >= 0 && (best < 0 || other_gain > gain || equal)) {
        best = other; gain = other_gain;
      }
    }
    const REAL* g_new = G + (long long)best * k;
    REAL square = g_new[best];
    REAL y = square > 0 ? (c[best] + g_old[best] * x) / square : 0;
    __syncwarp();
    for (int a = lane; a < k; a += 32) c[a] += g_old[a] * x - g_new[a] * y;
    if (lane == 0) { atoms[p] = best; values_of_row[p] = y; }
    __syncwarp();
  }
}
"""


def update_segment_codes(G, B, indices, values, n_per_segment):
    """One pass of coordinate descent over the positions of every code, in place; see the twin."""
    (n, s), k = indices.shape, len(G)
    sizes = (np.int32(x) for x in (n, k, s, n_per_segment, k * n_per_segment // s))
    blocks = -(-n // _WARPS)
    _kernel(B.dtype.name)((blocks,), (32 * _WARPS,), (G, B, indices, values, *sizes))


@lru_cache(maxsize=2)
def _kernel(dtype):
    real = {"float32": "float", "float64": "double"}[dtype]
    return cupy.RawKernel(_CODE.replace("REAL", real), "update_segment_codes")
