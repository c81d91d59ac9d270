"""
A network compressed, layer by layer
====================================

``compress`` goes through the linear layers of any torch model and reports what it did to each. You
will see the error and size of the layers of a small classifier of digits, and how its accuracy
falls as more weights are removed, by three methods.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sparseprob.plotting import CompressionDisplay
from sparseprob.torch import compress
from sparseprob.torch.solvers import AWP, LowRank, MagnitudePruner, WandaPruner

torch.manual_seed(0)
digits = load_digits()
parts = train_test_split(digits.data / 16, digits.target, test_size=0.3, random_state=0)
X, X_test = (torch.tensor(part, dtype=torch.float32) for part in parts[:2])
y, y_test = (torch.tensor(part) for part in parts[2:])

widths = [64, 128, 128, 128, 128]
layers = [
    nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in zip(widths, widths[1:], strict=False)
]
model = nn.Sequential(*layers)
model.append(nn.Linear(128, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(30):
    for rows in torch.randperm(len(X)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X[rows]), y[rows]).backward()
        optimizer.step()


def accuracy(network):
    """Share of test digits that are recognized."""
    with torch.no_grad():
        return float((network(X_test).argmax(1) == y_test).float().mean())


# %%
# Seven of ten weights are removed; the first layer is stored as a product of two thin matrices
# instead. The training data serve for calibration, without their labels.
batches = X.split(64)
small, report = compress(
    model, AWP(sparsity=0.7, refit=True), batches, overrides={"0.*": LowRank(compression=0.5)}
)
print(report)
print(f"accuracy {accuracy(model):.3f} before, {accuracy(small):.3f} after")
CompressionDisplay(report).plot()
plt.show()

# %%
# The same network at other sparsities. Methods calibrate on the dense network all at once
# ("one_shot"), or layer after layer on what is compressed already ("sequential", the default).
sparsities = np.array([0.5, 0.6, 0.7, 0.8, 0.9, 0.95])
runs = {
    "magnitude": (MagnitudePruner, "one_shot", "-", "0.5"),
    "Wanda": (WandaPruner, "one_shot", "-", "#c44e2c"),
    "AWP": (AWP, "one_shot", "-", "#1f5fa8"),
    "AWP, sequential": (AWP, "sequential", "--", "#1f5fa8"),
}
fig, ax = plt.subplots(figsize=(6.4, 3.8), layout="constrained")
for name, (solver, mode, line, color) in runs.items():
    pruned = [compress(model, solver(sparsity=s), batches, mode=mode)[0] for s in sparsities]
    ax.plot(100 * sparsities, [accuracy(p) for p in pruned], line, color=color, label=name)
ax.axhline(accuracy(model), color="k", linewidth=0.8, linestyle=":", label="dense")
ax.set(xlabel="weights removed (%)", ylabel="accuracy on test digits", ylim=(0, 1.02))
ax.grid(alpha=0.25)
ax.legend(fontsize="small", frameon=False, loc="lower left")
plt.show()

# %%
# AWP, which adjusts the weights that stay, keeps the accuracy far longer than the two that only
# choose. Calibrating on compressed layers changes nothing as long as their errors are small, and
# misleads when nearly all weights are gone: this network has no path around its layers.
