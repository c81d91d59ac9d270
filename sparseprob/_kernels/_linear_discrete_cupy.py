"""Truncated posteriors of linear models with discrete latents, on a GPU.

One thread per point, so that all reads and writes of a warp lie side by side. Small tables of
states become straight-line code whose candidates, pairs and sums stay in registers; large tables
are walked through scratch memory. Twin of ``_linear_discrete_numba``.
"""

from functools import lru_cache

import cupy
import numpy as np

_THREADS = 128
_UNROLLED_STATES = 600  # longer code would leave the instruction cache
_SEGMENT = 2**20  # points whose fixed-point pair sums cannot overflow 64 bits
_FIXED_POINT = 42  # bits after the point; sums of integers do not depend on their order
_SCRATCH_BYTES = 2**28


def select_candidates(B, scale, shift, n_candidates):
    """Preselect the latents with the largest scores; see the twin on the CPU."""
    B = cupy.ascontiguousarray(B)
    H, n = B.shape
    candidates = cupy.empty((n_candidates, n), dtype=cupy.int32)
    if n:
        sizes = (np.int32(len(scale)), np.int32(H), np.int64(n))
        _selection(n_candidates, _name(B.dtype))(
            (-(-n // _THREADS),), (_THREADS,), (B, scale, shift, *sizes, candidates)
        )
    return candidates


def truncated_posterior(
    B, candidates, slope, bias, coupling, values, table, *, pairs=None, out=None
):
    """Posterior over the null state, all singletons and the table; see the twin on the CPU."""
    B, candidates = cupy.ascontiguousarray(B), cupy.ascontiguousarray(candidates)
    (H, n), V = B.shape, len(slope)
    marginals = cupy.empty((V, H, n), dtype=B.dtype) if out is None else out
    log_norm, mean_energy = cupy.empty(n), cupy.empty(n)
    values = tuple(float(v) for v in values)
    launch = _launcher(_Key(table), values, _name(B.dtype))
    for start in range(0, n, _SEGMENT):
        stop = min(start + _SEGMENT, n)
        sums = cupy.zeros((H, H) if pairs is not None else (0,), dtype=cupy.int64)
        launch(
            B, candidates, slope, bias, coupling, log_norm, mean_energy, marginals, sums,
            H, n, start, stop, pairs is not None,
        )  # fmt: skip
        if pairs is not None:
            half = sums * (_pair_scale(values) / 2.0**_FIXED_POINT)
            pairs += half + half.T
    return log_norm, mean_energy, marginals


def _name(dtype):
    return "double" if dtype == np.float64 else "float"


def _pair_scale(values):
    """Largest |value|^2, so that scaled pair terms stay within one."""
    return max(abs(v) for v in values) ** 2


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
    int H, long long n, long long start, long long stop, int with_pairs SCRATCH_ARGUMENT) {
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
__device__ __forceinline__ void add_pair(unsigned long long* pairs, int at, REAL x) {
  long long fixed = __double2ll_rn((double)x * FIXED);
  if (fixed) atomicAdd(pairs + at, (unsigned long long)fixed);
}
"""


@lru_cache(maxsize=64)
def _launcher(key, values, real):
    """Compile the kernel of a table; return a function that runs it on a range of points."""
    table, V = key.table, len(values)
    unrolled = len(table.length) <= _UNROLLED_STATES
    body = _unrolled_body(table, values) if unrolled else _walking_body(table, values)
    scale = 2.0**_FIXED_POINT / _pair_scale(values)
    source = _RESCALE + _ADD_PAIR.replace("FIXED", repr(scale)) + _HEAD + body
    argument = "" if unrolled else _WALK_ARGUMENTS
    source = source.replace("SCRATCH_ARGUMENT", argument).replace("REAL", real)
    source = source.replace("+CLASS", "+d" if real == "double" else "+f")
    kernel = cupy.RawKernel(source.replace("k < V", f"k < {V}"), "posterior")
    if unrolled:
        return lambda *arguments: _run(kernel, -(-_SEGMENT // _THREADS), arguments, ())
    return _walker(kernel, table, values, real)


def _run(kernel, n_blocks, arguments, more):
    *arrays, H, n, start, stop, with_pairs = arguments
    sizes = (np.int32(H), np.int64(n), np.int64(start), np.int64(stop), np.int32(with_pairs))
    n_blocks = min(n_blocks, -(-(stop - start) // _THREADS))
    kernel((n_blocks,), (_THREADS,), (*arrays, *sizes, *more))


def _pair_number(i, j):
    return i * (i - 1) // 2 + j if i > j else j * (j - 1) // 2 + i


# ---------------------------------------------------------------- straight-line code
def _unrolled_body(table, values):
    """Code of one point per thread with every state written out."""
    V, C = len(values), table.n_candidates
    n_pairs = max(1, C * (C - 1) // 2)
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
    for (int i = 0; i < {C}; ++i)
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
      for (int i = 0; i < {C}; ++i)
        #pragma unroll
        for (int j = 0; j < i; ++j)
          add_pair(pairs, who[i] * H + who[j], q[i * (i - 1) / 2 + j] * inverse);
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
    for (int i = 0; i < {C * (C - 1) // 2}; ++i) q[i * stride] = 0;
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
                   q[(i * (i - 1) / 2 + j) * stride] * inverse);
  }}
}}
"""


def _walker(kernel, table, values, real):
    """Run the walking kernel with as many threads as the scratch memory allows."""
    C, V = table.n_candidates, len(values)
    dtype = np.float64 if real == "double" else np.float32
    rows = 2 * C * V + len(table.length) + C * (C - 1) // 2
    n_blocks = max(1, _SCRATCH_BYTES // (rows * np.dtype(dtype).itemsize * _THREADS))
    n_blocks = min(n_blocks, 2048)

    def launch(*arguments):
        scratch = cupy.empty(rows * n_blocks * _THREADS, dtype=dtype)
        _run(kernel, n_blocks, arguments, (*index, products, scratch))

    index = [cupy.asarray(a) for a in (table.parent, table.unit, table.members, table.length)]
    products = cupy.asarray(np.outer(values, values), dtype=dtype)
    return launch
