"""Correlation over a join from one sketch per column (M. Daliri et al., 2024)."""

import numpy as np
from sklearn.base import _fit_context
from sklearn.utils.validation import check_is_fitted

from .._arrays import compute_namespace, is_array, is_on_gpu, to_compute
from ._column_sketch import ColumnSketch
from ._keys import as_keys
from ._matrix_sketch import MatrixSketch
from ._rows import not_finite
from ._sketcher import Sketcher


class JoinCorrelationSketch(Sketcher):
    r"""A small sample of a column, from which correlations over joins are estimated.

    Two columns sketched apart, with the same seed, keep rows of the same keys. A row is kept if it
    is in the priority sample for the number of rows, for :math:`x`, or for :math:`x^2`: the union
    of the three serves all six sums in Pearson's correlation [1]_.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows in the union at most.
    seed : int, default=0
        Of the hash function; the same for all sketches that are to be paired.

    Attributes
    ----------
    sketch_ : ColumnSketch
        The sample: ``n_rows_`` rows seen, and ``keys_`` and ``x_`` of those in use.

    See Also
    --------
    SketchedRidge : Regression on many columns over a join.
    JoinSearch : The tables that explain a target best, from sketches.

    Notes
    -----
    All rows that could enter the union later are kept, up to three times `n_samples` of them, so
    that chunks, files and ranks give the sketch of all rows at once. `compact` drops them.

    The size of the three samples is the largest of which the union has no more than `n_samples`
    rows. It is found from the hashes, which shifts the estimated sums by less than a tenth of
    their standard deviations.

    References
    ----------
    .. [1] M. Daliri, J. Freire, C. Musco, A. Santos, H. Zhang. "Sampling Methods for Inner Product
       Sketching". PVLDB 17(9):2185-2197, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.sketch import JoinCorrelationSketch
    >>> x, noise = np.random.default_rng(0).normal(size=(2, 100_000))
    >>> left = JoinCorrelationSketch(1000).fit(x, np.arange(100_000))
    >>> right = JoinCorrelationSketch(1000).fit((x + noise)[::-1], np.arange(100_000)[::-1])
    >>> left.nbytes < 60_000
    True
    >>> r, std = left.correlation(right, return_std=True)
    >>> bool(abs(r - 0.5**0.5) < 3 * std < 0.1)
    True
    """

    def __init__(self, n_samples=1000, *, seed=0):
        self.n_samples = n_samples
        self.seed = seed

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, x, keys=None):
        """Sketch a column.

        Parameters
        ----------
        x : array of shape (n_rows,)
            Finite real numbers.
        keys : array of shape (n_rows,), default=None
            Integers, strings or bytes, each once; None numbers the rows.

        Returns
        -------
        self : JoinCorrelationSketch
        """
        self.sketch_ = self._sketch(x, keys)
        return self

    def _sketch_matrix(self, A, keys, first):
        x = _checked(A)
        keys = as_keys(keys, x.shape[0], seed=self.seed, first=first, gpu=is_on_gpu(x))
        return ColumnSketch.of_column(x, keys, self.n_samples, self.seed)

    @property
    def nbytes(self):
        """Length of the serialized form."""
        return len(self.to_bytes())

    def merge(self, other):
        """Return the sketch of the rows of both, whose keys are disjoint.

        Parameters
        ----------
        other : JoinCorrelationSketch
            Of the same `n_samples` and seed.

        Returns
        -------
        merged : JoinCorrelationSketch
            The sketch of all rows at once, to the bit, if neither is compact.

        Raises
        ------
        ValueError
            If a key is in both, or the sketches do not belong together.
        """
        return self._with(self._own().merge(_own(other)))

    def compact(self):
        """Return the sketch with nothing but the rows in use: at most ``n_samples + 3``.

        Returns
        -------
        sketch : JoinCorrelationSketch
            Gives the same estimates. Merged with others it remains a valid sample, yet not the one
            of all rows at once.
        """
        return self._with(self._own().compact())

    def correlation(self, other, *, return_std=False):
        """Estimate Pearson's correlation of both columns over the join of their keys.

        Parameters
        ----------
        other : JoinCorrelationSketch
            Of the same seed and kind of keys; `n_samples` may differ.
        return_std : bool, default=False
            Whether to return an estimate of the standard deviation too.

        Returns
        -------
        correlation : float
            NaN if a column is constant over the join, or no key is common.
        std : float
            Only if `return_std`.
        """
        moments = self.moments(other)
        if return_std:
            return moments.correlation, moments.correlation_std
        return moments.correlation

    def moments(self, other):
        """Estimate size, means, standard deviations and correlation over the join.

        Parameters
        ----------
        other : JoinCorrelationSketch
            Of the same seed and kind of keys; `n_samples` may differ.

        Returns
        -------
        moments : JoinMoments
        """
        return self._own().moments(_own(other))

    def to_bytes(self):
        """Return the sketch as bytes, the same on every machine.

        Returns
        -------
        bytes
        """
        return self._own().to_bytes()

    @classmethod
    def from_bytes(cls, content):
        """Return the sketch that bytes stand for.

        Parameters
        ----------
        content : bytes
            What `to_bytes` returned.

        Returns
        -------
        sketch : JoinCorrelationSketch

        Raises
        ------
        ValueError
            If the bytes are not those of such a sketch, or damaged.
        """
        sketch = MatrixSketch.from_bytes(content)
        if not isinstance(sketch, ColumnSketch):
            raise ValueError(
                f"Expected the sketch of a column, got one of method {sketch.method!r}; read it "
                "with MatrixSketch.from_bytes."
            )
        return cls(sketch.n_samples, seed=sketch.seed)._with(sketch)

    def _own(self):
        check_is_fitted(self, "sketch_")
        return self.sketch_

    def _with(self, sketch):
        found = JoinCorrelationSketch(self.n_samples, seed=self.seed)
        found.sketch_ = sketch
        return found


def _own(other):
    """Return the sketch of another fitted object."""
    if not isinstance(other, JoinCorrelationSketch):
        raise TypeError(f"Expected another JoinCorrelationSketch, got {type(other).__name__}.")
    return other._own()


def _checked(x):
    """Return a column of finite real numbers in double precision, where it is."""
    x = to_compute(x) if is_array(x) else np.asarray(x)
    if x.ndim == 2 and x.shape[1] == 1:
        x = x[:, 0]
    if x.ndim != 1:
        raise ValueError(f"x must be one column, of shape (n_rows,), got {tuple(x.shape)}.")
    if x.dtype.kind not in "fiub":
        raise ValueError(f"x must hold real numbers, got dtype {x.dtype}; convert it first.")
    x = x.astype(np.float64)
    finite = compute_namespace(x).isfinite(x)
    if not finite.all():
        raise not_finite(int(finite.argmin()))
    return x
