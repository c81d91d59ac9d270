"""CUDA code of the models whose causes combine by a maximum.

One warp per point; each lane holds some features of the point and of the superpositions in
registers, while nested loops, one per active cause, run through the states depth first. Sums over
points are in fixed point: they do not depend on the order.
"""

from ._superpositions import SOFT

THREADS, WARPS = 128, 4  # of a block
_WIDTH = 8  # features of a lane at a time
_REGISTERS = 32  # for the shares of the candidates, of a lane

# ---------------------------------------------------------------- selection
_EXCESS = """
extern "C" __global__ void excess(const REAL* Y, const REAL* W, long long n, int H, int D,
                                  REAL* scores) {
  __shared__ REAL y[16][65], w[16][65];  // tiles of 16 features; 64 points, 64 causes
  int tx = threadIdx.x, ty = threadIdx.y, t = ty * 16 + tx;
  long long first = (long long)blockIdx.x * 64;
  int cause = blockIdx.y * 64;
  REAL sum[4][4];
  #pragma unroll
  for (int i = 0; i < 4; ++i)
    #pragma unroll
    for (int k = 0; k < 4; ++k) sum[i][k] = 0;
  for (int start = 0; start < D; start += 16) {
    for (int at = t; at < 1024; at += 256) {
      int d = start + at % 16, i = at / 16;
      bool inside = d < D;
      y[at % 16][i] = inside && first + i < n ? Y[(first + i) * D + d] : REAL(0);
      w[at % 16][i] = inside && cause + i < H ? W[(long long)(cause + i) * D + d] : REAL(0);
    }
    __syncthreads();
    #pragma unroll
    for (int d = 0; d < 16; ++d) {
      REAL a[4], b[4];
      #pragma unroll
      for (int i = 0; i < 4; ++i) { a[i] = y[d][ty + 16 * i]; b[i] = w[d][tx + 16 * i]; }
      #pragma unroll
      for (int i = 0; i < 4; ++i)
        #pragma unroll
        for (int k = 0; k < 4; ++k) sum[i][k] += max(b[k] - a[i], REAL(0));
    }
    __syncthreads();
  }
  #pragma unroll
  for (int i = 0; i < 4; ++i)
    #pragma unroll
    for (int k = 0; k < 4; ++k) {
      long long p = first + ty + 16 * i;
      int h = cause + tx + 16 * k;
      if (p < n && h < H) scores[p * H + h] = -sum[i][k];
    }
}
"""


def excess_source(real):
    """Code of the kernel ``excess``."""
    return _EXCESS.replace("REAL", real)


# ---------------------------------------------------------------- superpositions
_COMBINE = [  # by kind: LARGEST, STRONGEST, SOFT
    "return max(a, b);",
    "REAL high = max(a, b), low = min(a, b); return high >= -low ? high : low;",
    "return a + b;",
]
_NOISE_FREE = {  # |t|^exponent from mantissa and exponent of t, which may be below all floats
    "float": """
  double a = fabs(t);
  int high = __double2hiint(a), low = __double2loint(a);
  float m = __int_as_float(0x3f800000 | ((high & 0xfffff) << 3) | ((unsigned)low >> 29));
  float e = (float)exponent, k = (float)((high >> 20) - 1023);
  float x = unit * exp2f(fmaf(e, k, e * __log2f(m)));
  return t < 0 ? -x : x;""",
    "double": """
  double x = unit * pow(max(fabs(t), 2.3e-308), exponent);
  return t < 0 ? -x : x;""",
}
_HEAD = """
#define FULL 0xffffffffu
__device__ __forceinline__ ROW combine(ROW a, ROW b) { COMBINE }
__device__ __forceinline__ REAL noise_free(ROW t, REAL unit, double exponent) { NOISE_FREE }
template <typename T> __device__ __forceinline__ T warp_sum(T x) {
  #pragma unroll
  for (int k = 16; k > 0; k /= 2) x += __shfl_xor_sync(FULL, x, k);
  return x;
}
__device__ __forceinline__ REAL warp_max(REAL x) {
  #pragma unroll
  for (int k = 16; k > 0; k /= 2) x = max(x, __shfl_xor_sync(FULL, x, k));
  return x;
}
__device__ __forceinline__ void add_fixed(unsigned long long* sum, double x) {
  long long fixed = __double2ll_rn(x);
  if (fixed) atomicAdd(sum, (unsigned long long)fixed);
}

// Energies of the states of the table at point p, in depth-first order.
__device__ __forceinline__ void walk(
    const REAL* Y, const REAL* half, long long half_step, const ROW* rows, const REAL* scale,
    double exponent, REAL precision, REAL bonus, const int* candidates, long long n, int D,
    long long p, int lane, REAL* energy) {
  for (int start = 0; start < D; start += 32 * WIDTH) {
    REAL y[WIDTH], h[WIDTH], unit[WIDTH];
    #pragma unroll
    for (int j = 0; j < WIDTH; ++j) {
      int d = start + 32 * j + lane;
      bool inside = d < D;
      y[j] = inside ? Y[p * D + d] : REAL(0);
      h[j] = inside ? half[p * half_step + d] : REAL(0);
      unit[j] = inside ? UNIT : REAL(0);
    }
    int s = 0;
    TREE
  }
  __syncwarp();
}
"""
_PARAMETERS = """
    const REAL* Y, const REAL* half, long long half_step, const ROW* rows, const ROW* reach,
    const REAL* scale, double exponent, double precision, double bonus, const REAL* singles,
    const int* candidates, int H, int D, long long n, long long start, long long stop"""
