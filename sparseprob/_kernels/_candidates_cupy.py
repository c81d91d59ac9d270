"""Candidates of sparse bandits on a GPU: covariances with a dictionary, and one kernel a pick.

Twin of ``_candidates_numba``; leverages are brought up to date everywhere, not where needed.
"""

from functools import lru_cache

import cupy
import numpy as np

from ._candidates_numba import FLOOR, SPLIT

_THREADS = 256
_WARPS = 32  # of a multiprocessor, that share out the candidates

_CODE = """
typedef long long i64;
#define WARP ((i64)(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32))
#define N_WARPS ((i64)(gridDim.x * (blockDim.x / 32)))
#define LANE ((int)(threadIdx.x % 32))

// Variance times correlation at squared scaled distance r2; kinds as in _covariance_numba.
__device__ __forceinline__ double correlation(i64 kind, double shape, double r2) {
  if (kind == 3) return exp(-0.5 * r2);
  if (kind == 4) return exp(-shape * log1p(0.5 * r2 / shape));
  double r = sqrt((double)(2 * kind + 1) * r2), e = exp(-r);
  if (kind == 0) return e;
  if (kind == 1) return (1 + r) * e;
  return (1 + r + r * r * (1.0 / 3.0)) * e;
}

__device__ __forceinline__ double covariance(const double* x, const double* inverse,
    const double* D, const i64* kinds, const double* variances, const double* shapes,
    i64 terms, i64 d, i64 m, i64 j) {
  double total = 0;
  for (i64 t = 0; t < terms; ++t) {
    double r2 = 0;
    for (i64 f = 0; f < d; ++f) {
      double gap = x[f] * inverse[t * d + f] - D[(t * d + f) * m + j];
      r2 += gap * gap;
    }
    total += variances[t] * correlation(kinds[t], shapes[t], r2);
  }
  return total;
}

__device__ __forceinline__ double warp_sum(double v) {
  for (int k = 16; k > 0; k /= 2) v += __shfl_xor_sync(0xffffffffu, v, k);
  return v;
}

// Keep the larger of two candidates, of equals the one of the lower row.
__device__ __forceinline__ void keep_best(double& value, double& row, double v, double r) {
  if (v > value || (v == value && r < row)) { value = v; row = r; }
}

extern "C" __global__ void rows(const double* X, const i64* kinds, const double* variances,
    const double* shapes, const double* inverse, const double* D, double* out, i64 n, i64 terms,
    i64 d, i64 m) {
  i64 step = (i64)gridDim.x * blockDim.x;
  for (i64 e = (i64)blockIdx.x * blockDim.x + threadIdx.x; e < n * m; e += step)
    out[e] = covariance(X + e / m * d, inverse, D, kinds, variances, shapes, terms, d, m, e % m);
}

extern "C" __global__ void times(const double* X, const i64* kinds, const double* variances,
    const double* shapes, const double* inverse, const double* D, const double* V, double* out,
    i64 n, i64 terms, i64 d, i64 m, i64 k) {
  for (i64 i = WARP; i < n; i += N_WARPS) {
    double sum[4] = {0, 0, 0, 0};
    for (i64 j = LANE; j < m; j += 32) {
      double c = covariance(X + i * d, inverse, D, kinds, variances, shapes, terms, d, m, j);
      for (i64 a = 0; a < k; ++a) sum[a] += c * V[a * m + j];
    }
    for (i64 a = 0; a < k; ++a) {
      double total = warp_sum(sum[a]);
      if (LANE == 0) out[i * k + a] = total;
    }
  }
}

// Each warp takes a range of rows: (w'u)^2 off leverages, bounds anew, the best of the range.
extern "C" __global__ void advance(const REAL* W, const double* u, double* leverage,
    const double* mean, double* bounds, double* found, double beta, i64 n, i64 stride, i64 m) {
  i64 size = (n + N_WARPS - 1) / N_WARPS, stop = min((WARP + 1) * size, n);
  double value = -1e308, row = 9e15;
  for (i64 i = WARP * size; i < stop; ++i) {
    double t = 0;
    for (i64 j = LANE; j < m; j += 32) t += (double)W[i * stride + j] * u[j];
    t = warp_sum(t);
    double s = max(leverage[i] - t * t, FLOOR);
    double x = mean[i] + beta * sqrt(s), c = __dmul_rn(x, SPLIT);
    x = __dadd_rn(c, -__dadd_rn(c, -x));  // 31 bits
    if (LANE == 0) { leverage[i] = s; bounds[i] = x; }
    keep_best(value, row, x, (double)i);
  }
  if (LANE == 0) { found[2 * WARP] = value; found[2 * WARP + 1] = row; }
}

extern "C" __global__ void best_of(const double* found, double* best, i64 n) {
  double value = -1e308, row = 9e15;
  for (i64 i = LANE; i < n; i += 32) keep_best(value, row, found[2 * i], found[2 * i + 1]);
  for (int k = 16; k > 0; k /= 2) {
    double v = __shfl_xor_sync(0xffffffffu, value, k), r = __shfl_xor_sync(0xffffffffu, row, k);
    keep_best(value, row, v, r);
  }
  if (LANE == 0) { best[0] = value; best[1] = row; }
}
""".replace("SPLIT", repr(float(SPLIT))).replace("FLOOR", repr(FLOOR))


