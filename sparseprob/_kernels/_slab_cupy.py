"""Truncated posteriors of spike-and-slab models with independent slabs, on a GPU.

One thread per point, so that all reads and writes of a warp lie side by side. Small tables of
states become straight-line code whose means and covariances stay in registers; large tables are
walked depth first, with the path in local memory. Twin of ``_slab_numba``.
"""

from functools import lru_cache

import cupy
import numpy as np

from . import _linear_discrete_cupy as linear
from ._linear_discrete_cupy import _REAL, _contiguous, _Key

_THREADS = 128
_UNROLLED, _UNROLLED_CANDIDATES = 3000, 12  # sum of squared lengths of states: of the code
_SEGMENT, _BLOCK_NUMBERS = 2**20, 2**27  # points, and second moments of points, of a launch
_SUM_BITS = 62  # of the fixed-point sums over a launch, which do not depend on their order


def select_candidates(B, select, n_candidates):
    """Preselect the latents with the largest scores; see the twin on the CPU."""
    select = cupy.asarray(select, dtype=B.dtype)[:, :, None]
    scores = _scores(B, *select)
    ones = cupy.ones((1, len(B)), dtype=B.dtype)
    return linear.select_candidates(scores, ones, cupy.zeros_like(ones), n_candidates)


def truncated_posterior(B, candidates, ratio, bias, coupling, table, *, moments=None):
    """Posterior over the null state, all singletons and the table; see the twin on the CPU."""
    (candidates,) = _contiguous(np.int32, candidates)
    B, ratio, bias, coupling = _contiguous(B.dtype, B, ratio, bias, coupling)
    (H, n), dtype = B.shape, B.dtype
    marginals, codes = cupy.empty((2, H, n), dtype=dtype)
    log_norm, mean_gain = cupy.empty(n), cupy.empty(n)
    single = _single_terms(ratio, bias, coupling.diagonal())
    C = table.n_candidates if len(table.length) else 0
    n_pairs = C * (C + 1) // 2
    launch = _launcher(_Key(table), _REAL[dtype], cupy.cuda.Device().id)
    segment = min(_SEGMENT, _BLOCK_NUMBERS // max(1, n_pairs))
    for start in range(0, n, segment):
        stop = min(start + segment, n)
        with_pairs = moments is not None and n_pairs > 0
        pairs = cupy.empty((n_pairs, stop - start) if with_pairs else (1, 1), dtype=dtype)
        arrays = (B, candidates, single, bias, coupling, log_norm, mean_gain, marginals, codes)
        sizes = (np.int32(H), np.int64(n), np.int64(start), np.int64(stop))
        launch(-(-(stop - start) // _THREADS), (*arrays, pairs, *sizes, np.int32(with_pairs)))
        if with_pairs:
            _add_pairs(moments, pairs, candidates, C, start)
    if moments is not None and n:
        diagonal = _single_squares(B, *single[:5, :, None], log_norm[None])
        moments[cupy.arange(H), cupy.arange(H)] += diagonal
    return log_norm, mean_gain, marginals, codes


def _single_terms(ratio, bias, square):
    """Terms (6, H) of the singletons: energies c0 + c1 b + c2 b^2, variances, means, couplings."""
    variance = 1 / (1 + square)
    constant = bias - 0.5 * ratio**2 * square * variance - 0.5 * cupy.log1p(square)
    terms = (constant, ratio * variance, 0.5 * variance, variance, ratio, square)
    return cupy.stack(terms).astype(ratio.dtype)


def _scores(B, c0, c1, c2):
    return _quadratic()(B, c0, c1, c2)


@lru_cache(maxsize=1)
def _quadratic():
    return cupy.ElementwiseKernel(
        "T b, T c0, T c1, T c2", "T y", "y = c0 + (c1 + c2 * b) * b", "quadratic"
    )


def _single_squares(B, c0, c1, c2, variance, ratio, log_norm):
    """Sums over points of the singletons' second moments, (H,) float64."""
    squares = _square()(B, c0, c1, c2, variance, ratio, log_norm)
    return squares.sum(axis=1, dtype=np.float64)


@lru_cache(maxsize=1)
def _square():
    return cupy.ElementwiseKernel(
        "T b, T c0, T c1, T c2, T v, T r, float64 norm", "T y",
        # single precision stays: 200 double exponentials a point would cost more than all the rest
        "T m = (b + r) * v; y = exp((T)((double)(c0 + (c1 + c2 * b) * b) - norm)) * (v + m * m)",
        "slab_squares",
    )  # fmt: skip


# ---------------------------------------------------------------- sums of pairs
_ADD = """
extern "C" __global__ void add_pairs(const REAL* pairs, const int* candidates, const double* unit,
                                     int C, int H, long long n, long long start, long long size,
                                     unsigned long long* sums) {
  long long p = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (p >= size) return;
  double per_unit = 1.0 / unit[0];
  for (int i = 0; i < C; ++i) {
    int h = candidates[i * n + start + p];
    for (int j = 0; j <= i; ++j) {
      double x = (double)pairs[(i * (i + 1) / 2 + j) * size + p];
      long long fixed = __double2ll_rn(x * per_unit);
      if (fixed)
        atomicAdd(sums + (long long)h * H + candidates[j * n + start + p],
                  (unsigned long long)fixed);
    }
  }
}
"""


def _add_pairs(moments, pairs, candidates, C, start):
    """Add the second moments of candidates to `moments`, in fixed point: in any order the same."""
    H, n, size = len(moments), candidates.shape[1], pairs.shape[1]
    largest = cupy.maximum(abs(pairs).max().astype(np.float64), np.finfo(np.float64).tiny)
    unit = cupy.exp2(cupy.ceil(cupy.log2(largest)) + ((size - 1).bit_length() - _SUM_BITS))
    sums = cupy.zeros((H, H), dtype=cupy.int64)
    _adder(_REAL[pairs.dtype])(
        (-(-size // _THREADS),), (_THREADS,),
        (pairs, candidates, unit, np.int32(C), np.int32(H), np.int64(n), np.int64(start),
         np.int64(size), sums),
    )  # fmt: skip
    half = sums * unit
    moments += half + half.T - cupy.diag(half.diagonal())


@lru_cache(maxsize=2)
def _adder(real):
    return cupy.RawKernel(_ADD.replace("REAL", real), "add_pairs")


# ---------------------------------------------------------------- posterior
_HEAD = """
__device__ __forceinline__ void raise_top(REAL& top, REAL higher, REAL& total) {
  if (higher > top) { total *= exp(top - higher); top = higher; }
}

extern "C" __global__ void posterior(
    const REAL* B, const int* candidates, const REAL* single, const REAL* bias,
    const REAL* coupling, double* log_norm, double* mean_gain, REAL* marginals, REAL* codes,
    REAL* pairs, int H, long long n, long long start, long long stop, int with_pairs) {
  long long p = start + (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (p >= stop) return;
  const REAL half = REAL(0.5), one = REAL(1);
"""

# Terms of the candidates: their numbers, projections, prior means, log-odds, and couplings.
_GATHER = """
  int who[N_CANDIDATES];
  REAL b[N_CANDIDATES], r[N_CANDIDATES], o[N_CANDIDATES], m[N_CANDIDATES], f[N_CANDIDATES];
  REAL g[N_PAIRS], q[N_PAIRS];
  UNROLL
  for (int i = 0; i < N_CANDIDATES; ++i) {
    who[i] = candidates[i * n + p];
    b[i] = B[who[i] * n + p]; r[i] = single[4 * H + who[i]]; o[i] = bias[who[i]];
    m[i] = 0; f[i] = 0;
    UNROLL
    for (int j = 0; j <= i; ++j) {
      g[i * (i + 1) / 2 + j] = coupling[(long long)who[i] * H + who[j]];
      q[i * (i + 1) / 2 + j] = 0;
    }
  }
"""

_SINGLES = """
  REAL top = 0, total = 1;  // the null state
  for (int first = 0; first < H; first += 8) {
    REAL e[8], higher = top;
    #pragma unroll
    for (int i = 0; i < 8; ++i) {
      int h = first + i;
      REAL x = h < H ? B[h * n + p] : REAL(0);
      e[i] = h < H ? single[h] + (single[H + h] + single[2 * H + h] * x) * x : REAL(-1e30);
      higher = max(higher, e[i]);
    }
    raise_top(top, higher, total);
    #pragma unroll
    for (int i = 0; i < 8; ++i) total += first + i < H ? exp(e[i] - top) : REAL(0);
  }
  REAL higher = top;
"""

_FINISH = """
  log_norm[p] = (double)top + log((double)total);
  REAL inverse = one / total, gain = 0;
  #pragma unroll 4
  for (int h = 0; h < H; ++h) {
    REAL x = B[h * n + p], v = single[3 * H + h], mean = (x + single[4 * H + h]) * v;
    REAL w = exp(single[h] + (single[H + h] + single[2 * H + h] * x) * x - top) * inverse;
    marginals[h * n + p] = w; codes[h * n + p] = w * mean;
    gain += w * (mean * x - half * single[5 * H + h] * (v + mean * mean));
  }
"""

_TABLE_MOMENTS = """
  UNROLL
  for (int i = 0; i < N_CANDIDATES; ++i) {
    marginals[who[i] * n + p] += m[i] * inverse;
    codes[who[i] * n + p] += f[i] * inverse;
    gain += f[i] * inverse * b[i];
    UNROLL
    for (int j = 0; j <= i; ++j) {
      REAL x = q[i * (i + 1) / 2 + j] * inverse;
      gain -= (i == j ? half : one) * x * g[i * (i + 1) / 2 + j];
      if (with_pairs) pairs[(i * (i + 1) / 2 + j) * (stop - start) + p - start] = x;
    }
  }
"""


@lru_cache(maxsize=64)
def _launcher(key, real, device):
    """Compile the kernel of a table for a device; return a function that launches it."""
    table, C = key.table, key.table.n_candidates
    walks = int((table.length**2).sum()) > _UNROLLED or C > _UNROLLED_CANDIDATES
    head, more, unroll = _HEAD, (), "#pragma unroll"
    if not len(table.length):
        body = _SINGLES + _FINISH
    elif walks:
        head = _WALK_FUNCTION + _HEAD.replace("with_pairs)", "with_pairs, const int* order)")
        body = _GATHER + _SINGLES + _WALK_TOP + _WALK_SUMS + _FINISH + _TABLE_MOMENTS
        more, unroll = (cupy.asarray(_walking_order(table)),), ""
    else:
        top, sums = _straight_code(table)
        body = _GATHER + _SINGLES + top + _FRESH + sums + _FINISH + _TABLE_MOMENTS
    source = head + body + "  mean_gain[p] = (double)gain;\n}\n"
    words = {
        "N_CANDIDATES": C, "N_PAIRS": C * (C + 1) // 2, "N_STATES": len(table.length),
        "WIDTH": table.max_active, "UNROLL": unroll, "+CLASS": "+d" if real == "double" else "+f",
        "REAL": real,
    }  # fmt: skip
    for word, value in words.items():
        source = source.replace(word, str(value))
    kernel = cupy.RawKernel(source, "posterior")
    return lambda n_blocks, arguments: kernel((n_blocks,), (_THREADS,), (*arguments, *more))


# ---------------------------------------------------------------- straight-line code
# Or the compiler would keep what it knows of all states in registers from pass to pass.
_FRESH = """
  #pragma unroll
  for (int i = 0; i < N_CANDIDATES; ++i) asm volatile("" : "+CLASS"(b[i]));
  #pragma unroll
  for (int i = 0; i < N_PAIRS; ++i) asm volatile("" : "+CLASS"(g[i]));
"""


def _straight_code(table):
    """Code of both passes over the tree of states, each state inside its parent."""
    C = table.n_candidates
    children = [[] for _ in range(C + len(table.length))]
    for s, parent in enumerate(table.parent.tolist()):
        children[parent].append(C + s)
    passes = []
    for sums in (False, True):
        lines = []

        def visit(node, slots, lines=lines, sums=sums):
            lines.append("{ " + _state_code(slots, bool(children[node]), sums))
            for child in children[node]:
                visit(child, [*slots, int(table.unit[child - C])])
            lines.append("}")

        for slot in range(C):
            visit(slot, [slot])
        passes.append("\n".join(lines))
    return passes[0] + "\nraise_top(top, higher, total);\n", passes[1]


def _pair(i, j):
    return i * (i + 1) // 2 + j if i >= j else j * (j + 1) // 2 + i


def _state_code(slots, inner, sums):
    """Declare energy e, means k and covariances v of a state, extending those of its parent."""
    d, j, before = len(slots), slots[-1], range(len(slots) - 1)
    p = [f"g[{_pair(j, i)}]" for i in slots]
    old_v = [[f"v{d - 1}_{max(a, b)}_{min(a, b)}" for b in before] for a in before]
    code = []
    for a in before:
        code.append(f"REAL u{d}_{a} = " + " + ".join(f"{old_v[a][b]} * {p[b]}" for b in before))
    residual = "".join(f" - {p[a]} * k{d - 1}_{a}" for a in before)
    left = "".join(f" - {p[a]} * u{d}_{a}" for a in before)
    code += [
        f"REAL x{d} = b[{j}]{residual}, a{d} = {p[-1]}{left}, s{d} = one / (one + a{d})",
        f"REAL e{d} = {f'e{d - 1} + ' if d > 1 else ''}o[{j}] + half * log(s{d})"
        f" + ((half * x{d} + r[{j}]) * x{d} - half * r[{j}] * r[{j}] * a{d}) * s{d}",
    ]
    if inner or (sums and d > 1):
        code.append(f"REAL k{d}_{d - 1} = (x{d} + r[{j}]) * s{d}, v{d}_{d - 1}_{d - 1} = s{d}")
        for a in before:
            code.append(f"REAL k{d}_{a} = k{d - 1}_{a} - u{d}_{a} * k{d}_{d - 1}")
            code.append(f"REAL v{d}_{d - 1}_{a} = -u{d}_{a} * s{d}")
            for b in range(a + 1):
                code.append(f"REAL v{d}_{a}_{b} = {old_v[a][b]} + u{d}_{a} * u{d}_{b} * s{d}")
    if d > 1:
        code += _sum_code(slots) if sums else [f"higher = max(higher, e{d})"]
    return "; ".join(code) + ";"


def _sum_code(slots):
    d = len(slots)
    code = [f"REAL w{d} = exp(e{d} - top)", f"total += w{d}"]
    for a in range(d):
        code.append(f"m[{slots[a]}] += w{d}")
        code.append(f"f[{slots[a]}] += w{d} * k{d}_{a}")
        for b in range(a + 1):
            at = _pair(slots[a], slots[b])
            code.append(f"q[{at}] += w{d} * (v{d}_{a}_{b} + k{d}_{a} * k{d}_{b})")
    return code


# ---------------------------------------------------------------- large tables
# One state of n + 1 latents from its parent of n; rows of the path are indexed by numbers of
# latents. `order` lists the states depth first: their slots, and their length at the end.
_WALK_FUNCTION = """
__device__ void extend(const int* slots, int n, const REAL* b, const REAL* r, const REAL* o,
                       const REAL* g, REAL e[], REAL k[][WIDTH],
                       REAL v[][WIDTH * (WIDTH + 1) / 2]) {
  int j = slots[n];
  REAL u[WIDTH], x = b[j], a = g[j * (j + 1) / 2 + j];
  for (int c = 0; c < n; ++c) {
    REAL sum = 0, pc = g[j * (j + 1) / 2 + slots[c]];
    for (int d = 0; d < n; ++d)
      sum += v[n][c > d ? c * (c + 1) / 2 + d : d * (d + 1) / 2 + c]
             * g[j * (j + 1) / 2 + slots[d]];
    u[c] = sum; x -= pc * k[n][c]; a -= pc * sum;
  }
  REAL s = REAL(1) / (REAL(1) + a), mean = (x + r[j]) * s;
  e[n + 1] = (n ? e[n] : REAL(0)) + o[j] + REAL(0.5) * log(s)
             + ((REAL(0.5) * x + r[j]) * x - REAL(0.5) * r[j] * r[j] * a) * s;
  for (int c = 0; c < n; ++c) {
    k[n + 1][c] = k[n][c] - u[c] * mean;
    for (int d = 0; d <= c; ++d)
      v[n + 1][c * (c + 1) / 2 + d] = v[n][c * (c + 1) / 2 + d] + u[c] * u[d] * s;
    v[n + 1][n * (n + 1) / 2 + c] = -u[c] * s;
  }
  k[n + 1][n] = mean; v[n + 1][n * (n + 1) / 2 + n] = s;
}
"""

_WALK_TOP = """
  REAL e[WIDTH + 1], k[WIDTH + 1][WIDTH], v[WIDTH + 1][WIDTH * (WIDTH + 1) / 2];
  for (int s = 0; s < N_STATES; ++s) {
    const int* slots = order + s * (WIDTH + 1);
    int length = slots[WIDTH];
    if (!s || slots[0] != slots[-WIDTH - 1]) extend(slots, 0, b, r, o, g, e, k, v);
    extend(slots, length - 1, b, r, o, g, e, k, v);
    higher = max(higher, e[length]);
  }
  raise_top(top, higher, total);
"""

_WALK_SUMS = """
  for (int s = 0; s < N_STATES; ++s) {
    const int* slots = order + s * (WIDTH + 1);
    int length = slots[WIDTH];
    if (!s || slots[0] != slots[-WIDTH - 1]) extend(slots, 0, b, r, o, g, e, k, v);
    extend(slots, length - 1, b, r, o, g, e, k, v);
    REAL w = exp(e[length] - top);
    total += w;
    for (int c = 0; c < length; ++c) {
      int i = slots[c];
      m[i] += w; f[i] += w * k[length][c];
      for (int d = 0; d <= c; ++d)
        q[i * (i + 1) / 2 + slots[d]]
            += w * (v[length][c * (c + 1) / 2 + d] + k[length][c] * k[length][d]);
    }
  }
"""


def _walking_order(table):
    order = np.lexsort(table.members.T[::-1])
    return np.column_stack([table.members[order], table.length[order]]).astype(np.int32)
