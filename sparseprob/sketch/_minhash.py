"""Weighted MinHash sketches of vectors (A. Bessa, M. Daliri, J. Freire et al., 2023)."""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval

from .._arrays import to_numpy
from .._kernels._hash_matrices_numba import weighted_minima
from ._keys import as_keys
from ._linear import in_parts
from ._matrix_sketch import MatrixSketch, Settings, no_overlap
from ._rows import as_rows, row_lengths
from ._sketcher import Sketcher


class WeightedMinHashSketcher(Sketcher):
    r"""Sketch a vector by the winners of many weighted lotteries over its entries.

    Each of `n_samples` hash functions gives every entry as many hashes as its square has shares,
    and the least of them wins. Kept for comparison: `PrioritySketcher` is faster by a factor of
    about `n_samples`, more accurate, takes matrices, and its sketches can be merged.

    Parameters
    ----------
    n_samples : int, default=200
        Number of hash functions.
    resolution : float, default=1e7
        Number of shares that the squared length of the vector is cut into.
    seed : int, default=0
        Of the hashes. Sketches can be compared if they share it.

    See Also
    --------
    PrioritySketcher : To use.

    References
    ----------
    .. [1] A. Bessa, M. Daliri, J. Freire, Cameron Musco, Christopher Musco, A. Santos, H. Zhang.
       "Weighted Minwise Hashing Beats Linear Sketching for Inner Product Estimation". PODS, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.sketch import WeightedMinHashSketcher
    >>> x = np.random.default_rng(0).normal(size=200)
    >>> sketch = WeightedMinHashSketcher(400).sketch(x)
    >>> bool(abs(sketch.inner(sketch) / (x @ x) - 1) < 0.2)
    True
    """

    _parameter_constraints: dict = {
        **Sketcher._parameter_constraints,
        "resolution": [Interval(Real, 1, 2**53, closed="both")],
    }

    def __init__(self, n_samples=200, *, resolution=1e7, seed=0):
        self.n_samples = n_samples
        self.resolution = resolution
        self.seed = seed

    def _check_stream(self):
        raise ValueError("Weighted MinHash needs the whole vector at once; use sketch.")

    def _sketch_matrix(self, A, keys, first):
        rows = as_rows(A)
        if rows.n_features != 1:
            raise ValueError(
                f"Weighted MinHash sketches single columns, got {rows.n_features}; use "
                "PrioritySketcher."
            )
        keys = as_keys(keys, rows.n_rows, seed=self.seed, first=first)
        norm = float(np.linalg.norm(to_numpy(row_lengths(rows))))
        z = rows.A.toarray() if rows.is_sparse else rows.A
        z = to_numpy(z).astype(np.float64).ravel() / (norm or 1.0)
        minima, values = np.full(self.n_samples, np.inf), np.zeros(self.n_samples)
        if norm > 0:
            z, counts = _shares(z, self.resolution)
            used = np.flatnonzero(counts)
            minima, winners = self._minima(keys.hashes[used], counts[used])
            values = (np.sign(z) * np.sqrt(counts / self.resolution))[used[winners]]
        weighting = f"resolution {self.resolution:g}"
        settings = Settings("minhash", self.seed, weighting, keys.kind, self.n_samples)
        return MinHashSketch(settings, minima, values, norm, rows.n_rows, rows.given)

    def _minima(self, hashes, counts):
        minima = np.empty(self.n_samples)
        winners = np.empty(self.n_samples, dtype=np.int64)

        def work(first, stop):
            part = slice(first, stop)
            weighted_minima(hashes, counts, first, minima[part], winners[part])

        in_parts(work, self.n_samples)
        return minima, winners


def _shares(z, resolution):
    """Return a unit vector and how many shares its entries have; the largest takes what is left."""
    counts = np.floor(z**2 * resolution)
    counts[np.argmax(np.abs(z))] += resolution - counts.sum()
    return z, counts


class MinHashSketch(MatrixSketch):
    """Least hashes of a vector's shares and the entries that they belong to.

    The sketcher makes it; see `MatrixSketch` for what it can do.

    Parameters
    ----------
    settings : Settings
        What two sketches must agree in.
    minima, values : float64 ndarray of shape (n_samples,)
        Least hashes, and winning entries of the unit vector.
    norm : float
        Length of the vector.
    n_rows : int
        Number of entries.
    given : array, default=None
        The vector, whose library answers follow; None for NumPy.

    Attributes
    ----------
    minima_, values_ : float64 ndarray of shape (n_samples,)
        Least hash for each hash function, and the winning entry of the unit vector.
    """

    def __init__(self, settings, minima, values, norm, n_rows, given=None):
        super().__init__(settings, n_rows, 1, given)
        self.minima_, self.values_, self.frobenius_norm_ = minima, values, norm

    def _product(self, other):
        self._settings.check_pair(other._settings, sizes=True)
        scale = self.frobenius_norm_ * other.frobenius_norm_
        equal = self.minima_ == other.minima_
        if not scale or not equal.any():
            no_overlap()
            return np.zeros((1, 1)), np.nan
        resolution = float(self.weighting.split()[1])
        union = (1 / np.minimum(self.minima_, other.minima_).mean() - 1) / resolution
        a, b = self.values_, other.values_
        terms = np.zeros(len(a))
        terms[equal] = (a * b / np.minimum(a**2, b**2))[equal]
        std = scale * union * terms.std() / np.sqrt(len(terms))
        return np.full((1, 1), scale * union * terms.mean()), float(std)

    @classmethod
    def _merge(cls, sketches):
        raise ValueError("Weighted MinHash sketches cannot be merged; sketch the whole vector.")

    def _contents(self):
        numbers = {"n_rows": self.n_rows_, "norm": self.frobenius_norm_.hex()}
        return numbers, {"minima": self.minima_, "values": self.values_}

    @classmethod
    def _of_contents(cls, settings, numbers, arrays):
        norm = float.fromhex(numbers["norm"])
        return cls(settings, arrays["minima"], arrays["values"], norm, numbers["n_rows"])