@lru_cache(maxsize=16)
def _kernel(name, real="double"):
    return cupy.RawKernel(_CODE.replace("REAL", real), name)


@lru_cache(maxsize=1)
def _n_warps():
    return _WARPS * cupy.cuda.Device().attributes["MultiProcessorCount"]


def _blocks(n_warps):
    """Blocks of so many warps, no more than share out the work of this GPU."""
    return (max(1, min(n_warps, _n_warps()) * 32 // _THREADS),)


def covariance_rows(X, kinds, variances, shapes, inverse, D, out):
    """Write the covariances of rows X (n, d) with the dictionary into out (n, m)."""
    n, m = out.shape
    sizes = (np.int64(v) for v in (n, *inverse.shape, m))
    arguments = (X, kinds, variances, shapes, inverse, D, out, *sizes)
    if out.size:
        _kernel("rows")((min(-(-out.size // _THREADS), 2**20),), (_THREADS,), arguments)


def covariance_times(X, kinds, variances, shapes, inverse, D, V, out):
    """Write the products of covariances of rows with the rows of V (k, m), k up to 4."""
    n, k = out.shape
    sizes = (np.int64(v) for v in (n, *inverse.shape, V.shape[1], k))
    arguments = (X, kinds, variances, shapes, inverse, D, V, out, *sizes)
    if n:
        _kernel("times")((min(-(-n * 32 // _THREADS), 2**20),), (_THREADS,), arguments)


def leverages(W, ratios, prior, out):
    """Write leverages of rows W (n, m): what the prior has beyond the embedding, and w'w."""
    squares = W * W
    rest = cupy.maximum(prior - squares @ ratios, 0.0)
    out[...] = cupy.maximum(rest + squares.sum(axis=1), FLOOR)


def upper_bounds(mean, leverage, beta, out):
    """Write the bounds that candidates are compared by."""
    x = mean + beta * cupy.sqrt(leverage)
    c = x * SPLIT
    out[...] = c - (c - x)


def top(values):
    """Return the row of the largest value, the first of them."""
    return int(cupy.argmax(values))


def advance(W, u, leverage, mean, beta, bounds):
    """Take (w'u)^2 off the leverages, write new bounds; return the best row and its bound.

    Of W (n, capacity), float32 or float64, the first m columns count; u is (m,).
    """
    real = "float" if W.dtype == np.float32 else "double"
    grid = _blocks(len(W))
    n_warps = grid[0] * (_THREADS // 32)
    found, best = cupy.empty(2 * n_warps), cupy.empty(2)
    sizes = (np.int64(v) for v in (*W.shape, len(u)))
    arguments = (W, u, leverage, mean, bounds, found, float(beta), *sizes)
    _kernel("advance", real)(grid, (_THREADS,), arguments)
    _kernel("best_of")((1,), (32,), (found, best, np.int64(n_warps)))
    value, row = cupy.asnumpy(best).tolist()
    return int(row), value
