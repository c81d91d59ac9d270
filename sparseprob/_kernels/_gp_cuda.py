"""CUDA code of the columns of sparse inverse Cholesky factors: one warp per column.

A warp keeps the packed lower triangle of the covariance of its points in shared memory (or in
global memory, where that is too small), factors it and solves with it; the diagonal of a factor is
stored inverted. Sums over columns stay in registers of their warp, so that their order is fixed.
"""

from ._response_cuda import PREDICT, RESPONSE

_WARP = """
#define FULL 0xffffffffu
#define PAIRS(p) ((p) * ((p) + 1) / 2)
typedef long long i64;

__device__ __forceinline__ double warp_sum(double x) {
  #pragma unroll
  for (int k = 16; k > 0; k /= 2) x += __shfl_xor_sync(FULL, x, k);
  return x;
}

// Place of number q of a packed lower triangle.
__device__ __forceinline__ void find_pair(int q, int& a, int& b) {
  a = (int)((sqrtf(8.0f * q + 1.0f) - 1.0f) * 0.5f);
  while (PAIRS(a) > q) --a;
  while (PAIRS(a + 1) <= q) ++a;
  b = q - PAIRS(a);
}

// What a warp works in: packed triangle, inputs, nuggets, vectors of `stride` numbers.
struct Space { double *K, *x, *nuggets, *rows; int stride; };

#define COMMON const double* scaled, const double* variances, const double* shapes, i64 n, \\
               int size, int n_rows, double* scratch
#define OPEN \\
  const int lane = threadIdx.x % 32; \\
  const i64 warp = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 32; \\
  const i64 n_warps = (i64)gridDim.x * blockDim.x / 32; \\
  const Space s = open(size, n_rows, scratch, warp);

__device__ __forceinline__ Space open(int size, int n_rows, double* scratch, i64 warp) {
  Space s;
  s.stride = size | 1;  // odd: no two of 16 vectors start in the same bank
  i64 length = PAIRS((i64)size) + (i64)(TERMS * FEATURES + 1 + n_rows) * s.stride;
  #if IN_SHARED
  extern __shared__ double shared[];
  s.K = shared + (threadIdx.x / 32) * length;
  #else
  s.K = scratch + warp * length;
  #endif
  s.x = s.K + PAIRS(size);
  s.nuggets = s.x + TERMS * FEATURES * s.stride;
  s.rows = s.nuggets + s.stride;
  return s;
}
"""

_COVARIANCE = """
// Correlation at squared distance r2, -2 times its derivative by r2, and that by the log shape.
__device__ __forceinline__ double radial(int kind, double shape, double r2, double& slope,
                                         double& by_shape) {
  by_shape = 0;
  if (kind == 3) return slope = exp(-0.5 * r2);
  if (kind == 4) {
    double t = 0.5 * r2 / shape, log_share = log1p(t), phi = exp(-shape * log_share);
    slope = phi / (1 + t);
    by_shape = shape * phi * (t / (1 + t) - log_share);
    return phi;
  }
  double r = sqrt((2 * kind + 1) * r2), e = exp(-r);
  if (kind == 0) {
    slope = e / max(r, 1e-150);  // anything serves at distance zero, which multiplies it
    return e;
  }
  if (kind == 1) {
    slope = 3 * e;
    return (1 + r) * e;
  }
  slope = (5.0 / 3.0) * (1 + r) * e;
  return (1 + r + r * r * (1.0 / 3.0)) * e;
}

__device__ __forceinline__ double squared_distance(const Space& s, int t, int a, int b) {
  double r2 = 0;
  #pragma unroll
  for (int k = 0; k < FEATURES; ++k) {
    const double* x = s.x + (t * FEATURES + k) * s.stride;
    double gap = x[a] - x[b];
    r2 += gap * gap;
  }
  return r2;
}

__device__ __forceinline__ void gather(const Space& s, const double* scaled, i64 n, i64 i, int a) {
  #pragma unroll
  for (int t = 0; t < TERMS; ++t)
    #pragma unroll
    for (int k = 0; k < FEATURES; ++k)
      s.x[(t * FEATURES + k) * s.stride + a] = scaled[(t * n + i) * FEATURES + k];
}

// Inputs and nuggets of the points of a column, of which the first n_noisy of all have noise.
__device__ __forceinline__ void gather_column(const Space& s, const double* scaled, i64 n,
    const int* points, int p, double noise, double nugget, i64 n_noisy, int lane) {
  for (int a = lane; a < p; a += 32) {
    i64 i = points[a];
    gather(s, scaled, n, i, a);
    s.nuggets[a] = i < n_noisy ? noise : nugget;
  }
  __syncwarp();
}

__device__ __forceinline__ void covariances(const Space& s, int p, double jitter,
    const double* variances, const double* shapes, int lane) {
  for (int q = lane; q < PAIRS(p); q += 32) {
    int a, b;
    find_pair(q, a, b);
    double total = a == b ? s.nuggets[a] + jitter : 0, slope, by_shape;
    #pragma unroll
    for (int t = 0; t < TERMS; ++t)
      total += variances[t]
               * radial(KIND(t), shapes[t], squared_distance(s, t, a, b), slope, by_shape);
    s.K[q] = total;
  }
  __syncwarp();
}
"""

