"""Steps of projected gradient descent on all rows of a weight, on a GPU; see the Numba twin.

One block of threads takes a row, so that its sums need no second pass.
"""

from functools import lru_cache

import cupy
import numpy as np

_THREADS = 256
_SUM = """
__device__ double sum_of_block(double x) {
  __shared__ double parts[THREADS];
  parts[threadIdx.x] = x;
  __syncthreads();
  for (int half = THREADS / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    __syncthreads();
  }
  return parts[0];
}
""".replace("THREADS", str(_THREADS))
_ASCEND = """
extern "C" __global__ void ascend(const REAL* V, const REAL* D, REAL* G, double step,
                                  double* losses, int d) {
  long long row = (long long)blockIdx.x * d;
  REAL eta = (REAL)step;
  double total = 0;
  for (int j = threadIdx.x; j < d; j += blockDim.x) {
    REAL g = G[row + j];
    total += (double)(g * D[row + j]);
    G[row + j] = V[row + j] + eta * g;
  }
  total = sum_of_block(total);
  if (threadIdx.x == 0) losses[blockIdx.x] = total;
}
"""
_TAKE = """
extern "C" __global__ void take(const REAL* W, const REAL* Z, const bool* mask, REAL* V, REAL* D,
                                double* changes, int d) {
  long long row = (long long)blockIdx.x * d;
  double total = 0;
  for (int j = threadIdx.x; j < d; j += blockDim.x) {
    REAL z = mask[row + j] ? Z[row + j] : (REAL)0;
    REAL change = z - V[row + j];
    total += (double)(change * change);
    V[row + j] = z;
    D[row + j] = W[row + j] - z;
  }
  total = sum_of_block(total);
  if (threadIdx.x == 0) changes[blockIdx.x] = total;
}
"""
_KEEP = """
extern "C" __global__ void keep_better(const REAL* V, const double* losses, REAL* best,
                                       double* best_losses, int d) {
  long long row = (long long)blockIdx.x * d;
  bool better = losses[blockIdx.x] < best_losses[blockIdx.x];
  __syncthreads();
  if (!better) return;
  if (threadIdx.x == 0) best_losses[blockIdx.x] = losses[blockIdx.x];
  for (int j = threadIdx.x; j < d; j += blockDim.x) best[row + j] = V[row + j];
}
"""


def ascend(V, D, G, step, losses):
    """Losses of the rows, and V + step * G in G."""
    arguments = (V, D, G, np.float64(step), losses, np.int32(V.shape[1]))
    _kernel("ascend", V)((len(V),), (_THREADS,), arguments)


def take(W, Z, mask, V, D, changes):
    """V = Z on the mask, D = W - V; squared changes of the rows."""
    arguments = (W, Z, mask, V, D, changes, np.int32(V.shape[1]))
    _kernel("take", V)((len(V),), (_THREADS,), arguments)


def keep_better(V, losses, best, best_losses):
    """Copy the rows of V whose loss is below that of the best so far."""
    arguments = (V, losses, best, best_losses, np.int32(V.shape[1]))
    _kernel("keep_better", V)((len(V),), (_THREADS,), arguments)


@lru_cache(maxsize=8)
def _compiled(name, real):
    code = _SUM + {"ascend": _ASCEND, "take": _TAKE, "keep_better": _KEEP}[name]
    return cupy.RawKernel(code.replace("REAL", real), name)


def _kernel(name, V):
    return _compiled(name, "float" if V.dtype == np.float32 else "double")


def prune_columns(W, kept, U, n, m, scale, zero, top, errors):
    """Prune and round columns of W from left to right; see the twin on the CPU."""
    scales, inverse = U.diagonal(), 1 / U.diagonal()
    for j in range(W.shape[1]):
        if m > 0 and j % m == 0:
            kept[:, j : j + m] = _best_of(abs(W[:, j : j + m] / scales[j : j + m]), n)
        values = W[:, j]
        if top > 0:
            codes = cupy.clip(cupy.rint(values / scale[:, j]) + zero[:, j], 0, top)
            values = (codes - zero[:, j]) * scale[:, j]
        values = values * kept[:, j]
        errors[:, j] = (W[:, j] - values) * inverse[j]
        W[:, j] = values
        W[:, j + 1 :] -= errors[:, j : j + 1] * U[j, j + 1 :]


def _best_of(scores, n):
    """Mask of the n largest of a few columns; of equal ones the first."""
    more = scores[:, None, :] > scores[:, :, None]
    places = cupy.arange(scores.shape[1])
    ties = (scores[:, None, :] == scores[:, :, None]) & (places < places[:, None])
    return (more | ties).sum(axis=2) < n
