"""
Denoising a photograph
======================

A spike-and-slab model of 8 x 8 patches, learned from the noisy photograph itself, gives each
patch a posterior mean; overlapping patches are averaged. You will see the photograph with noise
of 25 grey levels and what is left after denoising.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.datasets import load_photographs
from sparseprob.dictionary import GaussianSparseCoding, restore_image
from sparseprob.metrics import peak_signal_to_noise_ratio
from sparseprob.plotting import DictionaryDisplay

truth, scale = load_photographs()[0][200:328, 250:378], 25 / 255
noisy = truth + scale * np.random.default_rng(0).normal(size=truth.shape)
model = GaussianSparseCoding(
    128, n_candidates=12, init={"noise_variance": scale**2},
    learn=("components", "prior", "slab"), max_iter=40,
    tol=0, random_state=0,
)  # fmt: skip
restored = restore_image(noisy, model)

fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for ax, image, title in zip(
    axes, (truth, noisy, restored), ("photograph", "noisy", "denoised"), strict=True
):
    ax.imshow(image, cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()
    psnr = "" if image is truth else f", {peak_signal_to_noise_ratio(truth, image):.1f} dB"
    ax.set_title(title + psnr)

# %%
# The atoms were never told what a clean patch looks like.

DictionaryDisplay.from_estimator(model)
plt.show()
