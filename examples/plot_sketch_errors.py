"""
Sampling rows or summing them
=============================

Two ways to stand in for a matrix: keep some of its rows, or sums of all of them with random signs.
You will see the error of an estimated product against the size of the two sketches in bytes, for
sparse rows of equal length, for rows of very different lengths, and for tables that share few keys.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse

from sparseprob.sketch import CountSketcher, PrioritySketcher

n, d, seeds = 20_000, 100, 5
rng = np.random.default_rng(0)
normal = rng.standard_normal
A, B = (
    sparse.random_array((n, d), density=0.03, rng=rng, format="csr", data_sampler=normal)
    for _ in range(2)
)
lengths = sparse.diags_array(1 + rng.pareto(1.5, size=n))
here, there = np.arange(n), np.where(rng.random(n) < 0.1, np.arange(n), np.arange(n) + n)
cases = {
    "equal lengths, all keys shared": (A, B, here),
    "lengths of a heavy tail": ((lengths @ A).tocsr(), (lengths @ B).tocsr(), here),
    "one key in ten shared": (A, B, there),
}
sketchers = {
    "rows by priority": (PrioritySketcher, {}, (100, 400, 1600, 6400)),
    "rows, uniform weights": (
        PrioritySketcher, {"weighting": "uniform"}, (100, 400, 1600, 6400),
    ),
    "sums (CountSketch)": (CountSketcher, {}, (25, 100, 400, 1600)),
}  # fmt: skip

fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), sharey=True, layout="constrained")
for ax, (title, (left, right, keys)) in zip(axes, cases.items(), strict=True):
    shared = here == keys
    exact = (left[shared].T @ right[shared]).toarray()
    scale = sparse.linalg.norm(left) * sparse.linalg.norm(right)
    for name, (kind, options, sizes) in sketchers.items():
        n_bytes, errors = [], []
        for k in sizes:
            found = []
            for seed in range(seeds):
                sketcher = kind(k, seed=seed, **options)
                a, b = sketcher.sketch(left), sketcher.sketch(right, keys)
                found.append(np.linalg.norm(a.product(b) - exact) / scale)
            n_bytes.append((a.nbytes + b.nbytes) / 1000)
            errors.append(np.sqrt(np.mean(np.square(found))))
        ax.loglog(n_bytes, errors, "o-", label=name)
    ax.set(title=title, xlabel="size of both sketches in kB")
axes[0].set_ylabel("relative error of the product")
axes[0].legend()
plt.show()

# %%
# At one size, samples of sparse rows are several times more accurate than sums, and by far if
# lengths differ, once weights follow the lengths. Uniform weights are a little better where all
# rows are alike, and useless where a few rows matter. With few keys in common, sums carry the noise
# of all other rows.
