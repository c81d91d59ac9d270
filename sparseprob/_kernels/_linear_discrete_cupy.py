"""Truncated posteriors of linear models with discrete latents, on a GPU.

One thread per point, so that all reads and writes of a warp lie side by side. Small tables of
states become straight-line code whose candidates, pairs and sums stay in registers; large tables
are walked through scratch memory. Twin of ``_linear_discrete_numba``.
"""

from functools import lru_cache

import cupy
import numpy as np

_THREADS = 128
_UNROLLED, _UNROLLED_UNITS = 600, 64  # states and pairs, units: longer code leaves the cache
_REAL = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
_SEGMENT = 2**20  # points of a launch
_SUM_BITS = 62  # of the fixed-point sums over a launch, which do not depend on their order
_SCRATCH_BYTES = 2**30


def select_candidates(B, scale, shift, n_candidates):
    """Preselect the latents with the largest scores; see the twin on the CPU."""
    B, scale, shift = _contiguous(B.dtype, B, scale, shift)
    H, n = B.shape
    candidates = cupy.empty((n_candidates, n), dtype=cupy.int32)
    if n:
        sizes = (np.int32(len(scale)), np.int32(H), np.int64(n))
        _selection(n_candidates, _REAL[B.dtype])(
            (-(-n // _THREADS),), (_THREADS,), (B, scale, shift, *sizes, candidates)
        )
    return candidates


def truncated_posterior(
    B, candidates, slope, bias, coupling, values, table, *, pairs=None, out=None
):
    """Posterior over the null state, all singletons and the table; see the twin on the CPU."""
    (candidates,) = _contiguous(np.int32, candidates)
    B, slope, bias, coupling = _contiguous(B.dtype, B, slope, bias, coupling)
    (H, n), V = B.shape, len(slope)
    marginals = cupy.empty((V, H, n), dtype=B.dtype) if out is None else out
    log_norm, mean_energy = cupy.empty(n), cupy.empty(n)
    values = tuple(float(v) for v in values)
    launch = _launcher(_Key(table), values, _REAL[B.dtype], cupy.cuda.Device().id)
    with_pairs = pairs is not None and table.max_active > 1
    for start in range(0, n, _SEGMENT):
        stop = min(start + _SEGMENT, n)
        sums = cupy.zeros((H, H) if with_pairs else (1, 1), dtype=cupy.int64)
        unit = _pair_unit(stop - start, values)
        arrays = (B, candidates, slope, bias, coupling, log_norm, mean_energy, marginals, sums)
        sizes = (np.int32(H), np.int64(n), np.int64(start), np.int64(stop))
        options = (np.int32(with_pairs), np.float64(1 / unit))
        launch(-(-(stop - start) // _THREADS), (*arrays, *sizes, *options))
        if with_pairs:
            pairs += (sums + sums.T) * unit
    return log_norm, mean_energy, marginals


def _contiguous(dtype, *arrays):
    return [cupy.ascontiguousarray(A, dtype=dtype) for A in arrays]


def _pair_unit(n, values):
    """Last place of the fixed-point sums of E[s s'] over n points, the finest without overflow."""
    return max(abs(v) for v in values) ** 2 * 2.0 ** ((n - 1).bit_length() - _SUM_BITS)


class _Key:
    """A state table as a dictionary key: tables of equal sizes are equal."""

    def __init__(self, table):
        self.table = table
        self.sizes = (table.n_candidates, table.max_active, table.n_values)

    def __hash__(self):
        return hash(self.sizes)

    def __eq__(self, other):
        return self.sizes == other.sizes


# ---------------------------------------------------------------- selection
_SELECT = """
extern "C" __global__ void select(const REAL* B, const REAL* scale, const REAL* shift, int V,
                                  int H, long long n, int* candidates) {
  long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (p >= n) return;
  REAL best[C]; int label[C];
  #pragma unroll
  for (int c = 0; c < C; ++c) { best[c] = -3.3e38; label[c] = 0; }
  #pragma unroll 4
  for (int h = 0; h < H; ++h) {
    REAL b = B[h * n + p], x = -3e38;  // above -inf: every latent enters while there is room
    for (int k = 0; k < V; ++k) x = max(x, scale[k * H + h] * b + shift[k * H + h]);
    if (x > best[C - 1]) {
      #pragma unroll
      for (int c = C - 1; c > 0; --c) {
        bool enters = x > best[c], passes = x > best[c - 1];
        best[c] = passes ? best[c - 1] : (enters ? x : best[c]);
        label[c] = passes ? label[c - 1] : (enters ? h : label[c]);
      }
      if (x > best[0]) { best[0] = x; label[0] = h; }
    }
  }
  #pragma unroll
  for (int c = 0; c < C; ++c) candidates[c * n + p] = label[c];
}
"""


@lru_cache(maxsize=64)
def _selection(n_candidates, real):
    source = _SELECT.replace("REAL", real).replace("[C]", f"[{n_candidates}]")
    source = source.replace("C - 1", str(n_candidates - 1)).replace(
        "c < C;", f"c < {n_candidates};"
    )
    return cupy.RawKernel(source, "select")


# ---------------------------------------------------------------- posterior
_HEAD = """
extern "C" __global__ void posterior(
    const REAL* B, const int* candidates, const REAL* slope, const REAL* bias,
    const REAL* coupling, double* log_norm, double* mean_energy, REAL* marginals,
    unsigned long long* pairs,
    int H, long long n, long long start, long long stop, int with_pairs, double per_unit
    SCRATCH_ARGUMENT) {
"""

_RESCALE = """
__device__ __forceinline__ void raise_top(REAL& top, REAL higher, REAL& total, REAL& energy) {
  if (higher > top) {
    REAL factor = exp(top - higher);
    total *= factor; energy *= factor; top = higher;
  }
}
"""

_SINGLES = """
    REAL top = 0, total = 1, energy = 0;  // the null state
    for (int k = 0; k < V; ++k) {
      REAL a = slope[k];
      for (int first = 0; first < H; first += 8) {
        REAL e[8], higher = top;
        #pragma unroll
        for (int i = 0; i < 8; ++i) {
          int h = first + i;
          e[i] = h < H ? bias[k * H + h] + a * B[h * n + p] : REAL(-1e30);
          higher = max(higher, e[i]);
        }
        raise_top(top, higher, total, energy);
        #pragma unroll
        for (int i = 0; i < 8; ++i) {
          REAL w = first + i < H ? exp(e[i] - top) : 0;
          total += w; energy += w * e[i];
        }
      }
    }
    REAL higher = top;
"""

_FINISH = """
    log_norm[p] = (double)top + log((double)total);
    mean_energy[p] = (double)energy / (double)total;
    REAL inverse = 1 / total;
    for (int k = 0; k < V; ++k) {
      REAL a = slope[k];
      #pragma unroll 8
      for (int h = 0; h < H; ++h)
        marginals[(k * (long long)H + h) * n + p]
            = exp(bias[k * H + h] + a * B[h * n + p] - top) * inverse;
    }
"""

_ADD_PAIR = """
__device__ __forceinline__ void add_pair(unsigned long long* pairs, int at, REAL x,
                                         double per_unit) {
  long long fixed = __double2ll_rn((double)x * per_unit);
  if (fixed) atomicAdd(pairs + at, (unsigned long long)fixed);
}
"""


@lru_cache(maxsize=64)
def _launcher(key, values, real, device):
    """Compile the kernel of a table for a device; return a function that launches it."""
    table, V = key.table, len(values)
    size, n_units = len(table.length) + _n_pairs(table), table.n_candidates * V
    unrolled = size <= _UNROLLED and n_units <= _UNROLLED_UNITS
    body = _unrolled_body(table, values) if unrolled else _walking_body(table, values)
    source = _RESCALE + _ADD_PAIR + _HEAD + body
    argument = "" if unrolled else _WALK_ARGUMENTS
    source = source.replace("SCRATCH_ARGUMENT", argument).replace("REAL", real)
    source = source.replace("+CLASS", "+d" if real == "double" else "+f")
    kernel = cupy.RawKernel(source.replace("k < V", f"k < {V}"), "posterior")
    if unrolled:
        return lambda n_blocks, arguments: kernel((n_blocks,), (_THREADS,), arguments)
    return _walker(kernel, table, values, real)


def _n_pairs(table):
    """Pairs of candidates that can be active together."""
    return table.n_candidates * (table.n_candidates - 1) // 2 if table.max_active > 1 else 0


def _pair_number(i, j):
    return i * (i - 1) // 2 + j if i > j else j * (j - 1) // 2 + i


# ---------------------------------------------------------------- straight-line code
def _unrolled_body(table, values):
    """Code of one point per thread with every state written out."""
    V, C = len(values), table.n_candidates
    n_pairs = max(1, _n_pairs(table))
    each_pair = f"for (int i = 0; i < {C if _n_pairs(table) else 0}; ++i)"
    return f"""
    long long p = start + (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (p >= stop) return;
    int who[{C}]; REAL c[{C * V}], g[{n_pairs}], m[{C * V}], q[{n_pairs}];
    #pragma unroll
    for (int i = 0; i < {C}; ++i) {{
      who[i] = candidates[i * n + p];
      REAL b = B[who[i] * n + p];
      #pragma unroll
      for (int k = 0; k < {V}; ++k) {{
        c[i * {V} + k] = bias[k * H + who[i]] + slope[k] * b;
        m[i * {V} + k] = 0;
      }}
    }}
    #pragma unroll
    {each_pair}
      #pragma unroll
      for (int j = 0; j < i; ++j) {{
        g[i * (i - 1) / 2 + j] = coupling[(long long)who[i] * H + who[j]];
        q[i * (i - 1) / 2 + j] = 0;
      }}
    {_SINGLES}
    {_tree_code(table, values, _top_of_state)}
    raise_top(top, higher, total, energy);
    // Or the compiler would keep the energies of all states in registers from pass to pass.
    #pragma unroll
    for (int u = 0; u < {C * V}; ++u) asm volatile("" : "+CLASS"(c[u]));
    {_tree_code(table, values, _sum_of_state)}
    {_FINISH}
    #pragma unroll
    for (int i = 0; i < {C}; ++i)
      #pragma unroll
      for (int k = 0; k < {V}; ++k)
        marginals[(k * (long long)H + who[i]) * n + p]
            = (exp(c[i * {V} + k] - top) + m[i * {V} + k]) * inverse;
    if (with_pairs) {{
      #pragma unroll
      {each_pair}
        #pragma unroll
        for (int j = 0; j < i; ++j)
          add_pair(pairs, who[i] * H + who[j], q[i * (i - 1) / 2 + j] * inverse, per_unit);
    }}
}}
"""


def _tree_code(table, values, code_of_state):
    """Nested code over the tree of states, each state inside its parent."""
    U = table.n_candidates * len(values)
    children = [[] for _ in range(U + len(table.length))]
    for s, parent in enumerate(table.parent.tolist()):
        children[parent].append(U + s)
    lines = []

    def visit(node, members):
        opening, closing = code_of_state(members, values)
        lines.append(opening)
        for child in children[node]:
            visit(child, [*members, int(table.unit[child - U])])
        lines.append(closing)

    for u in range(U):
        visit(u, [u])
    return "\n".join(lines)


def _energy_code(members, values):
    """The energy of a state from its parent's energy in the scope around it."""
    depth, u, V = len(members), members[-1], len(values)
    if depth == 1:
        return f"REAL e1 = c[{u}];"
    terms = [
        f" - REAL({values[u % V] * values[v % V]!r}) * g[{_pair_number(u // V, v // V)}]"
        if values[u % V] * values[v % V] != 1.0
        else f" - g[{_pair_number(u // V, v // V)}]"
        for v in members[:-1]
    ]
    return f"REAL e{depth} = e{depth - 1} + c[{u}]{''.join(terms)};"


def _top_of_state(members, values):
    update = f"higher = max(higher, e{len(members)});" if len(members) > 1 else ""
    return f"{{ {_energy_code(members, values)} {update}", "}"


def _sum_of_state(members, values):
    """Weights on the way down; sums over the states that begin with this one on the way up."""
    depth, u, V = len(members), members[-1], len(values)
    energy = _energy_code(members, values)
    if depth == 1:
        return f"{{ {energy} REAL a1 = 0;", f"m[{u}] += a1; }}"
    opening = (
        f"{{ {energy} REAL a{depth} = exp(e{depth} - top); total += a{depth}; "
        f"energy += a{depth} * e{depth};"
    )
    closing = [f"m[{u}] += a{depth}; a{depth - 1} += a{depth};"]
    for v in members[:-1]:
        product = values[u % V] * values[v % V]
        factor = "" if product == 1.0 else f"REAL({product!r}) * "
        closing.append(f"q[{_pair_number(u // V, v // V)}] += {factor}a{depth};")
    return opening, " ".join(closing) + " }"


# ---------------------------------------------------------------- large tables
_WALK_ARGUMENTS = """,
    const int* parent, const int* unit, const int* members, const int* length, const REAL* products,
    REAL* scratch"""


def _walking_body(table, values):
    """Code that walks a table in scratch memory: weights per state, then sums per unit and pair."""
    V, C, width = len(values), table.n_candidates, table.max_active
    return f"""
  const int U = {C * V}, S = {len(table.length)}, W = {width};
  long long lane = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  long long stride = (long long)gridDim.x * blockDim.x;
  REAL* walk = scratch + lane;
  REAL* m = scratch + (long long)(U + S) * stride + lane;
  REAL* q = m + U * stride;
  for (long long p = start + lane; p < stop; p += stride) {{
    for (int u = 0; u < U; ++u) {{
      int h = candidates[(u / {V}) * n + p];
      walk[u * stride] = bias[(u % {V}) * H + h] + slope[u % {V}] * B[h * n + p];
      m[u * stride] = 0;
    }}
    for (int i = 0; i < {_n_pairs(table)}; ++i) q[i * stride] = 0;
    {_SINGLES}
    for (int s = 0; s < S; ++s) {{
      int u = unit[s], h = candidates[(u / {V}) * n + p];
      REAL e = walk[parent[s] * stride] + walk[u * stride];
      for (int i = 0; i < length[s] - 1; ++i) {{
        int v = members[s * W + i];
        e -= products[(u % {V}) * {V} + v % {V}]
             * coupling[(long long)h * H + candidates[(v / {V}) * n + p]];
      }}
      walk[(U + (long long)s) * stride] = e;
      higher = max(higher, e);
    }}
    raise_top(top, higher, total, energy);
    for (int u = 0; u < U; ++u) walk[u * stride] = 0;
    for (int s = 0; s < S; ++s) {{
      REAL e = walk[(U + (long long)s) * stride], w = exp(e - top);
      walk[(U + (long long)s) * stride] = w;
      total += w; energy += w * e;
    }}
    {_FINISH}
    for (int s = S - 1; s >= 0; --s) {{
      int u = unit[s];
      REAL a = walk[(U + (long long)s) * stride];
      walk[parent[s] * stride] += a;
      m[u * stride] += a;
      for (int i = 0; i < length[s] - 1; ++i) {{
        int v = members[s * W + i], a1 = u / {V}, a2 = v / {V};
        q[(a1 * (a1 - 1) / 2 + a2) * stride] += products[(u % {V}) * {V} + v % {V}] * a;
      }}
    }}
    for (int u = 0; u < U; ++u)
      marginals[((u % {V}) * (long long)H + candidates[(u / {V}) * n + p]) * n + p]
          += (m[u * stride] + walk[u * stride]) * inverse;
    if (with_pairs)
      for (int i = 0; i < {C}; ++i)
        for (int j = 0; j < i; ++j)
          add_pair(pairs, candidates[i * n + p] * H + candidates[j * n + p],
                   q[(i * (i - 1) / 2 + j) * stride] * inverse, per_unit);
  }}
}}
"""


def _walker(kernel, table, values, real):
    """Run the walking kernel with as many threads as the scratch memory allows."""
    C, V = table.n_candidates, len(values)
    dtype = np.float64 if real == "double" else np.float32
    rows = 2 * C * V + len(table.length) + _n_pairs(table)
    fitting = max(1, _SCRATCH_BYTES // (rows * np.dtype(dtype).itemsize * _THREADS))

    def launch(n_blocks, arguments):
        n_blocks = min(n_blocks, fitting, 2048)
        scratch = cupy.empty(rows * n_blocks * _THREADS, dtype=dtype)
        kernel((n_blocks,), (_THREADS,), (*arguments, *index, products, scratch))

    index = [cupy.asarray(a) for a in (table.parent, table.unit, table.members, table.length)]
    products = cupy.asarray(np.outer(values, values), dtype=dtype)
    return launch
