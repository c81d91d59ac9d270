"""
Finding the table that explains a target
========================================

A target is known for some people, and there is a shelf full of tables: which of them should be
joined? The tables have been sketched when they were put there; ranking them by the target touches
none of them. The tables are the data sets that come with scikit-learn, cut into pieces and dealt
out under the same kind of keys. You will see how much of the target each would explain, estimated
from sketches and computed from the joins, and which table would add most to a first model.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_predict
from sklearn.preprocessing import scale

from sparseprob.sketch import JoinSearch

# %%
# Progress of diabetes is the target. Its ten features lie in three tables. The other tables hold
# measurements of something else, under keys that occur here too.

rng = np.random.default_rng(0)
diabetes = load_diabetes()
tumors, digits = load_breast_cancer().data, load_digits().data
pieces = {
    "body": diabetes.data[:, :4], "lipids": diabetes.data[:, 4:8], "serum": diabetes.data[:, 8:],
    "tumors": tumors[:, :10], "tumor errors": tumors[:, 10:20], "wine": load_wine().data,
    "upper digits": digits[:, 2:30:3], "lower digits": digits[:, 34:62:3],
}  # fmt: skip
shelf = {}
for name, data in pieces.items():
    people = rng.permutation(min(len(data), 600))[: int(0.9 * min(len(data), 600))]
    shelf[name] = scale(data[people]), np.array([f"person {i}" for i in people])
y, y_keys = diabetes.target, np.array([f"person {i}" for i in range(len(diabetes.target))])

# %%
# A sketch has 200 rows. ``rank`` fits a regression to the common rows of each table and the target,
# and predicts rows that were left out: wide tables gain nothing by being wide.

search = JoinSearch(200)
for name, (table, keys) in shelf.items():
    search.add(name, table, keys)
found = search.rank(search.sketch_target(y, y_keys))
for c in found:
    print(f"{c.name:13} R² {c.r2:6.3f}  {c.n_common:3} common keys, {c.n_join:.0f} rows to join")


def joined(name):
    """The table and the target, joined."""
    table, keys = shelf[name]
    _, left, right = np.intersect1d(keys, y_keys, return_indices=True)
    return table[left], y[right]


def r2_of_join(name):
    """Share of the variance that is explained in rows left out, from all rows."""
    A, b = joined(name)
    left_out = cross_val_predict(LinearRegression(), A, b, cv=len(b))
    return 1 - np.sum((b - left_out) ** 2) / np.sum((b - b.mean()) ** 2)


# %%
# To see what a second table would add, rank by the residuals of the model on the first.

first = found[0].name
table, keys = shelf[first]
_, left, right = np.intersect1d(keys, y_keys, return_indices=True)
residuals = y[right] - LinearRegression().fit(table[left], y[right]).predict(table[left])
then = search.rank(search.sketch_target(residuals, y_keys[right]))
print(f"best: {first}; beside it: {then[0].name}, by column {then[0].column}")

fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained", sharey=True)
names = [c.name for c in found][::-1]
places = np.arange(len(names))
axes[0].barh(places + 0.2, [r2_of_join(n) for n in names], 0.4, color="C7", label="all rows joined")
axes[0].barh(places - 0.2, [c.r2 for c in found][::-1], 0.4, label="from sketches")
axes[0].set(yticks=places, yticklabels=names, xlabel="R² in rows left out", title="target")
axes[0].legend()
gain = {c.name: c.r2 for c in then}
axes[1].barh(places, [gain[n] for n in names], 0.4)
axes[1].set(
    xticks=[-0.3, -0.2, -0.1, 0, 0.1], xlabel="R² in rows left out",
    title=f"what {first} leaves unexplained",
)  # fmt: skip
plt.show()

# %%
# The three tables about the patients come first, by the bars of the joins as by those of the
# sketches. Tables that only share the keys are below zero: predictions from them are worse than the
# mean of the target, and the more so the fewer keys are common. On the right, each of the other two
# tables explains part of what the first one leaves, and no other does.
