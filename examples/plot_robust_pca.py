"""
A split to trust, and one not to
================================

A matrix of low rank with gross errors is split into both parts, for more and more errors. You will
see the error of the low-rank part, which in practice nobody knows, beside the two figures that a
fit reports: the residual, which says nothing, and the duality gap.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sparseprob.rpca import RobustPCA

warnings.simplefilter("ignore", ConvergenceWarning)  # it is what the picture is about
rng = np.random.default_rng(0)
low_rank = rng.normal(size=(200, 20)) @ rng.normal(size=(20, 200))
gross, place = rng.uniform(-50, 50, low_rank.shape), rng.random(low_rank.shape)


def figures(share):
    """Error, residual and duality gap of a fit with this share of wrong entries."""
    model = RobustPCA(random_state=0).fit(low_rank + np.where(place < share, gross, 0))
    error = np.linalg.norm(model.low_rank_ - low_rank) / np.linalg.norm(low_rank)
    return error, model.residual_, model.dual_gap_


shares = np.array([0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4])
found = np.maximum([figures(share) for share in shares], 1e-9)
fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
styles = {"error of L (unknown)": "ko-", "residual": "C0s--", "duality gap": "C3^-"}
for values, (name, style) in zip(found.T, styles.items(), strict=True):
    axes[0].semilogy(100 * shares, values, style, label=name)
axes[0].axhline(1e-3, color="C3", linewidth=0.8, linestyle=":")
axes[0].set(xlabel="wrong entries in %", title="what a fit says, and what is true")
axes[0].legend()

corrupted = low_rank + np.where(place < 0.1, gross, 0)
model = RobustPCA(random_state=0).fit(corrupted)
n_shown = np.arange(1, 61)
for matrix, name in ((corrupted, "X"), (low_rank, "truth"), (model.low_rank_, "L")):
    values = np.linalg.svd(matrix, compute_uv=False)[:60]
    style = "x" if name == "L" else "-"
    axes[1].semilogy(n_shown, np.maximum(values, 1e-3), style, label=name)
axes[1].set(xlabel="number", title="singular values, 10 % wrong", ylim=(1, None))
axes[1].legend()
plt.show()

# %%
# The residual stays below 1e-7 throughout. The gap is above 1e-3, where the fit warns, for every
# split that is wrong; it tells whether the optimum was missed, not how large the error is.
