"""
When recovery fails: the phase transition
=========================================

With 100 random measurements of 256 unknowns, a vector with few non-zero entries is recovered
exactly, and one with many is not. In between the methods differ. You will see, for entries drawn
from a Gaussian and for entries of equal size, how many of 40 vectors each method recovers.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.exceptions import ConvergenceWarning

from sparseprob.recovery import (
    CoSaMP,
    HardThresholdingPursuit,
    IterativeHardThresholding,
    OrthogonalMatchingPursuit,
    SubspacePursuit,
)

methods = {
    "SubspacePursuit": SubspacePursuit(),
    "HardThresholdingPursuit": HardThresholdingPursuit(),
    "IterativeHardThresholding": IterativeHardThresholding(),
    "CoSaMP": CoSaMP(),
    "OrthogonalMatchingPursuit": OrthogonalMatchingPursuit(),
    "IHT with a constant step": IterativeHardThresholding(normalized=False),
}
sparsities = np.arange(4, 53, 4)
rng = np.random.default_rng(0)


def vectors(n_nonzero, signs_only):
    """Draw 40 sparse vectors, the columns of an array."""
    X = np.zeros((256, 40))
    for column in X.T:
        values = rng.choice([-1.0, 1.0], n_nonzero) if signs_only else rng.normal(size=n_nonzero)
        column[rng.choice(256, n_nonzero, replace=False)] = values
    return X


# %%
# One fit recovers all 40 vectors: the columns of ``A @ X`` are right-hand sides that iterate
# together. A vector counts as recovered if its relative error is below 1e-4. CoSaMP warns where 3s
# exceeds the number of measurements; failures are what the figure is about.

warnings.simplefilter("ignore", ConvergenceWarning)
A = rng.normal(size=(100, 256))
rates = {name: np.zeros((2, len(sparsities))) for name in methods}
for signs_only in (0, 1):
    for i, s in enumerate(sparsities):
        X = vectors(s, signs_only)
        for name, method in methods.items():
            coef = method.set_params(n_nonzero_coefs=int(s)).fit(A, A @ X).coef_
            errors = np.linalg.norm(coef.T - X, axis=0) / np.linalg.norm(X, axis=0)
            rates[name][signs_only, i] = np.mean(errors < 1e-4)

# %%
# Each curve falls from one to zero within some ten entries. Subspace pursuit lasts longest. With
# entries of equal size there is no largest one to find first: orthogonal matching pursuit, which
# never takes a choice back, suffers most from that. A constant step is too short to be of much use.

fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
styles = zip("os^vDx", ["-", "-", "-", "--", "--", ":"], strict=True)
for (name, rate), (marker, line) in zip(rates.items(), styles, strict=True):
    for ax, values in zip(axes, rate, strict=True):
        ax.plot(sparsities, values, line, marker=marker, markersize=4, label=name)
for ax, title in zip(axes, ("Gaussian entries", "entries ±1"), strict=True):
    ax.set(title=title, xlabel="non-zero entries of 256")
axes[0].set_ylabel("share recovered of 40")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
plt.show()

for name, rate in rates.items():
    halves = [sparsities[np.flatnonzero(r >= 0.5)].max(initial=0) for r in rate]
    print(f"{name:26} recovers half or more up to s = {halves[0]} (Gaussian), {halves[1]} (±1)")
