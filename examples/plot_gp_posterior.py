"""
A sparse posterior against the exact one
========================================

A thousand noisy values of a function with two gaps. You will see the posterior of the exact
Gaussian process with the same kernel, the one of its sparse approximations, how far they are apart,
and why values in a gap should be predicted jointly.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from sparseprob.datasets import make_spatial_field
from sparseprob.gp import DKLGPRegressor, VecchiaGPRegressor

kernel = ConstantKernel(1.0) * Matern(0.08, nu=1.5)
drawn = make_spatial_field(1400, 1, kernel=kernel, noise_variance=0.04, random_state=3)
x = drawn.data[:, 0]
seen = ~(((0.28 < x) & (x < 0.4)) | ((0.7 < x) & (x < 0.77)))
X, y = drawn.data[seen], drawn.target[seen]
grid = np.linspace(0, 1, 601)[:, None]
exact = GaussianProcessRegressor(kernel, alpha=0.04, optimizer=None).fit(X, y)
mean, std = exact.predict(grid, return_std=True)

# %%
# VecchiaGPRegressor learns kernel and noise from the values; here DKLGPRegressor is given the true
# ones, so that its posterior can be compared with the exact one.

learned = VecchiaGPRegressor(n_neighbors=10).fit(X, y)
print("learned kernel", learned.kernel_, "noise variance", round(learned.noise_variance_, 3))
options = {"noise_variance": 0.04, "optimize_kernel": False}
fitted = {m: DKLGPRegressor(kernel, n_neighbors=m, **options).fit(X, y) for m in (3, 10, 30)}

fig, (top, middle, low) = plt.subplots(
    3, 1, figsize=(8, 6), sharex=True, layout="constrained", height_ratios=(2.2, 1, 1)
)
top.plot(X[:, 0], y, ".", color="0.75", markersize=3, label="noisy values")
top.fill_between(
    grid[:, 0], mean - 2 * std, mean + 2 * std, alpha=0.25, label="exact, 2 deviations"
)
top.plot(grid[:, 0], mean, label="exact mean")
sparse_mean, sparse_std = fitted[10].predict(grid, return_std=True, joint=True)
for sign, label in ((0, "sparse, m = 10"), (-2, None), (2, None)):
    top.plot(grid[:, 0], sparse_mean + sign * sparse_std, ":", color="black", label=label)
top.legend(ncols=4, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1))
for m, joint in ((3, True), (10, True), (30, True), (30, False)):
    sparse_mean, sparse_std = fitted[m].predict(grid, return_std=True, joint=joint)
    line = {"label": f"m = {m}" if joint else f"m = {m}, each by itself", "linewidth": 1}
    line |= {} if joint else {"color": "gray", "linestyle": "--"}
    middle.semilogy(grid[:, 0], abs(sparse_mean - mean), **line)
    low.semilogy(grid[:, 0], abs(sparse_std / std - 1), **line)
middle.set(ylabel="gap of means", ylim=(1e-9, 1))
low.set(ylabel="relative gap of\ndeviations", xlabel="x", ylim=(1e-9, 1))
middle.legend(ncols=4, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 0.97))
plt.show()

# %%
# Where there are data, each ten neighbors more bring the means closer by orders of magnitude. In
# the gaps a point that is predicted by itself (dashed) sees the values nearest to it, all on one
# side; predicted jointly, points in a gap see each other too, and with them both sides.
