"""
Fast transforms are Monarch matrices
====================================

A Monarch matrix is the product of two block-diagonal ones with a transposition between. The nearest
one to a given matrix has a closed form. You will see, for transforms with a fast algorithm, for a
random matrix and for a weight of a trained network, the nearest Monarch matrix of 64 x 64, and how
its error compares with that of a low-rank matrix with as many numbers.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.fft import dct
from scipy.linalg import hadamard
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from sparseprob.linear_operators import MonarchOperator, MonarchProduct, monarch_project

n, b = 64, 8
fourier = np.fft.fft(np.eye(n), norm="ortho")
X, y = load_digits(return_X_y=True)
network = MLPClassifier((n, n), alpha=1e-2, max_iter=60, early_stopping=True, random_state=0)
network.fit(X / 16, y)
matrices = {
    "Fourier": fourier,
    "Fourier, sorted": fourier[:, np.arange(n).reshape(b, b).T.ravel()],
    "Hadamard": hadamard(n) / np.sqrt(n),
    "cosine": dct(np.eye(n), axis=0, norm="ortho"),
    "Gaussian": np.random.default_rng(0).normal(size=(n, n)),
    "trained weight": network.coefs_[1].T,
}


def relative_error(M, found):
    """Norm of the difference over that of the matrix."""
    return np.linalg.norm(M - found) / np.linalg.norm(M)


fig, axes = plt.subplots(2, 6, figsize=(11, 4.2), layout="constrained")
errors = {}
for column, (name, M) in zip(axes.T, matrices.items(), strict=True):
    left, right = monarch_project(M)
    nearest = MonarchOperator(left, right).to_dense()
    rank = (left.size + right.size) // (2 * n)
    U, s, Vh = np.linalg.svd(M)
    low_rank = (U[:, :rank] * s[:rank]) @ Vh[:rank]
    errors[name] = relative_error(M, nearest), relative_error(M, low_rank)
    limit = np.abs(M.real).max()
    for ax, shown in zip(column, (M, nearest), strict=True):
        ax.imshow(shown.real, cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set(xticks=[], yticks=[])
    column[0].set_title(name, fontsize=10)
axes[0, 0].set_ylabel("matrix")
axes[1, 0].set_ylabel("nearest Monarch")
plt.show()

# %%
# The Fourier matrix is a Monarch matrix once its columns are sorted the way of the fast Fourier
# transform, the Hadamard matrix as it is. Orthogonal matrices are the worst case of low rank: all
# singular values are alike.

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
places = np.arange(len(errors))
for shift, label, values in zip(
    (-0.2, 0.2), ("Monarch", f"rank {rank}"), np.array(list(errors.values())).T, strict=True
):
    bars = ax.bar(places + shift, values, 0.4, label=f"{label}, {2 * n * rank} numbers")
    ax.bar_label(bars, fmt="%.2f", fontsize=8)
ax.set_xticks(places, errors, fontsize=9)
ax.set_ylabel("relative error")
ax.set_ylim(0, 1.35)
ax.legend(loc="upper right", ncols=2, fontsize=9)
plt.show()

# %%
# A random matrix is equally far from both. Trained weights have few large singular values, which a
# low rank takes wholly; a Monarch matrix keeps one of every block.
#
# Convolutions are no Monarch matrices, but products of two of them, whose factors can be read off
# the matrix:
filter_ = np.random.default_rng(1).normal(size=n)
convolution = np.array([np.roll(filter_, shift) for shift in range(n)]).T
nearest = MonarchOperator(*monarch_project(convolution)).to_dense()
product = MonarchProduct.from_matrix(convolution, random_state=0)
print(f"one Monarch matrix: error {relative_error(convolution, nearest):.2f}")
print(f"product of two: error {relative_error(convolution, product.to_dense()):.0e}")