_WALK = """walk(Y, half, half_step, rows, scale, exponent, (REAL)precision, (REAL)bonus,
         candidates, n, D, p, lane, energy);"""
_ROUND = """
  int lane = threadIdx.x % 32;
  long long warp = (long long)blockIdx.x * WARPS + threadIdx.x / 32;
  for (long long p = start + warp; p < stop; p += (long long)gridDim.x * WARPS) {"""


def _tree_code(depth, deepest):
    """Nested loops over the slots of the causes, the state of each within its parent's."""
    if depth > deepest:
        return ""
    g, above = depth, f"c{depth - 1} + 1" if depth > 1 else "0"
    row = "inside ? rows[r + d] : ROW(0)"
    if depth == 1:
        energy, value = "", row
    else:
        value = f"combine(m{g - 1}[j], {row})"
        energy = f"""
      REAL fit = 0;
      #pragma unroll
      for (int j = 0; j < WIDTH; ++j) {{
        REAL bar = noise_free(m{g}[j], unit[j], exponent);
        fit += bar * (y[j] - h[j] * bar);
      }}
      fit = warp_sum(fit);
      if (lane == 0) energy[s] = (start ? energy[s] : {g} * bonus) + precision * fit;
      ++s;"""
    return f"""
    for (int c{g} = {above}; c{g} < N_CANDIDATES; ++c{g}) {{
      ROW m{g}[WIDTH];
      {{
        long long r = (long long)candidates[c{g} * n + p] * D;
        #pragma unroll
        for (int j = 0; j < WIDTH; ++j) {{
          int d = start + 32 * j + lane;
          bool inside = d < D;
          m{g}[j] = {value};
        }}
      }}{energy}
      {_tree_code(depth + 1, deepest)}
    }}"""


_ENERGIES = f"""
extern "C" __global__ void energies({_PARAMETERS}, REAL* found) {{
  {_ROUND}
    REAL* energy = found + p * N_STATES;
    {_WALK}
  }}
}}
"""

