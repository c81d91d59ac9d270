"""
Counts and classes on a map
===========================

Two fields that are not seen themselves: events are counted, with a rate that is the exponential of
the first; presence or absence is observed, with odds that are the exponential of the second. You
will see the observations, the rate and the probability that are inferred from them, and whether
probabilities are what they say.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import PowerNorm
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from sparseprob.datasets import make_spatial_field
from sparseprob.gp import DKLGPClassifier, DKLGPPoissonRegressor

kernel = ConstantKernel(2.0) * Matern(0.12, nu=1.5)
start = ConstantKernel(1.0) * Matern(0.3, nu=1.5)
counted = make_spatial_field(1800, kernel=kernel, likelihood="poisson", mean=0.5, random_state=2)
present = make_spatial_field(1800, kernel=kernel, likelihood="bernoulli", random_state=5)
side = np.linspace(0, 1, 80)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)

rate = DKLGPPoissonRegressor(start, n_neighbors=10).fit(counted.data, counted.target)
chance = DKLGPClassifier(start, n_neighbors=10).fit(present.data, present.target)
print("rate:", rate.kernel_, "presence:", chance.kernel_)

fig, axes = plt.subplots(2, 2, figsize=(8.4, 7.4), layout="constrained")


def show(ax, data, observed, values, options, titles):
    """Draw observations at the left and a map at the right."""
    ax[0].scatter(*data.T, c=observed, s=5, **options)
    image = ax[1].pcolormesh(side, side, values.reshape(80, 80), **options)
    for part, title in zip(ax, titles, strict=True):
        part.set(title=title, xticks=[], yticks=[], aspect="equal", xlim=(0, 1), ylim=(0, 1))
    fig.colorbar(image, ax=ax[1], shrink=0.85)


show(axes[0], counted.data, counted.target, rate.predict(grid),
     {"cmap": "viridis", "norm": PowerNorm(0.4, 0, 60)}, ("counts", "rate"))  # fmt: skip
show(axes[1], present.data, present.target, chance.predict_proba(grid)[:, 1],
     {"cmap": "RdBu_r", "vmin": 0, "vmax": 1}, ("presence", "probability"))  # fmt: skip
plt.show()

# %%
# Are probabilities honest? Points of the map fall into bins by the probability they were given; the
# share of new observations that are present should be the same.

fresh = make_spatial_field(4000, kernel=kernel, likelihood="bernoulli", random_state=7)
train, test = np.s_[:1800], np.s_[1800:]
chance.fit(fresh.data[train], fresh.target[train])
given = chance.predict_proba(fresh.data[test])[:, 1]
bins = np.clip((given * 10).astype(int), 0, 9)
sizes = np.bincount(bins, minlength=10)
shares = np.bincount(bins, fresh.target[test], minlength=10) / np.maximum(sizes, 1)
means = np.bincount(bins, given, minlength=10) / np.maximum(sizes, 1)
fig, ax = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
ax.plot([0, 1], [0, 1], ":", color="gray")
error = np.sqrt(means * (1 - means) / np.maximum(sizes, 1))
ax.errorbar(means, shares, 2 * error, fmt="o", capsize=3)
ax.set(xlabel="probability given", ylabel="share present, two standard errors")
plt.show()
