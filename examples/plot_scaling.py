"""
Speed over MPI ranks
====================

Measured times of ``mpi/scaling.py`` on a machine with 16 cores: one EM iteration over 2 million
rows with 1 to 16 ranks of one thread each. You will see the speed-up of the whole iteration beside
that of its two matrix products timed alone with as many processes: the most the machine gives.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt

import sparseprob

root = Path(sparseprob.__file__).parents[1]
measured = json.loads((root / "mpi/results/scaling.json").read_text())

fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for ax, kind in zip(axes, ("strong", "weak"), strict=True):
    runs = measured[kind]
    ranks = [run["ranks"] for run in runs]
    for name, key in (
        ("EM iteration", "efficiency"),
        ("matrix products alone", "products_efficiency"),
    ):
        ax.plot(ranks, [r * run[key] for r, run in zip(ranks, runs, strict=True)], "o-", label=name)
    ax.plot(ranks, ranks, ":", color="grey", label="ideal")
    ax.set(title=f"{kind} scaling", xlabel="ranks", ylabel="speed-up", xticks=ranks)
    ax.grid(alpha=0.25)
axes[0].legend()
plt.show()

# %%
# The iteration follows the matrix products: one small reduction per iteration costs less than a
# thousandth of it. Where both fall behind the line, it is memory and clock that the cores share.