# ---------------------------------------------------------------- posterior
_POSTERIOR = f"""
extern "C" __global__ void __launch_bounds__({THREADS}) posterior({_PARAMETERS},
    double num_per_unit, double den_per_unit, unsigned long long* sums, REAL* mean,
    double* log_norm, double* mean_energy, REAL* alone, REAL* marginals,
    const int* members, REAL* scratch) {{
  {_ROUND}
    REAL* energy = scratch + warp * N_STATES;
    {_WALK}
    const REAL* single = singles + p * H;
    REAL top = 0;
    for (int i = lane; i < H; i += 32) top = max(top, single[i]);
    for (int s = lane; s < N_STATES; s += 32) top = max(top, energy[s]);
    top = warp_max(top);
    double total = 0, average = 0;
    for (int i = lane; i < H; i += 32) {{
      REAL w = exp(single[i] - top);
      total += w; average += (double)w * single[i];
      alone[p * H + i] = w;
    }}
    for (int s = lane; s < N_STATES; s += 32) {{
      REAL e = energy[s], w = exp(e - top);
      total += w; average += (double)w * e;
      energy[s] = w;
    }}
    total = warp_sum(total) + exp(-(double)top);
    average = warp_sum(average);
    if (lane == 0) {{
      log_norm[p] = (double)top + log(total);
      mean_energy[p] = average / total;
    }}
    REAL inverse = (REAL)(1 / total);
    for (int i = lane; i < H; i += 32)
      marginals[p * H + i] = alone[p * H + i] = alone[p * H + i] * inverse;
    for (int s = lane; s < N_STATES; s += 32) energy[s] *= inverse;
    __syncwarp();
    for (int c = 0; c < N_CANDIDATES; ++c) {{
      REAL sum = 0;
      for (int s = lane; s < N_STATES; s += 32) {{
        REAL w = energy[s];
        if (w > 0)
          for (int i = 0; i < MAX_ACTIVE; ++i)
            if (members[s * MAX_ACTIVE + i] == c) sum += w;
      }}
      sum = warp_sum(sum);
      if (lane == 0) marginals[p * H + candidates[c * n + p]] += sum;
    }}
    SHARES
    __syncwarp();
  }}
}}
"""
_SHARES = """
    for (int first = 0; first < D; first += 32 * NARROW) {
      REAL share[N_CANDIDATES][NARROW], average_row[NARROW];
      #pragma unroll
      for (int j = 0; j < NARROW; ++j) {
        average_row[j] = 0;
        #pragma unroll
        for (int c = 0; c < N_CANDIDATES; ++c) share[c][j] = 0;
      }
      for (int base = 0; base < N_STATES; base += 32) {
        REAL w = base + lane < N_STATES ? energy[base + lane] : REAL(0);
        unsigned live = __ballot_sync(FULL, w > REAL(1e-14));
        while (live) {
          int bit = __ffs(live) - 1;
          live &= live - 1;
          REAL q = __shfl_sync(FULL, w, bit);
          const int* slots = members + (base + bit) * MAX_ACTIVE;
          ROW m[NARROW], bar[NARROW];
          for (int i = 0; i < MAX_ACTIVE && slots[i] >= 0; ++i) {
            long long r = (long long)candidates[slots[i] * n + p] * D;
            #pragma unroll
            for (int j = 0; j < NARROW; ++j) {
              int d = first + 32 * j + lane;
              ROW x = d < D ? rows[r + d] : ROW(0);
              m[j] = i ? combine(m[j], x) : x;
            }
          }
          #pragma unroll
          for (int j = 0; j < NARROW; ++j) {
            int d = first + 32 * j + lane;
            bar[j] = noise_free(m[j], d < D ? UNIT : REAL(0), exponent);
            average_row[j] += q * (REAL)bar[j];
            if (IS_SOFT) bar[j] = fabs(bar[j]) / max(fabs(m[j]), ROW(TINIEST));
          }
          if (GATHERS) {
            #pragma unroll
            for (int c = 0; c < N_CANDIDATES; ++c) {
              bool holds = false;
              for (int i = 0; i < MAX_ACTIVE; ++i) holds |= slots[i] == c;
              if (holds) {
                long long r = (long long)candidates[c * n + p] * D;
                #pragma unroll
                for (int j = 0; j < NARROW; ++j) {
                  int d = first + 32 * j + lane;
                  if (d < D) {
                    REAL a = IS_SOFT ? (REAL)min(reach[r + d] * bar[j], ROW(1))
                                     : REAL(fabs(rows[r + d]) >= fabs(bar[j]));
                    share[c][j] += q * a;
                  }
                }
              }
            }
          }
        }
      }
      #pragma unroll
      for (int j = 0; j < NARROW; ++j) {
        int d = first + 32 * j + lane;
        if (d < D) {
          if (AVERAGES) mean[p * D + d] = average_row[j];
          if (GATHERS) {
            double above = num_per_unit * Y[p * D + d];
            double below = den_per_unit * 2 * half[p * half_step + d];
            #pragma unroll
            for (int c = 0; c < N_CANDIDATES; ++c) {
              if (share[c][j] != 0) {
                long long at = (long long)candidates[c * n + p] * D + d;
                add_fixed(sums + at, above * share[c][j]);
                add_fixed(sums + (long long)H * D + at, below * share[c][j]);
              }
            }
          }
        }
      }
    }
"""


def source_of(name, kind, C, G, S, real, gathers, averages):
    """Code of the kernel ``energies`` or ``posterior`` for a table of C candidates and S states.

    At most G causes are active; `gathers` and `averages` say which sums are wanted.
    """
    soft = kind == SOFT
    head = _HEAD.replace("COMBINE", _COMBINE[kind])
    head = head.replace("NOISE_FREE", _NOISE_FREE[real] if soft else "return t;")
    head = head.replace("TREE", _tree_code(1, G) if S else "")
    body = _ENERGIES if name == "energies" else _POSTERIOR
    source = head + body.replace("SHARES", _SHARES if gathers or averages else "")
    values = {
        "N_CANDIDATES": C, "N_STATES": S, "MAX_ACTIVE": G, "WARPS": WARPS, "WIDTH": _WIDTH,
        "NARROW": max(1, min(_WIDTH, _REGISTERS // C)), "GATHERS": int(gathers),
        "AVERAGES": int(averages), "IS_SOFT": int(soft), "TINIEST": "1e-307" if soft else "0",
        "UNIT": "scale[d]" if soft else "REAL(1)", "ROW": "double" if soft else real, "REAL": real,
    }  # fmt: skip
    for word, value in values.items():
        source = source.replace(word, str(value))
    return source
