"""Selection of the largest entries of rows on the GPU, without sorting them.

Numbers are ordered as integers made of their bits. The n-th largest is found eight bits at a time:
the numbers that agree with it so far are counted by their next eight bits.
"""

from functools import lru_cache

import cupy
import numpy as np

_THREADS = 256  # one for each value of eight bits
_SHORT = 32  # rows in which each entry is compared with each
_SLICE = 2**14  # entries of a long row that a block counts

_KEYS = """
__device__ __forceinline__ KEY key_of(REAL x) {
  union { REAL x; KEY k; } u;
  u.x = x;  // no arithmetic, which may take the smallest numbers for zero
  if (u.k == (KEY)1 << (BITS - 1)) u.k = 0;  // -0
  return u.k ^ ((u.k >> (BITS - 1)) ? ~(KEY)0 : (KEY)1 << (BITS - 1));
}

// Of counts by eight bits, the value at which the n-th from above is; n counts on within it.
__device__ int pick(int* counts, int* above, int* found, int n) {
  int t = threadIdx.x;
  above[t] = counts[t];
  __syncthreads();
  for (int step = 1; step < 256; step *= 2) {
    int more = t + step < 256 ? above[t + step] : 0;
    __syncthreads();
    above[t] += more;
    __syncthreads();
  }
  if (above[t] >= n && above[t] - counts[t] < n) {
    found[0] = t;
    found[1] = n - (above[t] - counts[t]);
    found[2] = counts[t];
  }
  __syncthreads();
  return found[0];
}
"""

_SHORT_ROWS = """
extern "C" __global__ void short_rows(const REAL* x, bool* mask, long long size, int N, int n) {
  long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= size) return;
  int j = (int)(at % N), before = 0;
  KEY own = key_of(x[at]);
  const REAL* row = x + (at - j);
  for (int k = 0; k < N; ++k) {
    KEY other = key_of(row[k]);
    before += other > own || (other == own && k < j);
  }
  mask[at] = before < n;
}
"""

# One block a row, which lies in shared memory.
_ROWS = """
extern "C" __global__ void rows(const REAL* x, bool* mask, int N, int n) {
  extern __shared__ KEY keys[];
  __shared__ int counts[256], above[256], found[3];
  long long row = (long long)blockIdx.x * N;
  for (int j = threadIdx.x; j < N; j += 256) keys[j] = key_of(x[row + j]);
  KEY prefix = 0;
  int shift = BITS, room = n, ties = N;
  while (shift == BITS || (shift > 0 && ties > room)) {
    shift -= 8;
    counts[threadIdx.x] = 0;
    __syncthreads();
    for (int j = threadIdx.x; j < N; j += 256)
      if (shift == BITS - 8 || keys[j] >> (shift + 8) == prefix)
        atomicAdd(&counts[(int)(keys[j] >> shift & 255)], 1);
    __syncthreads();
    prefix = prefix << 8 | (KEY)pick(counts, above, found, room);
    room = found[1];
    ties = found[2];
    __syncthreads();
  }
  for (int j = threadIdx.x; j < N; j += 256) mask[row + j] = keys[j] >> shift >= prefix;
  if (ties == room) return;
  __syncthreads();
  if (threadIdx.x == 0)  // rare: of equal numbers the first ones
    for (int j = 0; j < N; ++j)
      if (keys[j] == prefix) mask[row + j] = room-- > 0;
}
"""

