"""CUDA code of the bound of a sparse posterior: one warp per column or query.

A warp walks through the columns of V that belong to the ancestors of its column, from the last to
the first and back, and finds the rows of their entries by bisection among the ancestors.
"""

_ANCESTORS = """
typedef long long i64;
#define FULL 0xffffffffu

__device__ __forceinline__ double warp_sum(double x) {
  #pragma unroll
  for (int k = 16; k > 0; k /= 2) x += __shfl_xor_sync(FULL, x, k);
  return x;
}

// The factor V by columns, and the ancestors of all its columns.
#define COMMON const i64* a_indptr, const int* a_indices, const i64* v_indptr, \\
               const int* v_indices, const double* v_data, int size, double* scratch
#define OPEN \\
  const int lane = threadIdx.x % 32; \\
  const i64 warp = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 32; \\
  const i64 n_warps = (i64)gridDim.x * blockDim.x / 32; \\
  const Factor V = {v_indptr, v_indices, v_data}; \\
  double* w = memory(size, scratch, warp); \\
  int* members = (int*)(w + VECTORS * (i64)size);
struct Factor { const i64* indptr; const int* indices; const double* data; };

// Some vectors of doubles and one of integers, as long as the largest number of ancestors.
__device__ __forceinline__ double* memory(int size, double* scratch, i64 warp) {
  i64 length = VECTORS * (i64)size + (size + 1) / 2;
  #if IN_SHARED
  extern __shared__ double shared[];
  return shared + (threadIdx.x / 32) * length;
  #else
  return scratch + warp * length;
  #endif
}

// Place of a number among the first `size` members, which ascend; -1 if it is none of them.
__device__ __forceinline__ int find(const int* members, int size, int number) {
  #if WHOLE
  return number;
  #endif
  int low = 0, high = size;
  while (low < high) {
    int middle = (low + high) / 2;
    if (members[middle] < number) low = middle + 1; else high = middle;
  }
  return low < size && members[low] == number ? low : -1;
}

// Replace w by T^-1 w, where T is V at the members, and h by T^-1 h, if there is one.
template <bool BOTH>
__device__ __forceinline__ void solve(const Factor& V, const int* members, int size, double* w,
                                      double* h, int lane) {
  for (int a = size - 1; a >= 0; --a) {
    #if WHOLE
    unsigned led_to = __ballot_sync(FULL, a >= lane && w[max(a - lane, 0)] != 0);
    a -= led_to ? __ffs(led_to) - 1 : 31;  // most columns are not
    if (!led_to) continue;
    #endif
    double value = w[a], other = BOTH ? h[a] : 0;
    if (value == 0 && other == 0) continue;
    int column = WHOLE ? a : members[a];
    i64 last = V.indptr[column + 1] - 1;
    value /= V.data[last];
    other /= V.data[last];
    for (i64 e = V.indptr[column] + lane; e < last; e += 32) {
      int place = find(members, a, V.indices[e]);
      if (place < 0) continue;
      w[place] -= V.data[e] * value;
      if (BOTH) h[place] -= V.data[e] * other;
    }
    __syncwarp();
    if (lane == 0) {
      w[a] = value;
      if (BOTH) h[a] = other;
    }
  }
  __syncwarp();
}

__device__ __forceinline__ double squares(const double* x, int size, int lane) {
  double total = 0;
  for (int a = lane; a < size; a += 32) total += x[a] * x[a];
  return warp_sum(total);
}
"""

_MARGINAL = """
extern "C" __global__ void marginal_columns(COMMON, const i64* columns, i64 n_columns,
                                            double* out) {
  OPEN
  for (i64 c = warp; c < n_columns; c += n_warps) {
    i64 start = a_indptr[columns[c]];
    int length = (int)(a_indptr[columns[c] + 1] - start);
    for (int a = lane; a < length; a += 32) {
      members[a] = a_indices[start + a];
      w[a] = a == length - 1;
    }
    __syncwarp();
    solve<false>(V, members, length, w, w, lane);
    double total = squares(w, length, lane);
    if (lane == 0) out[c] = total;
    __syncwarp();
  }
}
"""

