"""Linear sketches: CountSketch, Gaussian and sign projections (D. Woodruff, 2014)."""

from functools import partial

import numpy as np
from sklearn.utils._param_validation import StrOptions

from .._arrays import compute_namespace
from .._kernels import _hash_matrices_numba as matrices
from .._kernels._sketch_numba import add_dense_to_buckets, add_to_buckets
from .._threads import n_threads_allowed, thread_pool
from ._keys import as_keys, mix_array, rehash, units
from ._linear_sketch import LinearSketch
from ._matrix_sketch import Settings
from ._rows import as_rows, row_lengths
from ._sketcher import Sketcher

_BUCKET, _SIGN, _PROJECTION = 1, 2, 3  # purposes of hashes
_ENTRIES = 1 << 20  # of a block of a random matrix, which stays in the cache


class _LinearSketcher(Sketcher):
    """Base of the linear sketchers; `_table` sums rows with random factors."""

    _method: str
    _parameter_constraints: dict = {
        **Sketcher._parameter_constraints,
        "duplicates": [StrOptions({"error", "sum"})],
    }

    def __init__(self, n_samples=1000, *, seed=0, duplicates="error"):
        self.n_samples = n_samples
        self.seed = seed
        self.duplicates = duplicates

    def _sketch_matrix(self, A, keys, first):
        rows = as_rows(A)
        unique = self.duplicates == "error"
        keys = as_keys(
            keys, rows.n_rows, seed=self.seed, first=first, gpu=rows.on_gpu, unique=unique
        )
        table = self._table(rows, keys.hashes)
        if not bool(compute_namespace(table).isfinite(table).all()):
            row_lengths(rows)  # names the row with NaN or infinity
            raise FloatingPointError("Sums of rows overflow; scale the matrix down.")
        settings = Settings(self._method, self.seed, "none", keys.kind, self.n_samples)
        table = table.astype(rows.dtype, copy=False)
        return LinearSketch(settings, table, rows.n_rows, rows.given)

    def _table(self, rows, hashes):
        raise NotImplementedError


class CountSketcher(_LinearSketcher):
    r"""Sketch a matrix by sums of rows with random signs, each row in one of some buckets.

    The bucket and the sign of a row are hashes of its key. The cost is one pass over the non-zero
    entries, and the expected squared error of a product is about
    :math:`(\|A\|_F^2 \|B\|_F^2 + \|A^T B\|_F^2) / n_\mathrm{samples}`.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of buckets, each with a dense row.
    seed : int, default=0
        Of the hashes. Sketches can be compared if they share it.
    duplicates : {"error", "sum"}, default="error"
        What to do with a key that occurs twice.

    Attributes
    ----------
    sketch_ : LinearSketch
        What `partial_fit` has seen.

    See Also
    --------
    PrioritySketcher : Keeps rows; smaller for sparse ones, better where few keys match.

    Notes
    -----
    Threads work on buckets of their own: their number does not change the sums. Chunks, merging and
    ranks change them by rounding, other than those of samples.

    References
    ----------
    .. [1] M. Charikar, K. Chen, M. Farach-Colton. "Finding frequent items in data streams". ICALP,
       2002.
    .. [2] D. Woodruff. "Sketching as a Tool for Numerical Linear Algebra". Foundations and Trends
       in Theoretical Computer Science 10, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.sketch import CountSketcher
    >>> x = np.random.default_rng(0).normal(size=5000)
    >>> sketch = CountSketcher(500).sketch(x)
    >>> bool(abs(sketch.inner(sketch) / (x @ x) - 1) < 0.2)
    True
    """

    _method = "count"

    def _table(self, rows, hashes):
        number = compute_namespace(hashes).uint64
        places = rehash(hashes, self.seed, _BUCKET) % number(self.n_samples)
        signs = 1 - 2.0 * (rehash(hashes, self.seed, _SIGN) >> number(63)).astype(np.float64)
        places = places.astype(np.int64)
        if rows.on_gpu:
            return _one_hot_product(rows, places, signs, self.n_samples)
        table = np.zeros((self.n_samples, rows.n_features))
        if rows.is_sparse:
            add, parts = add_to_buckets, (rows.A.data, rows.A.indices, rows.A.indptr)
        else:
            add, parts = add_dense_to_buckets, rows.A
            if rows.A.dtype == np.float16:
                parts = rows.A.astype(np.float32)
        in_parts(lambda first, stop: add(parts, places, signs, (first, stop), table), len(table))
        return table


def _one_hot_product(rows, places, signs, n_buckets):
    import cupy
    from cupyx.scipy.sparse import csr_matrix

    n = rows.n_rows
    ends = cupy.arange(n + 1, dtype=np.int32)
    turned = csr_matrix((signs, places.astype(np.int32), ends), shape=(n, n_buckets)).T.tocsr()
    table = turned @ rows.A.astype(np.float64)
    return table.toarray() if rows.is_sparse else table


