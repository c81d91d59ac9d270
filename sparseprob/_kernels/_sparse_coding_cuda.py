"""CUDA code of batch orthogonal matching pursuit: one block of threads for each row.

A row keeps the inverse K of the Cholesky factor of its atoms' Gram matrix. New atoms append rows to
it, and change coefficients by those rows alone; of what is there, every entry is read twice.
"""

_HELPERS = """
#define FULL 0xffffffffu
#define ROWS 4

__device__ __forceinline__ double warp_sum(double x) {
  #pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(FULL, x, step);
  return x;
}

__device__ __forceinline__ float warp_sum(float x) {
  #pragma unroll
  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(FULL, x, step);
  return x;
}

// The largest of two numbers, the one of the lower place if they are equal.
__device__ __forceinline__ void take_larger(REAL& size, int& place, REAL other, int there) {
  if (other > size || (other == size && there < place)) { size = other; place = there; }
}
"""

# Chosen numbers become zero; a thread looks at its own numbers again when one of them is chosen.
_CHOOSE = """
__device__ int choose(REAL* c, int k, int wanted, REAL floor, int* picks, REAL* found) {
  __shared__ REAL sizes[32];
  __shared__ int places[32];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32, n = 0;
  REAL size = -1;
  int place = k;
  for (int j = threadIdx.x; j < k; j += blockDim.x) take_larger(size, place, fabs(c[j]), j);
  while (n < wanted) {
    REAL best = size;
    int at = place;
    #pragma unroll
    for (int step = 16; step > 0; step /= 2) {
      REAL other = __shfl_xor_sync(FULL, best, step);
      int there = __shfl_xor_sync(FULL, at, step);
      take_larger(best, at, other, there);
    }
    if (lane == 0) { sizes[warp] = best; places[warp] = at; }
    __syncthreads();
    best = sizes[0];
    at = places[0];
    for (int w = 1; w < n_warps; ++w) take_larger(best, at, sizes[w], places[w]);
    if (!(best > floor)) break;
    if (at == place && size >= 0) {  // it is this thread's
      picks[n] = at;
      found[n] = c[at];
      c[at] = 0;
      size = -1;
      place = k;
      for (int j = threadIdx.x; j < k; j += blockDim.x) take_larger(size, place, fabs(c[j]), j);
    }
    ++n;
    __syncthreads();
  }
  __syncthreads();
  return n;
}
"""

# W[i][a] = sum over j <= i of K[i][j] g[a][j]: a warp takes ROWS rows at a time.
_PROJECT = """
__device__ void project(const REAL* K, const REAL* g, int m, int s, REAL* W) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
  for (int first = warp * ROWS; first < m; first += n_warps * ROWS) {
    REAL total[ROWS][P];
    #pragma unroll
    for (int r = 0; r < ROWS; ++r)
      #pragma unroll
      for (int a = 0; a < P; ++a) total[r][a] = 0;
    int stop = min(first + ROWS, m);
    #pragma unroll 2
    for (int j = lane; j < stop; j += 32) {
      REAL x[ROWS];
      #pragma unroll
      for (int r = 0; r < ROWS; ++r)
        x[r] = first + r < m && j <= first + r ? K[(long long)(first + r) * s + j] : (REAL)0;
      #pragma unroll
      for (int a = 0; a < P; ++a) {
        REAL y = g[a * s + j];
        #pragma unroll
        for (int r = 0; r < ROWS; ++r) total[r][a] += x[r] * y;
      }
    }
    #pragma unroll
    for (int r = 0; r < ROWS; ++r)
      #pragma unroll
      for (int a = 0; a < P; ++a) {
        REAL sum = warp_sum(total[r][a]);
        if (lane == 0 && first + r < m) W[(first + r) * P + a] = sum;
      }
  }
}
"""

# Inverse N of the Cholesky factor of M, by one warp; rows of atoms that depend on others are zero.
_FACTOR = """
__device__ void invert_factor(double (*M)[P], double (*N)[P], int n, double dependent, int* slot) {
  int lane = threadIdx.x % 32, kept = 0;
  for (int c = 0; c < n; ++c) {
    bool fine = M[c][c] > dependent;
    double inverse = fine ? 1 / sqrt(M[c][c]) : 0;
    if (lane == 0) slot[c] = fine ? kept : -1;
    kept += fine;
    __syncwarp();
    if (lane >= c && lane < n) M[lane][c] *= inverse;
    __syncwarp();
    if (lane > c && lane < n)
      for (int b = c + 1; b <= lane; ++b) M[lane][b] -= M[lane][c] * M[b][c];
    __syncwarp();
  }
  if (lane < n)  // column `lane` of N
    for (int r = 0; r < n; ++r) {
      double total = r == lane;
      for (int b = lane; b < r; ++b) total -= M[r][b] * N[b][lane];
      N[r][lane] = r >= lane && slot[r] >= 0 ? total / M[r][r] : 0;
    }
  if (lane == 0) slot[P] = kept;
  __syncwarp();
}
"""

