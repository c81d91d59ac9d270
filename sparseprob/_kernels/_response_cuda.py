"""CUDA code of the response likelihood and of local predictions, behind that of ``_gp_cuda``."""

RESPONSE = """
// Write the products of u with the derivatives by every parameter, and noise times u.
__device__ __forceinline__ void derivatives(const Space& s, int p, double noise,
    const double* variances, const double* shapes, const double* u, double* rows, int lane) {
  for (int a = lane; a < p; a += 32) {
    #pragma unroll
    for (int t = 0; t < TERMS; ++t) {
      double sum[LENGTHSCALES + 2];
      #pragma unroll
      for (int k = 0; k < LENGTHSCALES + 2; ++k) sum[k] = 0;
      for (int b = 0; b < p; ++b) {
        double r2 = squared_distance(s, t, a, b), slope, by_shape, scale = variances[t] * u[b];
        sum[0] += scale * radial(KIND(t), shapes[t], r2, slope, by_shape);
        #if LENGTHSCALES == 1
        sum[1] += scale * slope * r2;
        #else
        #pragma unroll
        for (int k = 0; k < LENGTHSCALES; ++k) {
          const double* x = s.x + (t * FEATURES + k) * s.stride;
          sum[1 + k] += scale * slope * (x[a] - x[b]) * (x[a] - x[b]);
        }
        #endif
        sum[LENGTHSCALES + 1] += scale * by_shape;
      }
      #pragma unroll
      for (int k = 0; k < LENGTHSCALES + 2; ++k)
        if (k <= LENGTHSCALES || KIND(t) == 4) rows[(PLACE(t) + k) * s.stride + a] = sum[k];
    }
    rows[N_ACTIVE * s.stride + a] = noise * u[a];
  }
}

// Rows are a_k = L^-1 (dK / dtheta_k) u of the active parameters and the noise, then w = L^-1 y.
// Each lane owns some of the pairs of rows and sums what they add to gradient and information.
extern "C" __global__ void response_columns(COMMON, double noise, const i64* indptr,
    const int* indices, const double* residual, i64 first, i64 stop, signed char* failed,
    double* sums) {
  OPEN
  const int last_row = N_RESPONSE - 1, n_pairs = PAIRS(N_RESPONSE), each = (n_pairs + 31) / 32;
  double *w = s.rows + last_row * s.stride, sum[each], log_diagonal = 0;
  int row[each], other[each];
  #pragma unroll
  for (int m = 0; m < each; ++m) {
    sum[m] = 0;
    find_pair(min(lane + 32 * m, n_pairs - 1), row[m], other[m]);
  }
  for (i64 j = first + warp; j < stop; j += n_warps) {
    const int* points = indices + indptr[j];
    int p = (int)(indptr[j + 1] - indptr[j]), end = p - 1;
    gather_column(s, scaled, n, points, p, noise, noise, n, lane);
    int tried = factor(s, p, p, variances, shapes, lane);
    for (int a = lane; a < p; a += 32) w[a] = residual[points[a]];
    #if N_RESPONSE > 1
    write_column(s, p, w + s.stride, lane);
    derivatives(s, p, noise, variances, shapes, w + s.stride, s.rows, lane);
    #endif
    __syncwarp();
    solve_lower<N_RESPONSE>(s, p, s.rows, lane);
    double e = w[end];
    log_diagonal += log(s.K[PAIRS(end) + end]);
    #pragma unroll
    for (int m = 0; m < each; ++m) {
      const double *x = s.rows + row[m] * s.stride, *y = s.rows + other[m] * s.stride;
      double inner = 0;
      for (int a = 0; a < end; ++a) inner += x[a] * y[a];
      double value = inner + 0.5 * x[end] * y[end];
      if (row[m] == last_row) value = e * inner + 0.5 * (e * e - 1) * y[end];
      sum[m] += other[m] == last_row ? e * e : value;
    }
    if (lane == 0) failed[j] = (signed char)tried;
    __syncwarp();
  }
  #pragma unroll
  for (int m = 0; m < each; ++m)
    if (lane + 32 * m < n_pairs) sums[warp * (n_pairs + 1) + lane + 32 * m] = sum[m];
  if (lane == 0) sums[warp * (n_pairs + 1) + n_pairs] = log_diagonal;
}
"""

PREDICT = """
extern "C" __global__ void predict_columns(COMMON, double noise, const double* scaled_test, i64 q,
    const int* neighbors, int m, const double* residual, double* means, double* deviations,
    signed char* failed) {
  OPEN
  double variance = 0, *w = s.rows;
  for (int t = 0; t < TERMS; ++t) variance += variances[t];
  for (i64 j = warp; j < q; j += n_warps) {
    if (lane == 0) {
      gather(s, scaled_test, q, j, m);
      s.nuggets[m] = 0;
    }
    gather_column(s, scaled, n, neighbors + j * m, m, noise, noise, n, lane);
    int tried = factor(s, m + 1, m, variances, shapes, lane);
    for (int a = lane; a < m; a += 32) w[a] = residual[neighbors[j * m + a]];
    __syncwarp();
    solve_lower<1>(s, m, w, lane);
    const double* row = s.K + PAIRS(m);
    double mean = 0, explained = 0;
    for (int a = lane; a < m; a += 32) {
      mean += row[a] * w[a];
      explained += row[a] * row[a];
    }
    mean = warp_sum(mean);
    explained = warp_sum(explained);
    if (lane == 0) {
      means[j] = mean;
      deviations[j] = sqrt(max(variance - explained, 0.0));
      failed[j] = (signed char)tried;
    }
    __syncwarp();
  }
}
"""