# Many blocks a row. The state of a row: prefix, how many are wanted of it, how many there are.
_COUNT = """
extern "C" __global__ void count_slices(const REAL* x, const unsigned long long* state, int* counts,
                                        long long N, int n_slices, int slice, int shift) {
  __shared__ int own[256];
  long long row = blockIdx.x / n_slices, first = (long long)(blockIdx.x % n_slices) * slice;
  long long stop = first + slice < N ? first + slice : N;
  KEY prefix = (KEY)state[3 * row];
  own[threadIdx.x] = 0;
  __syncthreads();
  for (long long j = first + threadIdx.x; j < stop; j += 256) {
    KEY key = key_of(x[row * N + j]);
    if (shift == BITS - 8 || key >> (shift + 8) == prefix)
      atomicAdd(&own[(int)(key >> shift & 255)], 1);
  }
  __syncthreads();
  if (own[threadIdx.x]) atomicAdd(&counts[row * 256 + threadIdx.x], own[threadIdx.x]);
}
"""
_NARROW = """
extern "C" __global__ void narrow(unsigned long long* state, int* counts) {
  __shared__ int above[256], found[3];
  unsigned long long* own = state + 3 * blockIdx.x;
  int* mine = counts + 256 * blockIdx.x;
  int n = (int)own[1];
  __syncthreads();
  int next = pick(mine, above, found, n);
  mine[threadIdx.x] = 0;
  if (threadIdx.x == 0) {
    own[0] = own[0] << 8 | (unsigned long long)next;
    own[1] = found[1];
    own[2] = found[2];
  }
}
"""
_WRITE = """
extern "C" __global__ void write_mask(const REAL* x, const unsigned long long* state, bool* mask,
                                      bool* tied, long long N, long long size) {
  long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= size) return;
  const unsigned long long* own = state + 3 * (at / N);
  KEY key = key_of(x[at]), bound = (KEY)own[0];
  bool in_turn = own[2] > own[1];  // more are equal than there is room for
  mask[at] = in_turn ? key > bound : key >= bound;
  tied[at] = key == bound;
}
"""
_CODE = {
    "short_rows": _SHORT_ROWS,
    "rows": _ROWS,
    "count_slices": _COUNT,
    "narrow": _NARROW,
    "write_mask": _WRITE,
}


def largest(moduli, n):
    """Return the mask of the n largest entries of each row; see the twin on the CPU."""
    moduli = cupy.ascontiguousarray(moduli)
    (T, N), mask = moduli.shape, cupy.empty(moduli.shape, dtype=bool)
    if not moduli.size:
        return mask
    if N <= _SHORT:
        n_blocks = -(-moduli.size // _THREADS)
        arguments = (moduli, mask, np.int64(moduli.size), np.int32(N), np.int32(n))
        _kernel("short_rows", moduli.dtype)((n_blocks,), (_THREADS,), arguments)
    elif N * moduli.itemsize <= _shared_memory():
        arguments, shared = (moduli, mask, np.int32(N), np.int32(n)), N * moduli.itemsize
        _kernel("rows", moduli.dtype)((T,), (_THREADS,), arguments, shared_mem=shared)
    else:
        _largest_of_long(moduli, n, mask)
    return mask


def _largest_of_long(moduli, n, mask):
    (T, N), bits = moduli.shape, 8 * moduli.itemsize
    state = cupy.zeros((T, 3), dtype=np.uint64)
    state[:, 1] = n
    counts, n_slices = cupy.zeros((T, 256), dtype=np.int32), -(-N // _SLICE)
    for shift in range(bits - 8, -1, -8):
        arguments = (moduli, state, counts, np.int64(N), np.int32(n_slices), np.int32(_SLICE))
        grid = (T * n_slices,)
        _kernel("count_slices", moduli.dtype)(grid, (_THREADS,), (*arguments, np.int32(shift)))
        _kernel("narrow", moduli.dtype)((T,), (_THREADS,), (state, counts))
    tied = cupy.empty_like(mask)
    arguments = (moduli, state, mask, tied, np.int64(N), np.int64(moduli.size))
    _kernel("write_mask", moduli.dtype)((-(-moduli.size // _THREADS),), (_THREADS,), arguments)
    crowded = cupy.nonzero(state[:, 2] > state[:, 1])[0]
    if len(crowded):
        room = state[crowded, 1].astype(np.int64)[:, None]
        first = tied[crowded] & (cupy.cumsum(tied[crowded], axis=1, dtype=np.int64) <= room)
        mask[crowded] |= first


@lru_cache(maxsize=1)
def _shared_memory():
    """Bytes that a block may have besides its counts."""
    return cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"] - 4096


@lru_cache(maxsize=16)
def _kernel(name, dtype):
    real, key, bits = {4: ("float", "unsigned int", 32), 8: ("double", "unsigned long long", 64)}[
        dtype.itemsize
    ]
    code = _KEYS + _CODE[name]
    for word, meaning in (("REAL", real), ("KEY", key), ("BITS", str(bits))):
        code = code.replace(word, meaning)
    kernel = cupy.RawKernel(code, name)
    if name == "rows":
        kernel.max_dynamic_shared_size_bytes = _shared_memory()
    return kernel