_EXTEND = """
extern "C" __global__ void __launch_bounds__(256) extend_codes(const REAL* G, REAL* C,
    const REAL* floors, REAL* K, int* support, int* counts, int* ended, REAL* X, REAL* scratch,
    int n, int k, int s, REAL dependent) {
  __shared__ double M[P][P], N[P][P], z[P];
  __shared__ REAL found[P];
  __shared__ int picks[P], slot[P + 1];
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
  REAL* g = scratch + (long long)blockIdx.x * 2 * P * s;
  REAL* W = g + (long long)P * s;
  for (int t = blockIdx.x; t < n; t += gridDim.x) {
    int m = counts[t], *atoms = support + (long long)t * s;
    if (ended[t] || m == s) continue;
    REAL *c = C + (long long)t * k, *x = X + (long long)t * k, *K_t = K + (long long)t * s * s;
    for (int i = threadIdx.x; i < m; i += blockDim.x) c[atoms[i]] = 0;
    __syncthreads();
    int n_new = choose(c, k, min(P, s - m), floors[t], picks, found);
    for (int a = 0; a < P; ++a)
      for (int i = threadIdx.x; i < m; i += blockDim.x)
        g[a * s + i] = a < n_new ? G[(long long)picks[a] * k + atoms[i]] : (REAL)0;
    __syncthreads();
    project(K_t, g, m, s, W);
    __syncthreads();
    for (int e = warp; e < n_new * n_new; e += n_warps) {
      int a = e / n_new, b = e % n_new;
      if (b > a) continue;
      double total = 0;
      for (int i = lane; i < m; i += 32) total += (double)W[i * P + a] * W[i * P + b];
      total = warp_sum(total);
      if (lane == 0) M[a][b] = G[(long long)picks[a] * k + picks[b]] - total;
    }
    __syncthreads();
    if (warp == 0) {
      invert_factor(M, N, n_new, dependent, slot);
      if (lane < n_new) {
        double total = 0;
        for (int b = 0; b <= lane; ++b) total += N[lane][b] * found[b];
        z[lane] = total;
      }
    }
    __syncthreads();
    append(K_t, W, N, z, slot, n_new, m, s, atoms, x);
    for (int e = threadIdx.x; e < n_new * n_new; e += blockDim.x) {
      int a = e / n_new, b = e % n_new;
      if (b <= a && slot[a] >= 0 && slot[b] >= 0)
        K_t[(long long)(m + slot[a]) * s + m + slot[b]] = (REAL)N[a][b];
    }
    if (threadIdx.x < n_new && slot[threadIdx.x] >= 0) {
      double total = 0;
      for (int b = threadIdx.x; b < n_new; ++b) total += N[b][threadIdx.x] * z[b];
      x[picks[threadIdx.x]] = (REAL)total;
      atoms[m + slot[threadIdx.x]] = picks[threadIdx.x];
    }
    if (threadIdx.x == 0) {
      int kept = n_new ? slot[P] : 0;
      counts[t] = m + kept;
      ended[t] = kept == 0;
    }
    __syncthreads();
  }
}
"""

# New rows -N W^T K of K and what they add to the coefficients: a thread takes a column.
_APPEND = """
__device__ void append(REAL* K, const REAL* W, double (*N)[P], const double* z, const int* slot,
                       int n_new, int m, int s, const int* atoms, REAL* x) {
  for (int first = threadIdx.x / 32 * 32; first < m; first += blockDim.x) {
    int j = first + threadIdx.x % 32;
    REAL total[P];
    #pragma unroll
    for (int a = 0; a < P; ++a) total[a] = 0;
    if (j < m) {
      #pragma unroll 4
      for (int i = first; i < m; ++i) {
        REAL y = i >= j ? K[(long long)i * s + j] : (REAL)0;
        #pragma unroll
        for (int a = 0; a < P; ++a) total[a] += W[i * P + a] * y;
      }
      double change = 0;
      for (int a = 0; a < n_new; ++a) {
        if (slot[a] < 0) continue;
        double value = 0;
        #pragma unroll
        for (int b = 0; b < P; ++b)
          if (b <= a) value -= N[a][b] * total[b];
        K[(long long)(m + slot[a]) * s + j] = (REAL)value;
        change += value * z[a];
      }
      x[atoms[j]] += (REAL)change;
    }
  }
}
"""

# Codes in the order chosen; places that are not needed get the first atoms not chosen.
_COLLECT = """
extern "C" __global__ void collect_codes(int* support, const int* counts, REAL* C, const REAL* X,
                                         REAL* values, int n, int k, int s) {
  for (int t = blockIdx.x; t < n; t += gridDim.x) {
    int m = counts[t], *atoms = support + (long long)t * s;
    REAL* c = C + (long long)t * k;
    for (int i = threadIdx.x; i < m; i += blockDim.x)
      values[(long long)t * s + i] = X[(long long)t * k + atoms[i]];
    if (m == s) continue;
    for (int j = threadIdx.x; j < k; j += blockDim.x) c[j] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < m; i += blockDim.x) c[atoms[i]] = 1;
    __syncthreads();
    if (threadIdx.x == 0)
      for (int i = m, j = 0; i < s; ++j)
        if (c[j] == 0) { values[(long long)t * s + i] = 0; atoms[i++] = j; }
  }
}
"""


def coding_source(name, dtype, n_together):
    """Code of a kernel."""
    code = _CHOOSE + _PROJECT + _FACTOR + _APPEND + _EXTEND if name == "extend_codes" else _COLLECT
    real = {"float32": "float", "float64": "double"}[dtype]
    return f"#define REAL {real}\n#define P {n_together}\n" + _HELPERS + code
