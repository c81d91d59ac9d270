"""Nearest points among the first ones of a sequence, on a GPU: one thread for each query.

On the host a k-d tree is searched, see ``_tree_search_numba``. The nearest points so far are a
max-heap in local memory.
"""

from functools import lru_cache

import cupy

_THREADS = 64
_MOST_RINGS = 12

_CODE = """
typedef long long I;
__device__ I lower_bound(const I* cells, I n, I cell) {
  I a = 0, b = n;
  while (a < b) { I c = (a + b) / 2; if (cells[c] < cell) a = c + 1; else b = c; }
  return a;
}
__device__ bool worse(double d, int i, double e, int j) { return d > e || (d == e && i > j); }
struct Nearest {  // a heap, the worst on top
  double distance[M]; int number[M]; int size, wanted;
  __device__ void sift(int at, int end, double d, int i) {
    for (;;) {
      int child = 2 * at + 1;
      if (child >= end) break;
      if (child + 1 < end && worse(distance[child + 1], number[child + 1], distance[child],
                                   number[child])) ++child;
      if (!worse(distance[child], number[child], d, i)) break;
      distance[at] = distance[child]; number[at] = number[child]; at = child;
    }
    distance[at] = d; number[at] = i;
  }
  __device__ void offer(double d, int i) {
    if (size < wanted) {
      int at = size++;
      while (at > 0) {
        int parent = (at - 1) / 2;
        if (!worse(d, i, distance[parent], number[parent])) break;
        distance[at] = distance[parent]; number[at] = number[parent]; at = parent;
      }
      distance[at] = d; number[at] = i;
    } else if (wanted > 0 && worse(distance[0], number[0], d, i)) sift(0, size, d, i);
  }
};
extern "C" __global__ void nearest_before(
    const double* queries, I n_queries, const I* numbers, const I* limits, int m,
    const double* points, const I* rows, I n_points, const I* cells, I n_cells, const I* starts,
    const double* low, const I* shape, double side, const I* starts_out, int* out) {
  I at = (I)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= n_queries) return;
  double x[D];
  for (int k = 0; k < D; ++k) x[k] = queries[at * D + k];
  I number = numbers[at], limit = limits[number], place[G];
  double margin = side;
  for (int k = 0; k < G; ++k) {
    double t = (x[k] - low[k]) / side, c = min(max(floor(t), -1.0), (double)shape[k]);
    place[k] = (I)c;
    margin = min(margin, min((t - c) * side, (c + 1 - t) * side));
  }
  Nearest near;
  near.size = 0; near.wanted = (int)min((I)m, limit);
  for (int ring = 0; near.wanted > 0; ++ring) {
    bool all = ring == MOST_RINGS;
    if (all) near.size = 0;
    I n_rows = 1;
    if (!all) for (int k = 0; k < G - 1; ++k) n_rows *= 2 * ring + 1;
    for (I row = 0; row < n_rows; ++row) {
      I cell = 0, rest = row;
      bool shell = ring == 0, inside = true;
      if (!all) for (int k = 0; k < G - 1; ++k) {
        I step = rest % (2 * ring + 1) - ring;
        rest /= 2 * ring + 1;
        shell |= step == ring || step == -ring;
        I there = place[k] + step;
        inside &= 0 <= there && there < shape[k];
        cell = cell * shape[k] + there;
      }
      if (!inside) continue;
      cell *= shape[G - 1];
      for (int end = 0; end < (all || shell ? 1 : 2); ++end) {
        I a, b;
        if (all) { a = 0; b = n_points; }
        else {
          I first = place[G - 1] - ring, last = place[G - 1] + ring;
          if (!shell) { first = end ? last : first; last = first; }
          first = max(first, 0LL); last = min(last, shape[G - 1] - 1);
          if (first > last) continue;
          a = starts[lower_bound(cells, n_cells, cell + first)];
          b = starts[lower_bound(cells, n_cells, cell + last + 1)];
        }
        for (I q = a; q < b; ++q) {
          I i = rows[q];
          if (i >= limit) continue;
          double d2 = 0;
          for (int k = 0; k < D; ++k) {
            double gap = x[k] - points[q * D + k];
            d2 = __dadd_rn(d2, __dmul_rn(gap, gap));  // as on the CPU, so that ties are ties
          }
          near.offer(d2, (int)i);
        }
      }
    }
    double reach = margin + ring * side;
    if (all || (near.size == near.wanted && reach > 0 && near.distance[0] < reach * reach)) break;
  }
  for (int end = near.size; end > 1; --end) {  // ascending by number
    int top = 0;
    for (int a = 1; a < end; ++a) if (near.number[a] > near.number[top]) top = a;
    int largest = near.number[top];
    near.number[top] = near.number[end - 1]; near.number[end - 1] = largest;
  }
  for (int a = 0; a < near.size; ++a) out[starts_out[number] + a] = near.number[a];
}
"""


def nearest_before(queries, numbers, limits, m, grid, starts_out, out):
    """Write the m nearest of the points before each query, ascending by number.

    Parameters
    ----------
    queries : array of shape (q, d)
        Best in the order of their cells.
    numbers : int64 array of shape (q,)
        Which entries of limits and starts_out belong to each.
    limits : int64 array of shape (n,)
        Only points with numbers below the limit count; if there are fewer than m, all are written.
    m : int
    grid : tuple
        See `sparseprob.gp._grid`.
    starts_out : int64 array of shape (n,)
        Where in out each query's neighbors are written.
    out : int32 array
    """
    if not len(queries):
        return
    points, rows, cells, starts, low, shape, side = grid
    launch = _compiled(int(m), queries.shape[1], len(low), cupy.cuda.Device().id)
    launch(
        (-(-len(queries) // _THREADS),),
        (_THREADS,),
        (
            queries, cupy.int64(len(queries)), numbers, limits, cupy.int32(m), points, rows,
            cupy.int64(len(points)), cells, cupy.int64(len(cells)), starts, low, shape,
            cupy.float64(side), starts_out, out,
        ),
    )  # fmt: skip


@lru_cache(maxsize=32)
def _compiled(m, d, n_axes, device):
    options = tuple(
        f"-D{name}={value}"
        for name, value in {"M": m, "D": d, "G": n_axes, "MOST_RINGS": _MOST_RINGS}.items()
    )
    return cupy.RawKernel(_CODE, "nearest_before", options)
