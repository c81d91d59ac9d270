"""
All ways to make a layer smaller
================================

The same layer of a network that reads digits, compressed by every method to less and less storage.
You will see the error of its outputs over the storage that is left, of methods that keep single
weights on one side and of methods that store factors on the other.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

from sparseprob.torch.calibration import collect_grams
from sparseprob.torch.solvers import (
    AWP,
    CoSpaDi,
    DSFormer,
    Kronecker,
    LowRank,
    MagnitudePruner,
    Monarch,
    Refit,
    SparseGPTPruner,
    WandaPruner,
)

torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
model = nn.Sequential(
    nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
for _ in range(200):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x + 0.3 * torch.randn_like(x)), y).backward()
    optimizer.step()

weight, stats = model[2].weight.detach(), collect_grams(model, [x])["2"]

# %%
# Pruners keep a share of the weights, and a bit for each place says which; factors save a share of
# the storage.

kept = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
pruners = {
    "magnitude": MagnitudePruner(),
    "Wanda": WandaPruner(),
    "SparseGPT": SparseGPTPruner(),
    "Wanda, refit": Refit(WandaPruner()),
    "AWP, refit": AWP(refit=True),
}
factors = {
    "Kronecker": Kronecker(compression=0.5),
    "Monarch": Monarch(),
    "Monarch, refit": Monarch(whiten="block", refit=True),
    "SVD": LowRank(whiten=False),
    "DSFormer": DSFormer(whiten=True),
    "whitened SVD": LowRank(),
    "CoSpaDi": CoSpaDi(max_iter=20, random_state=0),
}


def curve(solver, parameter):
    """Return storage and error at all budgets."""
    found = []
    for share in kept:
        solver.set_params(**{parameter: 1 - share})
        solution = solver.solve(weight, stats)
        found.append((solution.n_bits() / (16 * weight.numel()), solution.relative_error(stats)))
    return np.array(found).T


fig, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained", sharey=True)
for i, (name, solver) in enumerate(pruners.items()):
    parameter = "solver__sparsity" if isinstance(solver, Refit) else "sparsity"
    line = curve(solver, parameter)
    axes[0].semilogy(*line, "o-", color=f"C{i}", label=name, markersize=4)
axes[1].semilogy(*line, "--", color="gray", label=f"{name} (left)")
for i, (name, solver) in enumerate(factors.items()):
    axes[1].semilogy(*curve(solver, "compression"), "o-", color=f"C{i}", label=name, markersize=4)
for ax, title in zip(axes, ("single weights", "factors"), strict=True):
    ax.set(xlabel="storage left, positions included", title=title)
    ax.legend(fontsize="small", loc="lower left", ncols=2)
    ax.grid(alpha=0.25)
axes[0].set(ylabel="relative error of the outputs", ylim=(3e-4, 1.2))
plt.show()

# %%
# What a method knows of the inputs matters more than what it stores: magnitude, SVD and plain
# Monarch look at the weight alone, and their errors are several times those of AWP and whitened
# SVD. The inputs of this layer are strongly correlated, which factors use better than single
# weights do; in a transformer it is often the other way round. Monarch factors, meant for training,
# come close once the second one is fitted to the outputs. A trained weight is no Kronecker product.
