"""Which of many tables explains a target, from sketches only (A. Santos et al., 2021)."""

from numbers import Integral
from typing import NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ._joined_rows import joined_rows
from ._moments import weighted_correlations
from ._regression_sketch import regression_sketch, regression_sketch_of_batches
from ._sampled_sketch import SampledSketch
from ._weighted_ridge import WeightedRidge


class JoinCandidate(NamedTuple):
    """What a table says about a target.

    Parameters
    ----------
    name : str
        The table.
    score : float
        What it is ranked by; NaN if there are too few common keys.
    r2 : float
        Share of the variance of the target over the join that a linear regression on all columns
        explains in rows that were left out; NaN with fewer common keys than coefficients.
    correlation : float
        The largest correlation of one column with the target, by modulus; with its sign.
    correlation_std : float
        Estimated standard deviation of that correlation around that of the whole join.
    column : str or int
        The column it belongs to; None if all are constant.
    n_common : int
        Number of keys that both sketches hold.
    n_join : float
        Estimated number of rows of the join.
    """

    name: str
    score: float
    r2: float
    correlation: float
    correlation_std: float
    column: object
    n_common: int
    n_join: float


class JoinSearch(BaseEstimator):
    r"""A catalog of sketched tables that is asked which of them explain a target.

    No table is joined, or even read, when the question comes: sketches of a few hundred rows each
    are enough to estimate regressions and correlations over the joins.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows sampled from each table.
    min_common : int, default=10
        Tables with fewer common keys are ranked last: that little agrees with anything by chance.
    seed : int, default=0
        Of the hash; the same for all tables and targets.

    Attributes
    ----------
    sketches_ : dict of str to SampledSketch
        The catalog.
    columns_ : dict of str to list
        Names of the columns of each table.

    See Also
    --------
    SketchedRidge : Regression over the join with the table that was found.

    Notes
    -----
    To ask what a table would add to a model that is there already, rank by the residuals of that
    model in place of the target.

    References
    ----------
    .. [1] A. Santos, A. Bessa, F. Chirigati, C. Musco, J. Freire. "Correlation Sketches for
       Approximate Join-Correlation Queries". SIGMOD, 2021.
    .. [2] M. Daliri, J. Freire, D. Li, C. Musco. "Matrix Product Sketching via Coordinated
       Sampling". ICLR, 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.sketch import JoinSearch
    >>> rng = np.random.default_rng(0)
    >>> days = np.array([f"day {i}" for i in range(3000)])
    >>> weather, noise = rng.normal(size=(3000, 2)), rng.normal(size=(3000, 5))
    >>> sales = 3 * weather[:, 0] + rng.normal(size=3000)
    >>> search = JoinSearch(300).add("weather", weather, days).add("noise", noise, days)
    >>> [found.name for found in search.rank(search.sketch_target(sales, days))]
    ['weather', 'noise']
    """

    _parameter_constraints: dict = {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "min_common": [Interval(Integral, 1, None, closed="left")],
        "seed": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(self, n_samples=1000, *, min_common=10, seed=0):
        self.n_samples = n_samples
        self.min_common = min_common
        self.seed = seed

    @_fit_context(prefer_skip_nested_validation=True)
    def add(self, name, table, keys=None):
        """Sketch a table and add it to the catalog.

        Parameters
        ----------
        name : str
            A name that is not taken.
        table : {array, sparse matrix, data frame, row source} of shape (n_rows, n_columns)
            Finite numbers; of a data frame, the columns of numbers.
        keys : array of shape (n_rows,) or str, default=None
            Integers, strings or bytes, each once, or the column of a data frame that holds them;
            None numbers the rows.

        Returns
        -------
        self : JoinSearch
        """
        table, keys, columns = _columns(name, table, keys)
        self._check_name(name)
        try:
            sketch = regression_sketch(table, keys, self.n_samples, self.seed)
        except ValueError as error:
            raise ValueError(f"Table {name!r}: {error}") from error
        return self.add_sketch(name, sketch, columns)

    @_fit_context(prefer_skip_nested_validation=True)
    def add_sketch(self, name, sketch, columns=None):
        """Add a table that was sketched elsewhere.

        Parameters
        ----------
        name : str
            A name that is not taken.
        sketch : SampledSketch
            From `SketchedRidge.sketch`, or the ``sketches_`` of another catalog.
        columns : list of str, default=None
            Names of its columns; None numbers them.

        Returns
        -------
        self : JoinSearch
        """
        self._check_name(name)
        if not isinstance(sketch, SampledSketch):
            raise TypeError(
                f"Table {name!r} must be a sketch that holds rows, got {type(sketch).__name__}."
            )
        columns = list(range(sketch.n_features_) if columns is None else columns)
        if len(columns) != sketch.n_features_:
            raise ValueError(
                f"Table {name!r} has {sketch.n_features_} columns, got {len(columns)} names."
            )
        self.sketches_ = getattr(self, "sketches_", {}) | {name: sketch}
        self.columns_ = getattr(self, "columns_", {}) | {name: columns}
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def sketch_target(self, y, keys=None):
        """Sketch a target for `rank`.

        Parameters
        ----------
        y : array of shape (n_rows,)
            Finite numbers.
        keys : array of shape (n_rows,), default=None
            Integers, strings or bytes, each once; None numbers the rows.

        Returns
        -------
        sketch : SampledSketch
        """
        return regression_sketch(y, keys, self.n_samples, self.seed)

    @_fit_context(prefer_skip_nested_validation=True)
    def sketch_batches(self, batches):
        """Sketch a table, or a target, that never is in memory as a whole.

        ``sketch_table(search, "file.parquet", key="id")`` reads a Parquet file this way.

        Parameters
        ----------
        batches : iterable of (A, keys)
            Pieces of the table and their keys.

        Returns
        -------
        sketch : SampledSketch
            For `add_sketch` or `rank`.
        """
        return regression_sketch_of_batches(batches, self.n_samples, self.seed)

    @validate_params(
        {
            "self": "no_validation",
            "y_sketch": [SampledSketch],
            "by": [StrOptions({"r2", "correlation"})],
        },
        prefer_skip_nested_validation=True,
    )
    def rank(self, y_sketch, *, by="r2"):
        """Rank the tables by what they say about a target.

        Parameters
        ----------
        y_sketch : SampledSketch
            From `sketch_target`.
        by : {"r2", "correlation"}, default="r2"
            The variance that a regression on all columns explains in rows left out, or the largest
            modulus of the correlation of a single column.

        Returns
        -------
        found : list of JoinCandidate
            Best first; last the tables with too few common keys, by their number.

        Raises
        ------
        ValueError
            If the catalog is empty, or sketches do not belong together.
        """
        if y_sketch.n_features_ != 1:
            raise ValueError(
                f"A target has a single column, got a sketch of {y_sketch.n_features_}."
            )
        sketches = getattr(self, "sketches_", {})
        if not sketches:
            raise ValueError("There is no table to rank; add some first.")
        found = [self._candidate(name, y_sketch, by) for name in sketches]
        return sorted(
            found, key=lambda c: (np.isnan(c.score), -np.nan_to_num(c.score), -c.n_common)
        )

    def _candidate(self, name, y_sketch, by):
        try:
            rows = joined_rows(self.sketches_[name], y_sketch)
        except ValueError as error:
            raise ValueError(f"Table {name!r}: {error}") from error
        n, y = len(rows.p), rows.Y[:, 0]
        if not n:
            return JoinCandidate(name, np.nan, np.nan, np.nan, np.nan, None, 0, 0.0)
        r, std = weighted_correlations(rows.A, y, rows.p)
        best = int(np.argmax(np.nan_to_num(np.abs(r), nan=-1.0))) if r.size else -1
        column = self.columns_[name][rows.columns[best]] if r.size and r[best] == r[best] else None
        r, std = (float(v[best]) if r.size else np.nan for v in (r, std))
        r2 = (
            float(WeightedRidge(rows.A, rows.Y, rows.p).left_out_r2[0])
            if (n > self.sketches_[name].n_features_ + 1)
            else np.nan
        )
        score = r2 if by == "r2" else abs(r)
        score = score if n >= self.min_common else np.nan
        return JoinCandidate(name, score, r2, r, std, column, n, float((1 / rows.p).sum()))

    def _check_name(self, name):
        if not isinstance(name, str):
            raise TypeError(f"The name of a table must be a string, got {type(name).__name__}.")
        if name in getattr(self, "sketches_", {}):
            raise ValueError(f"There is a table {name!r} already; choose another name.")


def _columns(name, table, keys):
    """Return the numbers of a table, its keys, and the names of its columns."""
    if not hasattr(table, "iloc") or not hasattr(table, "columns"):
        return table, keys, None
    if isinstance(keys, str):
        if keys not in table.columns:
            raise ValueError(
                f"Table {name!r} has no column {keys!r}; it has {', '.join(map(str, table))}."
            )
        keys, table = table[keys], table.drop(columns=keys)
    numbers = table.select_dtypes(["number", "bool"])
    if not numbers.shape[1]:
        raise ValueError(f"Table {name!r} has no column of numbers.")
    return numbers.to_numpy(dtype=np.float64), keys, list(numbers.columns)
