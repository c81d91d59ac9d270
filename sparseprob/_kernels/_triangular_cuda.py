"""CUDA code of solves with sparse triangular factors and of incomplete factors.

One warp per column or row. Warps draw their columns from a counter, in the order of substitution,
so that a column waits for columns of running warps only (Liu et al., 2016).
"""

_WARP = """
typedef long long i64;
#define FULL 0xffffffffu

__device__ __forceinline__ double warp_sum(double x) {
  #pragma unroll
  for (int k = 16; k > 0; k /= 2) x += __shfl_xor_sync(FULL, x, k);
  return x;
}

#define OPEN \\
  const int lane = threadIdx.x % 32; \\
  const i64 warp = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 32; \\
  const i64 n_warps = (i64)gridDim.x * blockDim.x / 32;

// The next column that is due, for all lanes.
__device__ __forceinline__ int draw(int* counter, int lane) {
  int number = lane == 0 ? atomicAdd(counter, 1) : 0;
  return __shfl_sync(FULL, number, 0);
}

__device__ __forceinline__ void wait_until_zero(const int* number) {
  while (*(volatile const int*)number != 0) {}
  __threadfence();
}
"""

_PRODUCTS = """
extern "C" __global__ void compressed_products(const i64* indptr, const int* indices,
    const double* data, const double* x, i64 n, double* out) {
  OPEN
  for (i64 j = warp; j < n; j += n_warps) {
    double total = 0;
    for (i64 e = indptr[j] + lane; e < indptr[j + 1]; e += 32) total += data[e] * x[indices[e]];
    total = warp_sum(total);
    if (lane == 0) out[j] = total;
  }
}
"""

# x[j] is final as soon as no column behind j still has to take its part off it.
_SOLVE = """
extern "C" __global__ void solve(const i64* indptr, const int* indices, const double* data, int n,
                                 double* x, int* pending, int* counter) {
  OPEN
  for (int j = n - 1 - draw(counter, lane); j >= 0; j = n - 1 - draw(counter, lane)) {
    i64 last = indptr[j + 1] - 1;
    wait_until_zero(pending + j);
    double value = __ldcg(x + j) / data[last];
    __syncwarp();
    if (lane == 0) x[j] = value;
    for (i64 e = indptr[j] + lane; e < last; e += 32) {
      atomicAdd(x + indices[e], -data[e] * value);
      __threadfence();
      atomicAdd(pending + indices[e], -1);
    }
  }
}
"""

_SOLVE_TRANSPOSED = """
extern "C" __global__ void solve_transposed(const i64* indptr, const int* indices,
    const double* data, int n, double* x, int* pending, int* counter) {
  OPEN
  for (int j = draw(counter, lane); j < n; j = draw(counter, lane)) {
    i64 last = indptr[j + 1] - 1;
    double total = 0;
    for (i64 e = indptr[j] + lane; e < last; e += 32) {
      wait_until_zero(pending + indices[e]);
      total += data[e] * __ldcg(x + indices[e]);
    }
    total = warp_sum(total);
    if (lane == 0) {
      x[j] = (__ldcg(x + j) - total) / data[last];
      __threadfence();
      atomicAdd(pending + j, -1);
    }
  }
}
"""

_MEMORY = """
// Numbers and integers as many as the largest column has entries.
__device__ __forceinline__ double* memory(int size, double* scratch, i64 warp) {
  i64 length = size + (size + 1) / 2;
  #if IN_SHARED
  extern __shared__ double shared[];
  return shared + (threadIdx.x / 32) * length;
  #else
  return scratch + warp * length;
  #endif
}

// Place of a number among `size` ascending ones; -1 if it is none of them.
__device__ __forceinline__ int find(const int* numbers, int size, int number) {
  int low = 0, high = size;
  while (low < high) {
    int middle = (low + high) / 2;
    if (numbers[middle] < number) low = middle + 1; else high = middle;
  }
  return low < size && numbers[low] == number ? low : -1;
}
"""

# Right-looking: a finished column is taken off the columns of its rows, wherever they have entries.
_FACTOR = """
extern "C" __global__ void factor_without_fill(const i64* indptr, const int* indices, double* data,
    const double* floors, int n, int* pending, int* counter, int* failed, int size,
    double* scratch) {
  OPEN
  double* values = memory(size, scratch, warp);
  int* members = (int*)(values + size);
  for (int j = n - 1 - draw(counter, lane); j >= 0; j = n - 1 - draw(counter, lane)) {
    i64 first = indptr[j];
    int length = (int)(indptr[j + 1] - 1 - first);
    wait_until_zero(pending + j);
    double square = __ldcg(data + first + length);
    bool fine = square > floors[j];
    double pivot = fine ? sqrt(square) : 1.0;  // others wait: go on after a failure
    __syncwarp();
    if (lane == 0) {
      data[first + length] = pivot;
      if (!fine) atomicMax(failed, j);
    }
    for (int a = lane; a < length; a += 32) {
      members[a] = indices[first + a];
      values[a] = __ldcg(data + first + a) / pivot;
      data[first + a] = values[a];
    }
    __syncwarp();
    for (int a = 0; a < length; ++a) {
      int column = members[a];
      double factor = values[a];
      for (i64 e = indptr[column] + lane; e < indptr[column + 1]; e += 32) {
        int place = find(members, a + 1, indices[e]);
        if (place >= 0) atomicAdd(data + e, -factor * values[place]);
      }
    }
    __threadfence();
    __syncwarp();
    for (int a = lane; a < length; a += 32) atomicAdd(pending + members[a], -1);
    __syncwarp();
  }
}
"""

_GRAM = """
extern "C" __global__ void gram_columns(const i64* indptr, const int* indices, const double* data,
    const i64* row_starts, const int* columns, const i64* positions, i64 n, double* out, int size,
    double* scratch) {
  OPEN
  double* total = memory(size, scratch, warp);
  int* members = (int*)(total + size);
  for (i64 b = warp; b < n; b += n_warps) {
    i64 first = indptr[b];
    int length = (int)(indptr[b + 1] - first);
    for (int a = lane; a < length; a += 32) {
      members[a] = indices[first + a];
      total[a] = 0;
    }
    __syncwarp();
    for (i64 r = row_starts[b]; r < row_starts[b + 1]; ++r) {
      i64 at = positions[r];
      for (i64 e = indptr[columns[r]] + lane; e <= at; e += 32) {
        int place = find(members, length, indices[e]);
        if (place >= 0) total[place] += data[at] * data[e];
      }
      __syncwarp();
    }
    for (int a = lane; a < length; a += 32) out[first + a] = total[a];
    __syncwarp();
  }
}
"""

_KERNELS = {
    "compressed_products": _PRODUCTS,
    "solve": _SOLVE,
    "solve_transposed": _SOLVE_TRANSPOSED,
    "factor_without_fill": _MEMORY + _FACTOR,
    "gram_columns": _MEMORY + _GRAM,
}


def triangular_source(name, in_shared):
    """Code of a kernel."""
    return f"#define IN_SHARED {int(in_shared)}\n" + _WARP + _KERNELS[name]
