"""CUDA code of the atom updates of K-SVD: residuals stay in place, one read for a power iteration.

Every block of threads takes the same users of an atom each time and adds them in the same order;
a thread holds its share of a row in registers.
"""

_HELPERS = """
#define FULL 0xffffffffu
typedef long long i64;

// Sums over all threads of a block, of as many numbers as there are.
template <int COUNT>
__device__ void block_sums(REAL* x) {
  __shared__ REAL parts[COUNT][32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  #pragma unroll
  for (int r = 0; r < COUNT; ++r) {
    #pragma unroll
    for (int step = 16; step > 0; step /= 2) x[r] += __shfl_xor_sync(FULL, x[r], step);
    if (lane == 0) parts[r][warp] = x[r];
  }
  __syncthreads();
  #pragma unroll
  for (int r = 0; r < COUNT; ++r) {
    x[r] = 0;
    for (int w = 0; w < THREADS / 32; ++w) x[r] += parts[r][w];
  }
  __syncthreads();
}

// The thread's share of the direction w of an atom; |w| and the product of a and w.
__device__ void direction(const REAL* a, const double* sums, int d, REAL* share, REAL* products) {
  double more = sums[d];
  products[0] = products[1] = 0;
  #pragma unroll
  for (int e = 0; e < EACH; ++e) {
    int m = threadIdx.x + e * THREADS;
    share[e] = m < d ? (REAL)(sums[m] + more * a[m]) : (REAL)0;
    products[0] += share[e] * share[e];
    products[1] += m < d ? share[e] * a[m] : (REAL)0;
  }
  block_sums<2>(products);
  products[0] = sqrt(products[0]);
}
"""

# Parts of R_J^T c and x_J^T c, where c is x_J at the start and E v later.
_ADD = """
extern "C" __global__ void __launch_bounds__(THREADS) add_users(const REAL* R, const REAL* D,
    const i64* starts, const int* rows, const i64* places, const REAL* values, const double* sums,
    REAL* parts, int j, int d, int at_start) {
  const REAL* a = D + (i64)j * d;
  REAL v[EACH], total[EACH], x[TOGETHER], c[TOGETHER], more = 0, overlap = 0;
  #pragma unroll
  for (int e = 0; e < EACH; ++e) total[e] = 0;
  if (!at_start) {
    REAL products[2];
    direction(a, sums, d, v, products);
    REAL inverse = products[0] > 0 ? 1 / products[0] : (REAL)0;
    #pragma unroll
    for (int e = 0; e < EACH; ++e) v[e] *= inverse;
    overlap = products[1] * inverse;
  }
  i64 stop = starts[j + 1];
  for (i64 first = starts[j] + (i64)blockIdx.x * TOGETHER; first < stop;
       first += (i64)gridDim.x * TOGETHER) {
    REAL r[TOGETHER][EACH];
    #pragma unroll
    for (int u = 0; u < TOGETHER; ++u) {
      bool there = first + u < stop;
      const REAL* row = R + (there ? (i64)rows[first + u] * d : 0);
      x[u] = there ? values[places[first + u]] : (REAL)0;
      #pragma unroll
      for (int e = 0; e < EACH; ++e) {
        int m = threadIdx.x + e * THREADS;
        r[u][e] = there && m < d ? row[m] : (REAL)0;
      }
    }
    if (at_start) {
      #pragma unroll
      for (int u = 0; u < TOGETHER; ++u) c[u] = x[u];
    } else {
      #pragma unroll
      for (int u = 0; u < TOGETHER; ++u) {
        c[u] = 0;
        #pragma unroll
        for (int e = 0; e < EACH; ++e) c[u] += r[u][e] * v[e];
      }
      block_sums<TOGETHER>(c);
      #pragma unroll
      for (int u = 0; u < TOGETHER; ++u) c[u] += x[u] * overlap;
    }
    #pragma unroll
    for (int u = 0; u < TOGETHER; ++u) {
      more += c[u] * x[u];
      #pragma unroll
      for (int e = 0; e < EACH; ++e) total[e] += c[u] * r[u][e];
    }
  }
  REAL* part = parts + (i64)blockIdx.x * (d + 1);
  #pragma unroll
  for (int e = 0; e < EACH; ++e) {
    int m = threadIdx.x + e * THREADS;
    if (m < d) part[m] = total[e];
  }
  if (threadIdx.x == 0) part[d] = more;
}
"""

# Sums of the parts: eight warps share the parts of 32 columns.
_COLLECT = """
extern "C" __global__ void collect_parts(const REAL* parts, double* sums, int n_parts, int width) {
  __shared__ double shares[8][32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, m = blockIdx.x * 32 + lane;
  double total = 0;
  if (m < width)
    for (int p = warp; p < n_parts; p += 8) total += parts[(i64)p * width + m];
  shares[warp][lane] = total;
  __syncthreads();
  if (warp == 0 && m < width) {
    for (int w = 1; w < 8; ++w) total += shares[w][lane];
    sums[m] = total;
  }
}
"""

# Write x_J = E v and R_J = E - x_J v, and the new atom beside the old one.
_FINISH = """
extern "C" __global__ void __launch_bounds__(THREADS) finish_atom(REAL* R, const REAL* D,
    REAL* D_new, const i64* starts, const int* rows, const i64* places, REAL* values,
    const double* sums, int j, int d) {
  const REAL* a = D + (i64)j * d;
  REAL v[EACH], old[EACH], products[2];
  direction(a, sums, d, v, products);
  if (!(products[0] > 0)) return;
  REAL inverse = 1 / products[0], overlap = products[1] * inverse;
  #pragma unroll
  for (int e = 0; e < EACH; ++e) {
    int m = threadIdx.x + e * THREADS;
    v[e] *= inverse;
    old[e] = m < d ? a[m] : (REAL)0;
    if (blockIdx.x == 0 && m < d) D_new[(i64)j * d + m] = v[e];
  }
  for (i64 i = starts[j] + blockIdx.x; i < starts[j + 1]; i += gridDim.x) {
    REAL* row = R + (i64)rows[i] * d;
    REAL r[EACH], x = values[places[i]], c[1] = {0};
    #pragma unroll
    for (int e = 0; e < EACH; ++e) {
      int m = threadIdx.x + e * THREADS;
      r[e] = m < d ? row[m] : (REAL)0;
      c[0] += r[e] * v[e];
    }
    block_sums<1>(c);
    REAL now = c[0] + x * overlap;
    #pragma unroll
    for (int e = 0; e < EACH; ++e) {
      int m = threadIdx.x + e * THREADS;
      if (m < d) row[m] = r[e] + (x * old[e] - now * v[e]);
    }
    if (threadIdx.x == 0) values[places[i]] = now;
  }
}
"""

_KERNELS = {"add_users": _ADD, "collect_parts": _COLLECT, "finish_atom": _FINISH}


def atoms_source(name, dtype, threads, each, together):
    """Code of a kernel.

    Parameters
    ----------
    name : str
    dtype : {"float32", "float64"}
    threads : int
        Of a block.
    each : int
        Numbers of a row for each thread.
    together : int
        Rows that are read at the same time.
    """
    real = {"float32": "float", "float64": "double"}[dtype]
    sizes = f"#define THREADS {threads}\n#define EACH {each}\n#define TOGETHER {together}\n"
    return f"#define REAL {real}\n" + sizes + _HELPERS + _KERNELS[name]
