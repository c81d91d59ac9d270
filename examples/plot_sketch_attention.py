"""
Attention scores from few of the dimensions
===========================================

The scores of attention are products of queries and keys, :math:`Q K^T`: a sum over the dimensions
of the heads. Where a few dimensions carry most of the energy, a coordinated sample of dimensions
gives the scores with fewer multiplications. Each dimension is a row of the transposed matrices, and
its number is the key. You will see exact and estimated attention weights, and the error against the
number of dimensions kept, for energies that fall off quickly.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import softmax

from sparseprob.sketch import PrioritySketcher

rng = np.random.default_rng(0)
n_tokens, n_dims = 64, 256
energy = np.arange(1, n_dims + 1) ** -0.75
topics = np.repeat(rng.normal(size=(8, n_dims)), n_tokens // 8, axis=0)
Q, K = (energy * (topics + 0.5 * rng.normal(size=(n_tokens, n_dims))) for _ in range(2))


def scores(n_samples, seed=0, **options):
    """Scores from sampled dimensions."""
    sketcher = PrioritySketcher(n_samples, seed=seed, **options)
    return sketcher.sketch(Q.T).product(sketcher.sketch(K.T))


fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for ax, S, title in zip(
    axes, (Q @ K.T, scores(64)), ("all 256 dimensions", "64 sampled dimensions"), strict=False
):
    ax.imshow(softmax(S, axis=1), cmap="viridis", vmin=0, vmax=0.15)
    ax.set(title=title, xlabel="key", ylabel="query")
sizes = (8, 16, 32, 64, 128, 256)
scale = np.linalg.norm(Q) * np.linalg.norm(K)
for name, options in (("by energy", {}), ("uniformly", {"weighting": "uniform"})):
    errors = [
        np.sqrt(np.mean([
            (np.linalg.norm(scores(k, seed, **options) - Q @ K.T) / scale) ** 2
            for seed in range(30)
        ]))
        for k in sizes
    ]  # fmt: skip
    axes[2].plot(sizes, errors, "o-", label=f"sampled {name}")
axes[2].set(xlabel="dimensions kept", ylabel="relative error of the scores", xscale="log")
axes[2].set_yscale("symlog", linthresh=0.01)
axes[2].set_ylim(bottom=-1e-3)
axes[2].legend()
plt.show()

# %%
# A quarter of the dimensions, chosen by energy, shows the same blocks. Chosen without regard to
# energy, half of them are not enough; with all dimensions kept, both are exact.
