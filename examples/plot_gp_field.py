"""
A hundred thousand soundings: filling gaps, with honest errors
===============================================================

Satellites do not see through clouds. Here a field, as temperature might be, is measured with noise
at a hundred thousand points outside four clouds, and a kernel is learned from them. You will see
the measurements, the estimate on a full grid, how uncertain it is, and whether its errors are as
large as it says.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from sparseprob.datasets import make_spatial_field
from sparseprob.gp import VecchiaGPRegressor

kernel = ConstantKernel(9.0) * Matern([0.05, 0.1], nu=1.5)
drawn = make_spatial_field(
    500**2, kernel=kernel, noise_variance=0.25, mean=14.0, layout="grid", random_state=0
)
truth = drawn.field.reshape(500, 500)
rng = np.random.default_rng(0)
clouds = [((0.3, 0.3), 0.12), ((0.62, 0.75), 0.1), ((0.8, 0.25), 0.06), ((0.2, 0.8), 0.05)]
clear = np.ones(len(drawn.data), dtype=bool)
for center, radius in clouds:
    clear &= np.linalg.norm(drawn.data - center, axis=1) > radius
seen = np.flatnonzero(clear)[rng.permutation(clear.sum())[:100_000]]

# %%
# Order, neighbors, learning of variance, two lengthscales and noise; then predictions with
# deviations. A local prediction sees the nearest points only, which in a cloud lie all on one side:
# its map would have a seam where the sides change. There the points are predicted jointly, and
# their deviations are those of three hundred draws.

began = time.perf_counter()
model = VecchiaGPRegressor(n_neighbors=20, normalize_y=True)
model.fit(drawn.data[seen], drawn.target[seen])
print(f"learned in {time.perf_counter() - began:.1f} s: {model.kernel_}")
began = time.perf_counter()
mean, std = model.predict(drawn.data, return_std=True)
print(f"predicted {len(mean)} points in {time.perf_counter() - began:.1f} s")
mean[~clear] = model.predict(drawn.data[~clear], joint=True)
std[~clear] = model.sample_y(drawn.data[~clear], 300, random_state=0).std(axis=1)

seen_values = np.full(len(truth.ravel()), np.nan)
seen_values[seen] = drawn.target[seen]
pictures = [
    (seen_values, "measured"),
    (mean, "estimate"),
    (drawn.field, "truth"),
    (std, "deviation"),
]
fig, axes = plt.subplots(2, 2, figsize=(8, 7.4), layout="constrained")
limits = {"vmin": truth.min(), "vmax": truth.max(), "cmap": "RdYlBu_r"}
for ax, (values, title) in zip(axes.ravel(), pictures, strict=True):
    options = {"cmap": "viridis"} if title == "deviation" else limits
    image = ax.imshow(values.reshape(500, 500), origin="lower", **options)
    ax.set(title=title, xticks=[], yticks=[])
    if title in ("estimate", "deviation"):
        fig.colorbar(image, ax=ax, shrink=0.85, label="degrees")
plt.show()

# %%
# Errors over the deviations that were predicted should be standard normal, inside the clouds as
# outside. Inside, they are few and large-scale: a cloud is one draw more than many.

z = (mean - drawn.field) / std
fig, ax = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
values = np.linspace(-4, 4, 81)
for part, name in ((clear, "clear"), (~clear, "in clouds")):
    ax.hist(z[part], values, density=True, histtype="step", linewidth=1.6, label=name)
    inside = np.mean(abs(z[part]) < 1.96)
    print(f"{name}: {inside:.1%} in 95 % intervals, mean deviation {std[part].mean():.2f}")
ax.plot(values, np.exp(-(values**2) / 2) / np.sqrt(2 * np.pi), "k:", label="standard normal")
ax.set(xlabel="error over its deviation", ylabel="density")
ax.legend(fontsize="small")
plt.show()
