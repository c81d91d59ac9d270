"""
A regression over two files that are never joined
=================================================

One file knows the customers, another one what some of them spent. The files are sketched apart: a
sample of a few hundred rows from each, chosen by hashes of the customer numbers, so that the same
customers tend to be in both. You will see correlations and a regression over the join, estimated
from some kilobytes, beside those of the join itself.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import LinearRegression

from sparseprob.sketch import JoinCorrelationSketch, MatrixSketch, SketchedRidge, sketch_table

# %%
# Two files: 300 000 customers and 200 000 bills, 150 000 of which are of customers in the first
# file. Few customers are very rich.

folder, names = Path(tempfile.mkdtemp()), ["income", "visits", "age"]
rng = np.random.default_rng(0)
everyone = 1_000_000 + rng.permutation(350_000)
features = np.column_stack(
    [rng.pareto(3, 350_000), rng.poisson(3, 350_000), rng.uniform(18, 90, 350_000)]
)
spent = features @ [20, 5, -0.1] + 12 * rng.normal(size=350_000) + 30
tables = {
    "customers": dict(zip(names, features[:300_000].T, strict=True)) | {"id": everyone[:300_000]},
    "bills": {"spent": spent[150_000:], "id": everyone[150_000:]},
}
try:
    import pyarrow as pa
    from pyarrow import parquet

    for name, table in tables.items():
        parquet.write_table(pa.table(table), folder / f"{name}.parquet")
except ImportError:
    for name, table in tables.items():
        np.savez(folder / f"{name}.npz", **table)


def sketched(model, name, columns):
    """The sketch of some columns of a file; Parquet is read piece by piece."""
    if (folder / f"{name}.parquet").exists():
        return sketch_table(model, folder / f"{name}.parquet", key="id", columns=columns)
    table = np.load(folder / f"{name}.npz")
    return model.sketch(np.column_stack([table[c] for c in columns]), table["id"])


# %%
# Each file becomes a few kilobytes. This may happen on two machines, on different days; what they
# must share are the seed and the kind of keys.

model = SketchedRidge(n_samples=1000)
sent = {
    "customers": sketched(model, "customers", names).to_bytes(),
    "bills": sketched(model, "bills", ["spent"]).to_bytes(),
}
for name, content in sent.items():
    file = next(folder.glob(f"{name}.*"))
    print(f"{name}: {file.stat().st_size} bytes, sketched {len(content)} bytes")

model.fit_sketches(*(MatrixSketch.from_bytes(content) for content in sent.values()))
joined = slice(150_000, 300_000)
whole = LinearRegression().fit(features[joined], spent[joined])
print(f"rows of the join: {model.n_join_estimated_:.0f} estimated, {150_000} in truth")
for name, *numbers in zip(names, model.coef_, model.coef_std_, whole.coef_, strict=True):
    print("{}: {:.3f} ± {:.3f}, whole join {:.3f}".format(name, *numbers))

# %%
# Against the size of the sketches: coefficients with two standard deviations on each side, as the
# model estimates them, and correlations of income and spending. The dashed lines are the join.

sizes = [100, 300, 1000, 3000, 10_000]
fig, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained")
for size in sizes:
    fit = SketchedRidge(n_samples=size)
    fit.fit_sketches(sketched(fit, "customers", names), sketched(fit, "bills", ["spent"]))
    for j, ax in enumerate(axes[:3]):
        ax.errorbar(size, fit.coef_[j], 2 * fit.coef_std_[j], fmt="o", color="C0", capsize=3)
    columns = [
        JoinCorrelationSketch(size).fit(table[column], table["id"])
        for table, column in ((tables["customers"], "income"), (tables["bills"], "spent"))
    ]
    r, std = columns[0].correlation(columns[1], return_std=True)
    axes[3].errorbar(size, r, 2 * std, fmt="o", color="C1", capsize=3)
truth = [*whole.coef_, np.corrcoef(features[joined, 0], spent[joined])[0, 1]]
titles = [*(f"coefficient of {name}" for name in names), "correlation with income"]
for ax, true, title in zip(axes, truth, titles, strict=True):
    ax.axhline(true, color="grey", linestyle="--")
    ax.set(xscale="log", xlabel="rows in a sketch", title=title)
plt.show()

# %%
# The bars cover the dashed lines from the smallest sketches on, and shrink with the root of the
# size. What is large, the slope of income, is known to a few percent from a thousand rows; what
# hardly matters, age, takes more. The few large incomes on which all of this depends are in the
# samples for certain.
