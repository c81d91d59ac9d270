"""Samples of rows whose hashes are shared (M. Daliri, J. Freire, D. Li, C. Musco, 2025)."""

from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from .._arrays import compute_namespace, to_cupy
from .._kernels._sketch_numba import UNIT, add_outer_products, match_sorted, row_lengths
from ._exact import length_of
from ._keys import Keys, units
from ._matrix_sketch import MatrixSketch, no_overlap
from ._rows import with_index_type
from ._rules import PriorityRule, ThresholdRule
from ._scan import Totals

_DENSE = 0.25  # share of entries above which products of dense rows are faster


class Match(NamedTuple):
    """Rows that two sketches have in common.

    Parameters
    ----------
    left, right : int64 ndarray of shape (n_common,)
        Their positions in the one and in the other sketch.
    probabilities : float64 ndarray of shape (n_common,)
        Probabilities that a row is in both samples.
    """

    left: np.ndarray
    right: np.ndarray
    probabilities: np.ndarray


class SampledSketch(MatrixSketch):
    """Some rows of a matrix, chosen by hashes of their keys and by their weights.

    Sketchers make it; see `MatrixSketch` for what it can do.

    Parameters
    ----------
    settings : Settings
        What two sketches must agree in.
    sample : Sample
        The rows and what they were chosen by.
    totals : Totals
        What all rows add up to.
    given : array, default=None
        The matrix, whose library answers follow; None for NumPy.
    summed : bool, default=False
        Whether rows of one key were added up.

    Attributes
    ----------
    rows_ : CSR matrix of shape (n_sampled, n_features)
        The rows; on the GPU if the matrix was there.
    hashes : uint64 ndarray of shape (n_sampled,)
        Hashes of their keys, increasing.
    keys_ : ndarray of shape (n_sampled,) or None
        Their keys, if they are stored.
    weights : float64 ndarray of shape (n_sampled,)
        Weights that they were sampled by.
    tau_ : float
        Rows with hash over weight below it are in; infinity if all are.
    inclusion_probabilities : float64 ndarray of shape (n_sampled,)
        Probabilities, over seeds, that a row of this weight is in.
    adaptive_ : bool
        Whether a threshold accounts for rows that are in with certainty.
    summed_ : bool
        Whether rows of one key were added up.
    total_weight_ : float
        Sum of the weights of all rows sketched.
    n_weighted_ : int
        Number of rows of positive weight.
    """

    def __init__(self, settings, sample, totals, given=None, summed=False):
        super().__init__(settings, totals.n_rows, sample.rows.shape[1], given)
        self._sample, self._totals, self.summed_ = sample, totals, summed
        self.rows_, self.hashes, self.keys_ = sample.rows, sample.keys.hashes, sample.keys.values
        self.adaptive_ = isinstance(sample.rule, ThresholdRule) and sample.rule.adaptive

    @property
    def weights(self):
        """Weights that the rows were sampled by."""
        with np.errstate(over="ignore", under="ignore"):
            return self._sample.roots**2

    @property
    def tau_(self):
        """Rows with hash over weight below it are in."""
        with np.errstate(over="ignore", under="ignore"):
            return float(np.float64(self._sample.root_tau) ** 2)

    @property
    def inclusion_probabilities(self):
        """Probabilities, over seeds, that a row of this weight is in."""
        return np.minimum(1.0, self._root_odds(np.arange(len(self.hashes)))) ** 2

    @property
    def frobenius_norm_(self):
        """Frobenius norm of all rows sketched."""
        return length_of(self._totals.squares)

    @property
    def total_weight_(self):
        """Sum of the weights of all rows sketched."""
        with np.errstate(over="ignore", under="ignore"):
            return float(np.float64(length_of(self._totals.weights)) ** 2)

    @property
    def n_weighted_(self):
        """Number of rows of positive weight."""
        return self._totals.n_weighted

    def _root_odds(self, positions):
        with np.errstate(over="ignore"):
            return self._sample.roots[positions] * self._sample.root_tau

    def match(self, other):
        """Find the rows that two sketches have in common.

        Parameters
        ----------
        other : SampledSketch
            Of the same method, seed, weighting and kind of keys.

        Returns
        -------
        match : Match
            Named tuple of positions ``left`` in this sketch, ``right`` in the other one, and
            ``probabilities`` that a row is in both.
        """
        self._check_other(other)
        self._settings.check_pair(other._settings)
        positions = np.empty((2, min(len(self.hashes), len(other.hashes))), dtype=np.int64)
        left, right = positions[:, : match_sorted(self.hashes, other.hashes, positions)]
        if self.keys_ is not None and other.keys_ is not None:
            equal = self.keys_[left] == other.keys_[right]
            left, right = left[equal], right[equal]
        odds = np.minimum(self._root_odds(left), other._root_odds(right))
        return Match(left, right, np.minimum(1.0, odds) ** 2)

    def _product(self, other):
        match = self.match(other)
        shape = self.n_features_, other.n_features_
        ours, theirs = self.rows_, other.rows_
        dtype = np.result_type(ours.dtype, theirs.dtype)
        if not match.left.size:
            no_overlap()
            return compute_namespace(ours.data).zeros(shape, dtype=dtype), np.nan
        if not sparse.issparse(ours) or not sparse.issparse(theirs):
            W, std = _product_on_gpu(ours, theirs, match)
            return W.astype(dtype, copy=False), std
        W = _product_of_rows(ours, theirs, match)
        left, right = _lengths(ours)[match.left], _lengths(theirs)[match.right]
        std = _norm(left * right * _spread(match.probabilities))
        return W.astype(dtype, copy=False), std

    @classmethod
    def _merge(cls, sketches):
        first = sketches[0]
        kinds = {sketch.adaptive_ for sketch in sketches}
        if len(kinds) > 1:
            raise ValueError("Sketches of adaptive and plain thresholds cannot be merged.")
        totals = sketches[0]._totals
        for sketch in sketches[1:]:
            totals = totals + sketch._totals
        sample = merged([s._sample for s in sketches], totals)
        summed = any(sketch.summed_ for sketch in sketches)
        return cls(first._settings, sample, totals, first._given, summed)

    def _moved_like(self, other):
        if not sparse.issparse(other.rows_):
            from cupyx.scipy.sparse import csr_matrix

            self.rows_ = csr_matrix(self.rows_)
            self._sample = self._sample._replace(rows=self.rows_)
        return super()._moved_like(other)

    def _contents(self):
        sample = self._sample
        rows = sample.rows if sparse.issparse(sample.rows) else sample.rows.get()
        numbers = {
            "adaptive": self.adaptive_, "root_tau": float(sample.root_tau).hex(),
            "next_hash": sample.next_hash, "n_features": self.n_features_,
            "n_rows": self._totals.n_rows, "n_weighted": self._totals.n_weighted,
            "weights": hex(self._totals.weights), "squares": hex(self._totals.squares),
            "unit": UNIT, "keys_stored": self.keys_ is not None,
        }  # fmt: skip
        arrays = {
            "hashes": self.hashes, "roots": sample.roots, "data": rows.data,
            "indices": rows.indices, "indptr": rows.indptr,
        }  # fmt: skip
        if self.summed_:
            numbers["summed"] = True
        if self.keys_ is not None:
            arrays["keys"] = self.keys_
        return numbers, arrays

    @classmethod
    def _of_contents(cls, settings, numbers, arrays):
        hashes, roots = arrays["hashes"], arrays["roots"]
        shape = len(hashes), numbers["n_features"]
        rows = sparse.csr_array((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
        keys = Keys(settings.key_kind, arrays.get("keys"), hashes)
        rule = rule_of(settings, numbers["adaptive"])
        root_tau = float.fromhex(numbers["root_tau"])
        sample = Sample(rule, keys, roots, rows, root_tau, numbers["next_hash"])
        totals = Totals(
            numbers["n_rows"], numbers["n_weighted"],
            int(numbers["weights"], 16), int(numbers["squares"], 16),
        )  # fmt: skip
        return cls(settings, sample, totals, summed=numbers.get("summed", False))


class Sample(NamedTuple):
    """Sampled rows in the order of hashes, and what they were chosen by.

    Parameters
    ----------
    rule : PriorityRule or ThresholdRule
    keys : Keys
    roots : float64 ndarray of shape (n,)
        Square roots of weights.
    rows : CSR matrix of shape (n, n_features)
    root_tau : float
        Square root of the threshold.
    next_hash : int
        Hash of the row that sets the threshold.
    """

    rule: Any
    keys: Keys
    roots: np.ndarray
    rows: Any
    root_tau: float
    next_hash: int

    @property
    def has_next(self):
        """Whether a row that is not in the sample sets the threshold."""
        return isinstance(self.rule, PriorityRule) and np.isfinite(self.root_tau)


def rule_of(settings, adaptive):
    """Return the rule that chooses rows."""
    if settings.method == "priority":
        return PriorityRule(settings.n_samples)
    return ThresholdRule(settings.n_samples, adaptive)


def sample_rows(rows, keys, found, totals, rule, *, store_keys):
    """Choose rows among those that a scan found.

    Parameters
    ----------
    rows : Rows
    keys : Keys
        Of all rows.
    found : Found
    totals : Totals
    rule : PriorityRule or ThresholdRule
    store_keys : bool

    Returns
    -------
    sample : Sample
    """
    among = keys.take(found.positions)
    kept, root_tau, next_hash = rule.select(found.ranks, found.roots, among.hashes, totals)
    kept = kept[np.argsort(among.hashes[kept], kind="stable")]
    values = among.values[kept] if store_keys else None
    chosen = Keys(keys.kind, values, among.hashes[kept])
    taken = rows.take(found.positions[kept])
    return Sample(rule, chosen, found.roots[kept], taken, root_tau, next_hash)


def merged(samples, totals):
    """Return the sample of the rows of several samples, bit for bit that of all rows at once."""
    rule, kind = samples[0].rule, samples[0].keys.kind
    hashes = np.concatenate([s.keys.hashes for s in samples])
    roots = np.concatenate([s.roots for s in samples])
    ranks = np.sqrt(units(hashes)) / roots
    n = len(hashes)
    nexts = [(s.root_tau, s.next_hash) for s in samples if s.has_next]
    bounds = np.array([tau for tau, _ in nexts])
    next_hashes = np.array([h for _, h in nexts], dtype=np.uint64)
    everyone = np.concatenate([hashes, next_hashes])
    kept, root_tau, next_hash = rule.select(
        np.concatenate([ranks, bounds]), np.concatenate([roots, np.zeros(len(nexts))]),
        everyone, totals,
    )  # fmt: skip
    kept = kept[np.argsort(everyone[kept], kind="stable")]
    _check_disjoint(everyone)
    if kept.size and kept.max() >= n:
        raise AssertionError("a row next to a sample cannot be in the merged sample")
    values = None
    if all(s.keys.values is not None for s in samples):
        values = np.concatenate([s.keys.values for s in samples])[kept]
    rows = _some_rows(_stacked([s.rows for s in samples]), kept)
    return Sample(rule, Keys(kind, values, hashes[kept]), roots[kept], rows, root_tau, next_hash)


def _check_disjoint(hashes):
    in_order = np.sort(hashes)
    if (in_order[1:] == in_order[:-1]).any():
        raise ValueError(
            "A key occurs in more than one of the merged sketches; each must hold other rows."
        )


def _stacked(parts):
    """Return the rows of several CSR matrices; on the GPU if one of them is there."""
    if all(sparse.issparse(part) for part in parts):
        return sparse.vstack(parts, format="csr")
    from cupyx.scipy.sparse import csr_matrix, vstack

    return vstack([csr_matrix(part) for part in parts], format="csr")


def _some_rows(rows, positions):
    if sparse.issparse(rows):
        return with_index_type(rows[positions])
    return rows[to_cupy(positions)]


def _product_of_rows(ours, theirs, match):
    left, right, p = match
    W = np.zeros((ours.shape[1], theirs.shape[1]))
    if min(_density(ours), _density(theirs)) > _DENSE:
        return (ours[left].toarray().T / p) @ theirs[right].toarray()
    a, b = ((A.data.astype(np.float64, copy=False), A.indices, A.indptr) for A in (ours, theirs))
    add_outer_products(a, b, np.stack([left, right]), 1 / p, W)
    return W


def _product_on_gpu(ours, theirs, match):
    import cupy
    from cupyx.scipy.sparse import csr_matrix

    left, right, p = (cupy.asarray(part) for part in match)
    A, B = csr_matrix(ours)[left], csr_matrix(theirs)[right]
    A, B = A.astype(np.float64), B.astype(np.float64)
    lengths = (cupy.sqrt(M.multiply(M).tocsr() @ cupy.ones(M.shape[1])) for M in (A, B))
    std = float(cupy.linalg.norm(next(lengths) * next(lengths) * _spread(p)))
    W = A.T.tocsr() @ (B.toarray() / p[:, None])
    return W, std


def _spread(p):
    """Standard deviation of an entry over its size, once the entry was seen."""
    return (1 - p) ** 0.5 / p


def _density(rows):
    return rows.nnz / max(1, rows.shape[0] * rows.shape[1])


def _lengths(rows):
    lengths = np.empty(rows.shape[0])
    row_lengths(rows.data, rows.indptr, lengths)
    return lengths


def _norm(x):
    """Return the length of a vector whose squares may be out of range."""
    largest = x.max(initial=0.0)
    return float(largest * np.linalg.norm(x / largest)) if 0 < largest < np.inf else float(largest)
