"""
Gaussian processes: what is reached in how much time
====================================================

Measured by ``benchmarks/gp.py`` on one core: four thousand noisy values of a field in the plane, a
thousand more to predict, kernel and noise learned by every method. You will see the negative log
density of the values that were left out over the seconds spent in learning, for a smooth field and
for a rough one. The dotted line is the exact process with the true kernel: nothing is better.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt

import sparseprob

root = Path(sparseprob.__file__).parents[1]
points = json.loads((root / "benchmarks/results/gp.json").read_text())["points"]
learned = [p for p in points if "true parameters" not in p["method"]]
families = {
    "VecchiaGP": ("o-", "#1f5fa8"), "DKLGP": ("s-", "#0a8f8f"), "SWSGP": ("D-", "#7a4fa3"),
    "gpboost": ("^--", "#c44e2c"), "SVGP": ("v--", "#d69a1e"), "VNNGP": ("<--", "#6b6b6b"),
    "gpytorch ExactGP": ("*--", "#222222"),
}  # fmt: skip
fig, axes = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
for ax, nu in zip(axes, (1.5, 0.5), strict=True):
    exact = next(p for p in points if p["method"].startswith("exact") and p["nu"] == nu)
    ax.axhline(exact["nlpd"], color="0.3", linestyle=":")
    for family, (style, color) in families.items():
        mine = [p for p in learned if p["nu"] == nu and p["method"].startswith(family)]
        mine = sorted(mine, key=lambda p: p["seconds"])
        values = [p["nlpd"] - exact["nlpd"] for p in mine]
        ax.plot([p["seconds"] for p in mine], [v + exact["nlpd"] for v in values], style,
                color=color, markersize=5, linewidth=1.2, label=family)  # fmt: skip
    ax.set(xscale="log", xlabel="seconds of the processor", title=f"Matern field, nu = {nu}")
axes[0].set_ylabel("negative log density of a new value")
axes[0].legend(fontsize="small")
plt.show()

# %%
# Methods whose points see near points reach the dotted line in seconds. Inducing inputs that all
# points see are too few for the detail of these fields, the more so the rougher it is. Stochastic
# gradients reach in minutes what closed forms and Fisher scoring reach in a second.