class _ProjectionSketcher(_LinearSketcher):
    """Base of the sketchers whose random matrix is dense; it is made in blocks and not kept."""

    def _table(self, rows, hashes):
        hashes = rehash(hashes, self.seed, _PROJECTION)
        xp = compute_namespace(hashes)
        columns = self.n_samples + self.n_samples % 2
        table = xp.zeros((rows.n_features, columns))
        if rows.on_gpu:
            self._add_columns(rows.A, hashes, table, _random_on_gpu(self._method), 0, columns)
        else:
            numbers = matrices.normal_rows if self._method == "gaussian" else matrices.sign_rows
            work = partial(self._add_columns, rows.A, hashes, table, partial(_random, numbers))
            in_parts(work, columns, even=True)
        return xp.ascontiguousarray(table.T[: self.n_samples]) / np.sqrt(self.n_samples)

    def _add_columns(self, A, hashes, table, random, first, stop):
        size = max(1, _ENTRIES // max(1, stop - first))
        for start in range(0, A.shape[0], size):
            S = random(hashes[start : start + size], first, stop)
            block = A[start : start + size]
            block = block if block.dtype == np.float64 else block.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # looked for in the result
                table[:, first:stop] += block.T @ S


def _random(numbers, hashes, first, stop):
    S = np.empty((len(hashes), stop - first))
    numbers(hashes, first, S)
    return S


def _random_on_gpu(method):
    import cupy

    golden = cupy.uint64(0x9E3779B97F4A7C15)

    def normal(hashes, first, stop):
        pairs = cupy.arange(first, stop, 2, dtype=np.uint64) * golden
        state = hashes[:, None] + pairs
        radius = cupy.sqrt(-2 * cupy.log(units(mix_array(state))))
        angle = 2 * np.pi * units(mix_array(state + golden))
        return cupy.stack([radius * cupy.cos(angle), radius * cupy.sin(angle)], -1).reshape(
            len(hashes), stop - first
        )

    def signs(hashes, first, stop):
        columns = cupy.arange(first, stop, dtype=np.uint64)
        words = mix_array(
            hashes[:, None] + cupy.arange((stop + 63) // 64, dtype=np.uint64) * golden
        )
        bits = words[:, (columns // 64).astype(np.int64)] >> (columns % 64)
        return (bits & cupy.uint64(1)).astype(np.float64) * 2 - 1

    return normal if method == "gaussian" else signs


class GaussianSketcher(_ProjectionSketcher):
    r"""Sketch a matrix by sums of all rows with normal factors.

    The expected squared error of a product is
    :math:`(\|A\|_F^2 \|B\|_F^2 + \|A^T B\|_F^2) / n_\mathrm{samples}`. Each non-zero entry costs
    `n_samples` operations: this is the yardstick of the others more than a tool.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of sums, each a dense row.
    seed : int, default=0
        Of the hashes. Sketches can be compared if they share it.
    duplicates : {"error", "sum"}, default="error"
        What to do with a key that occurs twice.

    Attributes
    ----------
    sketch_ : LinearSketch
        What `partial_fit` has seen.

    See Also
    --------
    CountSketcher : As accurate, at a fraction of the cost.

    References
    ----------
    .. [1] D. Woodruff. "Sketching as a Tool for Numerical Linear Algebra". Foundations and Trends
       in Theoretical Computer Science 10, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.sketch import GaussianSketcher
    >>> x = np.random.default_rng(0).normal(size=2000)
    >>> sketch = GaussianSketcher(500).sketch(x)
    >>> bool(abs(sketch.inner(sketch) / (x @ x) - 1) < 0.2)
    True
    """

    _method = "gaussian"


class SignSketcher(_ProjectionSketcher):
    r"""Sketch a matrix by sums of all rows with random signs.

    As `GaussianSketcher`, with signs in place of normal numbers, which are cheaper to make.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of sums, each a dense row.
    seed : int, default=0
        Of the hashes. Sketches can be compared if they share it.
    duplicates : {"error", "sum"}, default="error"
        What to do with a key that occurs twice.

    Attributes
    ----------
    sketch_ : LinearSketch
        What `partial_fit` has seen.

    References
    ----------
    .. [1] D. Achlioptas. "Database-friendly random projections". Journal of Computer and System
       Sciences 66:671-687, 2003.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.sketch import SignSketcher
    >>> x = np.random.default_rng(0).normal(size=2000)
    >>> sketch = SignSketcher(500).sketch(x)
    >>> bool(abs(sketch.inner(sketch) / (x @ x) - 1) < 0.2)
    True
    """

    _method = "sign"


def in_parts(work, n, *, even=False):
    """Call ``work(first, stop)`` for parts of a range, one for each thread."""
    unit = 2 if even else 1
    n_threads = max(1, min(n_threads_allowed(), n // unit))
    edges = [n // unit * t // n_threads * unit for t in range(n_threads)] + [n]
    if n_threads == 1:
        work(0, n)
        return
    done = [thread_pool(n_threads).submit(work, *edges[t : t + 2]) for t in range(n_threads)]
    for future in done:
        future.result()
