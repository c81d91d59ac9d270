"""
Spike and slab: causes with an intensity
========================================

Each bar is there or not, and if it is there its intensity is Gaussian. You will see the bars that
Gaussian sparse coding finds, and for one bar the inferred intensities beside the true ones: where
the bar is absent the posterior mean is zero, not merely small.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.datasets import make_bars, match_components
from sparseprob.dictionary import GaussianSparseCoding
from sparseprob.plotting import DictionaryDisplay

rng = np.random.default_rng(0)
truth = make_bars(1, size=5, amplitude=5.0).components
intensities = (rng.random((5000, 10)) < 0.2) * rng.normal(1.0, 1.0, size=(5000, 10))
X = intensities @ truth + rng.normal(size=(5000, 25))

model = GaussianSparseCoding(
    10, n_candidates=7, max_active=4, schedule="anneal", max_iter=60, tol=0, n_init=3,
    random_state=0,
).fit(X)  # fmt: skip

scaled = model.components_ * np.linalg.norm(truth[0])
match = match_components(scaled, truth, signed=True)
display = DictionaryDisplay(match.signs[:, None] * scaled[match.order]).plot(n_columns=5)
display.ax_.set_title(f"learned, largest mean error {match.errors.max():.2f} of amplitude 5")

# %%
# Intensities of the first bar in all images.

codes = match.signs[0] * model.transform(X)[:, match.order[0]] / np.linalg.norm(truth[0])
fig, ax = plt.subplots(figsize=(3.6, 3.4), layout="constrained")
ax.scatter(intensities[:, 0], codes, s=4, alpha=0.4)
ax.plot([-2, 4], [-2, 4], color="grey", linewidth=0.8)
ax.set(xlabel="true intensity", ylabel="posterior mean")
plt.show()
