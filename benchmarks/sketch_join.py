"""Claims about regression and correlation over joins that are never made, measured.

``python benchmarks/sketch_join.py`` prints a table and writes its JSON. The methods of a line see
the same tables and hash functions; errors are averages over tables drawn anew.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from _report import ROOT, fastest, print_table, row, write_json

from sparseprob.sketch import (
    CountSketcher,
    JoinCorrelationSketch,
    PrioritySketcher,
    SketchedRidge,
)

# Share of all keys that are in both tables, and the excess error of the specified prototype there.
EXPECTED = {1.0: 3.6e-4, 0.5: 3.6e-4, 0.1: 2.5e-3}


# ---------------------------------------------------------------- regression
def tables(n_keys, overlap, noise, seed):
    """Return X, y and keys of everybody, and who is in the table and who has a target."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_keys, 10)) * (1 + rng.pareto(2.5, size=(n_keys, 1)))
    y = X @ rng.normal(size=10) + noise * rng.normal(size=n_keys)
    n_alone = (n_keys - int(overlap * n_keys)) // 2
    keys = rng.permutation(10 * n_keys)[:n_keys]
    return X, y, keys, slice(0, n_keys - n_alone), slice(n_alone, n_keys)


def ours(k, seed):
    """SketchedRidge as it is."""
    return lambda X, y, *keys: _ridge(k, seed).fit(X, y, *keys).coef_


def sampled(weighting):
    """SketchedRidge on samples by other weights."""

    def at(k, seed):
        sketcher = PrioritySketcher(k, weighting=weighting, seed=seed)
        return lambda X, y, kx, ky: (
            _ridge(k, seed).fit_sketches(sketcher.sketch(X, kx), sketcher.sketch(y, ky)).coef_
        )

    return at


def count_sketched(k, seed):
    """Least squares on linear sketches, which do not know whose keys match."""
    sketcher = CountSketcher(k, seed=seed)
    return lambda X, y, kx, ky: _least_squares(
        sketcher.sketch(X, kx).table_, sketcher.sketch(y, ky).table_[:, 0]
    )


def _ridge(k, seed):
    return SketchedRidge(n_samples=k, fit_intercept=False, seed=seed)


def _least_squares(X, y):
    return np.linalg.lstsq(X, y, rcond=None)[0]


METHODS = {
    "squared lengths alone": sampled("l2"),
    "even weights": sampled("uniform"),
    "CountSketch": count_sketched,
}


def regression(options):
    """Error beyond that of the whole join, over the mean square of the target."""
    for noise, overlaps in ((1.0, EXPECTED), (0.0, (0.5, 0.1))):
        for overlap in overlaps:
            yield from _excess(overlap, noise, options)


def _excess(overlap, noise, options):
    methods = {"": ours} | METHODS
    errors = np.array(
        [list(_errors(overlap, noise, seed, methods, options)) for seed in range(options.seeds)]
    )
    kind = "noise 1" if noise else "no noise"
    what = f"regression, {overlap:.0%} of {options.n_keys} keys in both, k={options.k}, {kind}"
    target = EXPECTED[overlap] if noise else 1e-20
    spread = errors[:, 0].std() / np.sqrt(options.seeds)
    yield row(f"{what}: excess error", errors[:, 0].mean(), target, note=f"± {spread:.1g}")
    for i, name in enumerate(METHODS, start=1):
        yield row(f"{what}: excess error by {name}", errors[:, i].mean())


def _errors(overlap, noise, seed, methods, options):
    X, y, keys, left, right = tables(options.n_keys, overlap, noise, seed)
    A, b = X[right.start : left.stop], y[right.start : left.stop]
    least = np.mean((b - A @ _least_squares(A, b)) ** 2)
    for method in methods.values():
        coef = method(options.k, seed)(X[left], y[right], keys[left], keys[right])
        yield (np.mean((b - A @ coef) ** 2) - least) / np.mean(b**2)