_SOLVES = """
// Factor in place; lane l takes rows b + l, b + l + 32, ... of column b.
__device__ __forceinline__ void cholesky(double* K, int p, int lane) {
  for (int b = 0; b < p; ++b) {
    const double* row = K + PAIRS(b);
    double inverse = 0;
    for (int first = b; first < p; first += 32) {
      int a = first + lane;
      double* own = K + PAIRS(min(a, p - 1));
      double value = own[b];
      #pragma unroll 4
      for (int k = 0; k < b; ++k) value -= own[k] * row[k];
      if (first == b) inverse = rsqrt(__shfl_sync(FULL, value, 0));
      __syncwarp();
      if (a < p) own[b] = a == b ? inverse : value * inverse;
    }
    __syncwarp();
  }
}

// Factor the covariance of a column, with ten times more jitter as long as that fails. Returns how
// often it grew; -1 if even the largest failed.
__device__ __forceinline__ int factor(const Space& s, int p, int n_checked,
    const double* variances, const double* shapes, int lane) {
  double variance = 0;
  for (int t = 0; t < TERMS; ++t) variance += variances[t];
  double nugget = max(s.nuggets[max(p - 2, 0)], s.nuggets[p - 1]);
  double step = max(nugget, 1e-10 * variance), jitter = 0;
  double limit = 1 / sqrt(1e-15 * (variance + nugget));  // beyond, a pivot is but rounding
  for (int tried = 0; ; ++tried) {
    covariances(s, p, jitter, variances, shapes, lane);
    cholesky(s.K, p, lane);
    bool fine = true;
    for (int a = lane; a < n_checked; a += 32) fine = fine && s.K[PAIRS(a) + a] < limit;
    if (__all_sync(FULL, fine)) return tried;
    jitter = step *= 10;
    if (jitter > 1e-3 * variance) return -1;
  }
}

// Solve L z = x in place for N vectors.
template <int N>
__device__ __forceinline__ void solve_lower(const Space& s, int p, double* x, int lane) {
  for (int c = 0; c < p - 1; ++c) {
    double inverse = s.K[PAIRS(c) + c];
    for (int a = c + 1 + lane; a < p; a += 32) {
      double factor = s.K[PAIRS(a) + c] * inverse;
      #pragma unroll
      for (int k = 0; k < N; ++k) x[k * s.stride + a] -= factor * x[k * s.stride + c];
    }
    __syncwarp();
  }
  for (int a = lane; a < p; a += 32)
    for (int k = 0; k < N; ++k) x[k * s.stride + a] *= s.K[PAIRS(a) + a];
  __syncwarp();
}

// Solve L^T z = x in place.
__device__ __forceinline__ void solve_upper(const Space& s, int p, double* x, int lane) {
  for (int c = p - 1; c > 0; --c) {
    double value = x[c] * s.K[PAIRS(c) + c];
    for (int a = lane; a < c; a += 32) x[a] -= s.K[PAIRS(c) + a] * value;
    __syncwarp();
  }
  for (int a = lane; a < p; a += 32) x[a] *= s.K[PAIRS(a) + a];
  __syncwarp();
}

// The column of the inverse factor, L^-T e_last.
__device__ __forceinline__ void write_column(const Space& s, int p, double* u, int lane) {
  for (int a = lane; a < p; a += 32) u[a] = a == p - 1;
  __syncwarp();
  solve_upper(s, p, u, lane);
}
"""

_FACTOR = """
extern "C" __global__ void posterior_columns(COMMON, double noise, double nugget, i64 n_noisy,
    const i64* indptr, const int* indices, i64 first, i64 stop, double* data,
    signed char* failed) {
  OPEN
  for (i64 j = first + warp; j < stop; j += n_warps) {
    int p = (int)(indptr[j + 1] - indptr[j]);
    gather_column(s, scaled, n, indices + indptr[j], p, noise, nugget, n_noisy, lane);
    int tried = factor(s, p, p, variances, shapes, lane);
    write_column(s, p, s.rows, lane);
    for (int a = lane; a < p; a += 32) data[indptr[j] + a] = s.rows[a];
    if (lane == 0) failed[j] = (signed char)tried;
    __syncwarp();
  }
}
"""