_GRADIENT = """
// Solve T^T s = w and T^T t = h; on the way add t h^T + factor s w^T to dV on its pattern.
__device__ __forceinline__ void solve_transposed(const Factor& V, const int* members, int size,
    const double* w, const double* h, double* s, double* t, double factor, double* dV, int lane) {
  for (int a = 0; a < size; ++a) {
    i64 first = V.indptr[members[a]], last = V.indptr[members[a] + 1] - 1;
    double value = 0, other = 0, left = factor * w[a], right = h[a];
    for (i64 e = first + lane; e < last; e += 32) {
      int place = find(members, a, V.indices[e]);
      if (place < 0) continue;
      value += V.data[e] * s[place];
      other += V.data[e] * t[place];
      atomicAdd(dV + e, t[place] * right + s[place] * left);
    }
    value = (w[a] - warp_sum(value)) / V.data[last];
    other = (right - warp_sum(other)) / V.data[last];
    if (lane == 0) {
      s[a] = value;
      t[a] = other;
      atomicAdd(dV + last, other * right + value * left);
    }
    __syncwarp();
  }
}

extern "C" __global__ void elbo_gradient_columns(COMMON, const i64* columns, i64 n_columns,
    const i64* u_indptr, const int* u_indices, const double* U, const double* delta,
    const double* by_variance, double* terms, double* dU, double* dV, double* dnu) {
  OPEN
  double *h = w + size, *s = h + size, *t = s + size;
  for (i64 c = warp; c < n_columns; c += n_warps) {
    i64 i = columns[c], start = a_indptr[i], own = v_indptr[i + 1] - 1;
    int length = (int)(a_indptr[i + 1] - start);
    for (int a = lane; a < length; a += 32) {
      members[a] = a_indices[start + a];
      w[a] = a == length - 1;
      h[a] = 0;
    }
    __syncwarp();
    i64 first = u_indptr[i], last = u_indptr[i + 1] - 1;
    double projected = 0;
    for (i64 e = first + lane; e <= last; e += 32) {
      h[find(members, length, u_indices[e])] = U[e];
      projected += U[e] * delta[u_indices[e]];
    }
    projected = warp_sum(projected);
    __syncwarp();
    solve<true>(V, members, length, w, h, lane);
    double total = squares(h, length, lane);
    solve_transposed(V, members, length, w, h, s, t, -2 * by_variance[c], dV, lane);
    for (i64 e = first + lane; e <= last; e += 32) {
      int number = u_indices[e];
      double change = -projected * delta[number] - t[find(members, length, number)];
      dU[e] = e == last ? change + 1 / U[e] : change;
      atomicAdd(dnu + number, -projected * U[e]);
    }
    if (lane == 0) {
      atomicAdd(dV + own, -1 / v_data[own]);
      terms[c] = log(U[last] / v_data[own]) - 0.5 * (projected * projected + total);
    }
    __syncwarp();
  }
}
"""

_PROJECTED = """
// Sort 2^k integers of a warp, ascending.
__device__ __forceinline__ void sort(int* x, int size, int lane) {
  for (int width = 2; width <= size; width *= 2)
    for (int gap = width / 2; gap > 0; gap /= 2) {
      for (int q = lane; q < size / 2; q += 32) {
        int low = 2 * gap * (q / gap) + q % gap, high = low + gap, a = x[low], b = x[high];
        if ((a > b) == ((low & width) == 0)) { x[low] = b; x[high] = a; }
      }
      __syncwarp();
    }
}

// Write the union of the ancestors of some points into members, ascending; return its size.
__device__ __forceinline__ int unite(const int* points, int m, const i64* a_indptr,
                                     const int* a_indices, int* members, int lane) {
  int total = 0, size = 2, n_kept = 0;
  for (int k = 0; k < m; ++k) {
    i64 start = a_indptr[points[k]];
    int length = (int)(a_indptr[points[k] + 1] - start);
    for (int a = lane; a < length; a += 32) members[total + a] = a_indices[start + a];
    total += length;
  }
  while (size < total) size *= 2;
  for (int a = total + lane; a < size; a += 32) members[a] = 0x7fffffff;
  __syncwarp();
  sort(members, size, lane);
  for (int first = 0; first < total; first += 32) {
    int a = first + lane, number = a < total ? members[a] : -1;
    bool kept = a < total && (a == 0 || members[a - 1] != number);
    unsigned all = __ballot_sync(FULL, kept);
    __syncwarp();
    if (kept) members[n_kept + __popc(all & ((1u << lane) - 1))] = number;
    n_kept += __popc(all);
    __syncwarp();
  }
  return n_kept;
}

extern "C" __global__ void projected_variances(COMMON, const int* neighbors,
    const double* weights, i64 n_queries, int m, double* out) {
  OPEN
  for (i64 q = warp; q < n_queries; q += n_warps) {
    const int* points = neighbors + q * m;
    int length = 0;
    #if WHOLE
    for (int k = 0; k < m; ++k) length = max(length, points[k] + 1);
    #else
    length = unite(points, m, a_indptr, a_indices, members, lane);
    #endif
    for (int a = lane; a < length; a += 32) w[a] = 0;
    __syncwarp();
    for (int k = lane; k < m; k += 32) w[find(members, length, points[k])] = weights[q * m + k];
    __syncwarp();
    solve<false>(V, members, length, w, w, lane);
    double total = squares(w, length, lane);
    if (lane == 0) out[q] = total;
    __syncwarp();
  }
}
"""

_KERNELS = {  # code, and vectors of doubles that a warp needs
    "marginal_columns": (_MARGINAL, 1),
    "elbo_gradient_columns": (_GRADIENT, 4),
    "projected_variances": (_PROJECTED, 1),
}


def n_vectors(name):
    """Vectors of doubles, as long as the largest number of ancestors, that a warp needs."""
    return _KERNELS[name][1]


def bound_source(name, whole, in_shared):
    """Code of a kernel; with `whole`, all columns are ancestors."""
    code, vectors = _KERNELS[name]
    defines = {"WHOLE": int(whole), "IN_SHARED": int(in_shared), "VECTORS": vectors}
    return "".join(f"#define {k} {v}\n" for k, v in defines.items()) + _ANCESTORS + code
