"""
Inducing inputs that are seen by their neighbors only
=====================================================

Inducing inputs summarize the data. When every point looks at all M of them, a step costs M cubed
and M stays at a few hundred. SWSGPRegressor lets each point look at its H nearest. You will see
500 inducing inputs after training with the neighbors of three points, the fitted surface, and how
the error falls with M while H, and with it the cost of a step, stays the same.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.datasets import make_spatial_field
from sparseprob.gp import SWSGPRegressor

drawn = make_spatial_field(5000, random_state=1)
train, test = np.s_[:4000], np.s_[4000:]
X, y = drawn.data[train], drawn.target[train]


def fitted(n_inducing):
    """Train with so many inducing inputs, 16 of which a point sees."""
    options = {"n_neighbors": 16, "max_iter": 20, "tol": 0, "random_state": 0}
    return SWSGPRegressor(n_inducing=n_inducing, **options).fit(X, y)


fitted(20)  # compiles
model = fitted(500)
Z, scales = model.inducing_inputs_, model.kernel_.k2.length_scale
queries = np.array([[0.25, 0.3], [0.7, 0.55], [0.97, 0.95]])
side = np.linspace(0, 1, 150)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)

fig, axes = plt.subplots(1, 2, figsize=(9, 4.3), layout="constrained", sharex=True, sharey=True)
axes[0].plot(*X.T, ".", color="0.85", markersize=2)
axes[0].plot(*Z.T, ".", color="0.35", markersize=4)
for x, color in zip(queries, ("#c44e2c", "#1f5fa8", "#2f8f5b"), strict=True):
    near = np.argsort((((Z - x) / scales) ** 2).sum(axis=1))[:16]
    for z in Z[near]:
        axes[0].plot(*np.stack([x, z]).T, color=color, linewidth=0.8)
    axes[0].plot(*Z[near].T, "o", color=color, markersize=4)
    axes[0].plot(*x, "*", color=color, markersize=14)
axes[0].set(title="points, 500 inducing inputs, 16 seen", aspect="equal")
image = axes[1].pcolormesh(side, side, model.predict(grid).reshape(150, 150), cmap="RdBu_r")
axes[1].set(title="mean", aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
fig.colorbar(image, ax=axes[1], shrink=0.8)
plt.show()

# %%
# Twice the inducing inputs cost no more time than it takes to find the neighbors among them.

sizes, errors, seconds = (60, 125, 250, 500, 1000), [], []
for M in sizes:
    began = time.perf_counter()
    model = fitted(M)
    seconds.append((time.perf_counter() - began) / model.n_iter_)
    errors.append(np.sqrt(np.mean((model.predict(drawn.data[test]) - drawn.field[test]) ** 2)))
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.loglog(sizes, errors, "o-")
left.axhline(drawn.field[test].std(), color="gray", linestyle=":")
left.set(xlabel="inducing inputs M", ylabel="RMSE (dotted: of zero)")
right.plot(sizes, 1e3 * np.array(seconds), "o-")
right.set(xlabel="inducing inputs M", ylabel="milliseconds a pass", ylim=(0, None))
plt.show()