_GRADIENT = """
extern "C" __global__ void column_gradients(COMMON, double nugget, const i64* indptr,
    const int* indices, i64 first, i64 stop, const double* dU, double* sums) {
  OPEN
  double *u = s.rows, *r = s.rows + s.stride, sum[N_ACTIVE];
  #pragma unroll
  for (int k = 0; k < N_ACTIVE; ++k) sum[k] = 0;
  for (i64 j = first + warp; j < stop; j += n_warps) {
    int p = (int)(indptr[j + 1] - indptr[j]);
    gather_column(s, scaled, n, indices + indptr[j], p, nugget, nugget, n, lane);
    factor(s, p, p, variances, shapes, lane);
    write_column(s, p, u, lane);
    double total = 0;
    for (int a = lane; a < p; a += 32) {
      r[a] = dU[indptr[j] + a];
      total += r[a] * u[a];
    }
    total = warp_sum(total);  // r = K^-1 (g - (g.u) e_last / (2 u_last))
    __syncwarp();
    if (lane == 0) r[p - 1] -= 0.5 * total / u[p - 1];
    __syncwarp();
    solve_lower<1>(s, p, r, lane);
    solve_upper(s, p, r, lane);
    for (int q = lane; q < PAIRS(p); q += 32) {
      int a, b;
      find_pair(q, a, b);
      double weight = r[a] * u[b] + (a == b ? 0.0 : r[b] * u[a]), slope, by_shape;
      #pragma unroll
      for (int t = 0; t < TERMS; ++t) {
        double r2 = squared_distance(s, t, a, b), scale = -weight * variances[t];
        sum[PLACE(t)] += scale * radial(KIND(t), shapes[t], r2, slope, by_shape);
        #if LENGTHSCALES == 1
        sum[PLACE(t) + 1] += scale * slope * r2;
        #else
        #pragma unroll
        for (int k = 0; k < LENGTHSCALES; ++k) {
          const double* x = s.x + (t * FEATURES + k) * s.stride;
          sum[PLACE(t) + 1 + k] += scale * slope * (x[a] - x[b]) * (x[a] - x[b]);
        }
        #endif
        if (KIND(t) == 4) sum[PLACE(t) + 1 + LENGTHSCALES] += scale * by_shape;
      }
    }
    __syncwarp();
  }
  #pragma unroll
  for (int k = 0; k < N_ACTIVE; ++k) {
    double total = warp_sum(sum[k]);
    if (lane == 0) sums[warp * N_ACTIVE + k] = total;
  }
}
"""

_KERNELS = {
    "posterior_columns": _FACTOR,
    "column_gradients": _GRADIENT,
    "response_columns": RESPONSE,
    "predict_columns": PREDICT,
}


def active_parameters(kinds, n_lengthscales):
    """Numbers of the parameters of T (n_lengthscales + 2) that exist: only some have shapes."""
    width = n_lengthscales + 2
    return [
        t * width + k
        for t, kind in enumerate(kinds)
        for k in range(width)
        if k < width - 1 or kind == 4
    ]


def column_source(name, kinds, n_features, n_lengthscales, in_shared):
    """Code of a kernel for terms of these kinds; n_lengthscales is 0 without derivatives."""
    n_lengths = max(n_lengthscales, 1)
    places = [0]
    for kind in kinds:
        places.append(places[-1] + n_lengths + 1 + (kind == 4))
    defines = {
        "TERMS": len(kinds), "FEATURES": n_features, "LENGTHSCALES": n_lengths,
        "N_ACTIVE": places[-1], "N_RESPONSE": places[-1] + 2 if n_lengthscales else 1,
        "IN_SHARED": int(in_shared), "KIND(t)": _choose(kinds), "PLACE(t)": _choose(places[:-1]),
    }  # fmt: skip
    head = "".join(f"#define {word} {value}\n" for word, value in defines.items())
    return head + _WARP + _COVARIANCE + _SOLVES + _KERNELS[name]


def _choose(values):
    """Return an expression in t that the compiler folds."""
    code = str(values[-1])
    for t in range(len(values) - 2, -1, -1):
        code = f"((t) == {t} ? {values[t]} : {code})"
    return code