# ---------------------------------------------------------------- time
def seconds(options):
    """A regression from sketches that are there, beside making the join and fitting it."""
    n = options.n_large
    X, y, keys, left, right = tables(n, 0.5, 1.0, 0)
    model = SketchedRidge(n_samples=options.k)
    table, target = model.sketch(X[left], keys[left]), model.sketch(y[right], keys[right])
    fit = fastest(lambda: model.fit_sketches(table, target))
    what = f"regression, {n} keys, 10 columns"
    for name, join in _joins(X[left], y[right], keys[left], keys[right]).items():
        whole = fastest(join, repeats=2)
        note = f"{fit * 1e3:.2g} ms from sketches of {table.nbytes + target.nbytes} bytes; "
        yield row(f"{what}: times faster than join and fit with {name}", whole / fit,
                  note=note + f"{whole:.2g} s")  # fmt: skip
    sketch = fastest(lambda: model.sketch(X[left], keys[left]), repeats=3)
    read = fastest(lambda: X[left].sum(), repeats=3)
    yield row(f"{what}: sketching over one sum of all entries", sketch / read,
              note=f"{sketch:.2g} s, two passes")  # fmt: skip
    moved = fastest(lambda: model.sketch_batches(_batches(X[left], keys[left])), repeats=2)
    yield row(f"{what}: sketching in batches over one sum of all entries", moved / read,
              note=f"{moved:.2g} s")  # fmt: skip


def _batches(X, keys, size=1 << 16):
    for first in range(0, len(X), size):
        yield X[first : first + size], keys[first : first + size]


def _joins(X, y, x_keys, y_keys):
    """Return functions that join two tables and fit."""
    from sklearn.linear_model import LinearRegression

    def numpy_join():
        _, left, right = np.intersect1d(x_keys, y_keys, assume_unique=True, return_indices=True)
        return LinearRegression().fit(X[left], y[right])

    joins = {"NumPy": numpy_join}
    try:
        import pandas
    except ImportError:
        return joins
    columns = [f"x{j}" for j in range(X.shape[1])]
    left = pandas.DataFrame(X, columns=columns).assign(key=x_keys)
    right = pandas.DataFrame({"y": y, "key": y_keys})

    def pandas_join():
        whole = left.merge(right, on="key")
        return LinearRegression().fit(whole[columns].to_numpy(), whole["y"].to_numpy())

    return joins | {"pandas": pandas_join}


# ---------------------------------------------------------------- correlation
def correlation(options):
    """Root mean square error of correlations, beside samples of even weights of one size."""
    for name, skew in (("Gaussian", None), ("skewed", 2.5)):
        errors = np.array([_deviations(skew, seed, options) for seed in range(3 * options.seeds)])
        rms = np.sqrt((errors**2).mean(axis=0))
        what = f"correlation, {name} columns, 50% of {options.n_keys} keys in both, k={options.k}"
        target = 1.15 if skew is None else 0.7
        yield row(f"{what}: error over that of even weights", rms[0] / rms[1], target,
                  note=f"{rms[0]:.3f} beside {rms[1]:.3f}")  # fmt: skip
        yield row(f"{what}: error over its own estimate", rms[0] / rms[2])


def _deviations(skew, seed, options):
    from sparseprob.sketch._moments import weighted_moments

    rng = np.random.default_rng(seed)
    n = options.n_keys
    scale = 1.0 if skew is None else 1 + rng.pareto(skew, size=n)
    x = scale * rng.normal(size=n)
    y = 0.6 * x + scale * rng.normal(size=n)
    keys = rng.permutation(10 * n)[:n]
    left, right = slice(0, n - n // 4), slice(n // 4, n)
    true = np.corrcoef(x[right.start : left.stop], y[right.start : left.stop])[0, 1]
    a, b = (
        JoinCorrelationSketch(options.k, seed=seed).fit(column[part], keys[part])
        for column, part in ((x, left), (y, right))
    )
    r, std = a.correlation(b, return_std=True)
    even = PrioritySketcher(options.k, weighting="uniform", seed=seed)
    sketches = even.sketch(x[left], keys[left]), even.sketch(y[right], keys[right])
    match = sketches[0].match(sketches[1])
    values = [
        sketch.rows_.toarray()[rows, 0] for sketch, rows in zip(sketches, match[:2], strict=True)
    ]
    return r - true, weighted_moments(*values, match.probabilities).correlation - true, std


CLAIMS = {"regression": regression, "seconds": seconds, "correlation": correlation}


def main():
    """Measure the chosen claims, print them and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(CLAIMS), help="claims, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the program")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/sketch_join.json")
    options = parser.parse_args()
    options.k, options.seeds = (200, 3) if options.quick else (1000, 20)
    options.n_keys, options.n_large = (5000, 20_000) if options.quick else (50_000, 2_000_000)
    began = time.perf_counter()
    rows = [line for claim in options.only.split(",") for line in CLAIMS[claim](options)]
    print_table(rows, "Joins that are never made")
    print(f"{time.perf_counter() - began:.0f} s")
    write_json(options.output, rows)


if __name__ == "__main__":
    main()
