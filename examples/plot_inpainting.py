"""
Completing a photograph with half of its pixels
===============================================

Every second pixel, at random, is unknown: NaN. The model learns from what is there and the
posterior mean fills in the rest. You will see the photograph with holes and completed.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.datasets import load_photographs
from sparseprob.dictionary import GaussianSparseCoding, restore_image
from sparseprob.metrics import peak_signal_to_noise_ratio

truth = load_photographs()[0][200:328, 250:378]
holes = np.where(np.random.default_rng(0).random(truth.shape) < 0.5, np.nan, truth)
model = GaussianSparseCoding(128, missing="nan", max_iter=40, tol=0, random_state=0)
restored = np.where(np.isnan(holes), restore_image(holes, model), truth)

fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for ax, image, title in zip(
    axes, (truth, holes, restored), ("photograph", "half of it", "completed"), strict=True
):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    ax.set_facecolor("#b9c9dc")
    ax.set(xticks=[], yticks=[], title=title)
axes[2].set_title(f"completed, {peak_signal_to_noise_ratio(truth, restored):.1f} dB")
plt.show()

# %%
# Known pixels are kept as they are. Sharp edges return where the atoms have seen such edges
# elsewhere in the picture; a smooth interpolation would blur them.
