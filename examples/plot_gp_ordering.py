"""
Coarse to fine: the order and the sparse factor behind fast Gaussian processes
===============================================================================

A Gaussian process over n points needs the Cholesky factor of an n x n matrix. Ordered from coarse
to fine, so that each point is the one farthest from all before it, the factor of the *inverse*
matrix has few entries that matter: given its nearest predecessors, a point hardly depends on the
others. You will see the order, the neighbors of three points, and the error of factors that keep
m neighbors a column.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.gaussian_process.kernels import Matern

from sparseprob.gp import maximin_order, nearest_predecessors, sic_factor

X, kernel = np.random.default_rng(0).random((1000, 2)), Matern(0.2, nu=1.5)
order, lengths = maximin_order(X)
X = X[order]
indptr, indices = nearest_predecessors(X, 12)

# %%
# The first 30, 150 and 600 points, and in each panel the 12 nearest predecessors of the last point.
# They surround it, at a distance that shrinks as the order goes on.

fig, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained", sharex=True, sharey=True)
for ax, n in zip(axes, (30, 150, 600), strict=True):
    *near, j = indices[indptr[n - 1] : indptr[n]]
    ax.scatter(*X[:n].T, s=8 if n < 600 else 3, color="0.65", linewidth=0)
    for i in near:
        ax.plot(*X[[i, j]].T, color="#1f5fa8", linewidth=1)
    ax.scatter(*X[near].T, s=14, color="#1f5fa8", zorder=3)
    ax.scatter(*X[j], s=60, marker="*", color="#c44e2c", zorder=4)
    ax.set(title=f"{n} points, distance {lengths[n - 1]:.3f}", xticks=[], yticks=[], aspect="equal")
plt.show()

# %%
# Left, the exact factor of the inverse covariance of the first 200 points: the later a point, the
# fewer of its entries are dark. Middle, the best factor with 12 of them a column, which has other
# values: it makes up for what it leaves out. Right, the Kullback-Leibler divergence from the exact
# process, for nearest predecessors and for as many at random: it falls ten thousandfold from 10 to
# 80 neighbors, provided that they are near.


def divergence(pattern):
    """Kullback-Leibler divergence of the process with a sparse factor from the exact one."""
    U = sic_factor(kernel, X, *pattern, nugget=1e-8)
    return -np.log(U.diagonal()).sum() - 0.5 * log_determinant


def random_predecessors(m):
    """Choose m earlier points of each at random."""
    rng = np.random.default_rng(1)
    columns = [np.append(np.sort(rng.permutation(j)[:m]), j) for j in range(len(X))]
    sizes = [len(column) for column in columns]
    return np.append(0, np.cumsum(sizes)), np.concatenate(columns).astype(np.int32)


K = kernel(X) + 1e-8 * np.eye(len(X))
log_determinant = np.linalg.slogdet(K)[1]
exact = np.linalg.inv(np.linalg.cholesky(K[:200, :200])).T
kept = sic_factor(kernel, X[:200], indptr[:201], indices[: indptr[200]])
sizes = (2, 5, 10, 20, 40, 80)
curves = {
    "nearest predecessors": [divergence(nearest_predecessors(X, m)) for m in sizes],
    "random predecessors": [divergence(random_predecessors(m)) for m in sizes],
}

fig, axes = plt.subplots(1, 3, figsize=(9.6, 3.2), layout="constrained")
for ax, U, title in (
    (axes[0], exact, "exact factor"),
    (axes[1], kept.toarray(), "12 neighbors kept"),
):
    shown = np.log10(np.maximum(abs(U) / U.diagonal(), 1e-6))
    image = ax.imshow(shown, cmap="Blues", vmin=-4, vmax=0, interpolation="nearest")
    ax.set(title=title, xticks=[0, 199], yticks=[0, 199])
fig.colorbar(image, ax=axes[:2], label="log10 of entry over diagonal", shrink=0.8)
for name, values in curves.items():
    axes[2].semilogy(sizes, values, "o-", label=name)
axes[2].set(title="divergence from exact", xlabel="m", ylabel="nats", ylim=(1e-3, 1e4))
axes[2].legend(fontsize="small")
plt.show()
for m, near in zip(sizes, curves["nearest predecessors"], strict=True):
    print(f"m = {m:2}: {near:8.3f} nats, {m / len(X):5.1%} of the entries of a column")
