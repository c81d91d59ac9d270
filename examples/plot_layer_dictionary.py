"""
The dictionary of a layer
=========================

The first layer of a small network that reads digits, stored as a dictionary and a few atoms for
each unit. You will see the singular values of its weight, with and without the inputs that it
really gets, all atoms, and the weights of some units beside what their atoms make of them.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from sparseprob.torch.calibration import LayerStats
from sparseprob.torch.solvers import CoSpaDi, LowRank

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1.0)
for _ in range(800):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x + 0.5 * torch.randn_like(x)), y).backward()
    optimizer.step()

# %%
# The outputs of the layer are wrong by what is wrong with the weight times a factor of the second
# moments of its inputs: solvers compress that product, and its singular values fall faster.

weight, stats = model[0].weight.detach(), LayerStats.of(x)
C = stats.damped(1e-6).gram
product = weight.double() @ torch.linalg.cholesky(C)
solution = CoSpaDi(n_atoms=30, n_nonzero=9, random_state=0).solve(weight, stats)
layer, shown = solution.to_module(), torch.arange(5, 255, 25)
brightness = C.diagonal().sqrt().float()

fig, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained", width_ratios=[1.1, 1, 0.75])
for matrix, name in ((weight, "weight"), (product, "weight times factor of inputs")):
    values = torch.linalg.svdvals(matrix)
    axes[0].semilogy(np.arange(1, 65), values / values[0], ".-", label=name)
axes[0].set(xlabel="number", title="singular values over the largest", ylim=(1e-5, 1.5))
axes[0].legend()


def pictures(rows, n_columns):
    """Return rows of 64 pixels as one picture, each scaled by itself."""
    tiles = (rows.detach() * brightness).numpy().reshape(-1, n_columns, 8, 8)
    tiles = tiles / abs(tiles).max(axis=(2, 3), keepdims=True)
    tiles = np.pad(tiles, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    return tiles.transpose(0, 2, 1, 3).reshape(len(tiles) * 9, -1)


pairs = torch.stack([weight[shown], solution.dense()[shown]], dim=1)
titles = ("30 atoms", "units, as trained and stored")
for ax, rows, n_columns, title in zip(
    axes[1:], (layer.dictionary.T, pairs), (6, 4), titles, strict=True
):
    ax.imshow(pictures(rows, n_columns), cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set_title(title)
    ax.axis("off")
plt.show()
for name, found in (("dictionary", solution), ("low rank", LowRank(rank=15).solve(weight, stats))):
    kept = found.n_bits() / (16 * weight.numel())
    print(f"{name}: {kept:.2f} of the storage, error {found.relative_error(stats):.3f}")

# %%
# Atoms are strokes, weighted by how bright their pixels usually are, and a unit adds nine of thirty
# of them. The weight alone would need most of its singular values; with its inputs, a third of
# them leave an error of a few percent.
