"""
Gaussian processes: what is reached in how much time
====================================================

Measured by ``benchmarks/gp.py`` on one core: four thousand noisy values of a field in the plane, a
thousand more to predict, kernel and noise learned by every method. You will see how much the
negative log density of the values that were left out lies above that of the exact process with the
true kernel, over the seconds spent in learning, for a smooth field and for a rough one.
"""

import json
from pathlib import Path

import matplotlib.pyplot as plt

import sparseprob

root = Path(sparseprob.__file__).parents[1]
points = json.loads((root / "benchmarks/results/gp.json").read_text())["points"]
given = ("true parameters", "started at")  # what no one has in practice
learned = [p for p in points if not any(word in p["method"] for word in given)]
families = {
    "VecchiaGP": ("o-", "#1f5fa8"), "DKLGP": ("s-", "#0a8f8f"), "SWSGP": ("D-", "#7a4fa3"),
    "gpboost": ("^--", "#c44e2c"), "SVGP": ("v--", "#d69a1e"), "VNNGP": ("<--", "#6b6b6b"),
    "gpytorch ExactGP": ("*--", "#222222"),
}  # fmt: skip
fig, axes = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
for ax, nu in zip(axes, (1.5, 0.5), strict=True):
    exact = next(p for p in points if p["method"].startswith("exact") and p["nu"] == nu)
    ax.axhline(0, color="0.3", linestyle=":")
    for family, (style, color) in families.items():
        mine = [p for p in learned if p["nu"] == nu and p["method"].startswith(family)]
        mine = sorted(mine, key=lambda p: p["seconds"])
        excess = [p["nlpd"] - exact["nlpd"] for p in mine]
        ax.plot([p["seconds"] for p in mine], excess, style, color=color, markersize=5,
                linewidth=1.2, label=family)  # fmt: skip
        best = min(mine, key=lambda p: p["nlpd"], default=None)
        if best:
            print(f"nu={nu} {best['method']:18} {best['nlpd']:8.4f} in {best['seconds']:6.2f} s")
    ax.set(xscale="log", xlabel="seconds of the processor", title=f"Matern field, nu = {nu}")
    ax.set_yscale("symlog", linthresh=1e-2)
    ax.set_ylim(-5e-3, 3)
axes[0].set_ylabel("negative log density above the exact one")
fig.legend(
    *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize="small"
)
plt.show()

# %%
# The scale is linear below a hundredth. Vecchia's approximation and DKLGP are there in a fraction
# of a second. VNNGP comes near after most of a minute, when its independent values have found each
# other. Inducing inputs are too few for the detail of these fields, the more so the rougher the
# field: with a thousand of them, each point seeing sixteen, much less so than with three hundred.
# Points of one line that are joined are runs of their own, each with its schedule.
