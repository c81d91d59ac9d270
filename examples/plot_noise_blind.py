"""
One alpha for every level of noise
==================================

Greedy pursuit with a LASSO-type loss stops by itself, at a point set by ``alpha``. You will see the
error of the recovered coefficients against alpha at three levels of noise. With the squared loss
each level wants an alpha of its own; with the square-root loss the three valleys lie above each
other, and ``alpha="auto"`` finds them without knowing the noise.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.recovery import WeightedOMP

M, N, n_nonzero = 150, 300, 10
alphas = np.logspace(-5, -0.1, 45)
levels = (1e-3, 1e-2, 1e-1)  # length of the noise vector


def measurements(level, rng):
    """A matrix, measurements with noise of a given length, and the truth."""
    A, x, noise = rng.normal(size=(M, N)), np.zeros(N), rng.normal(size=M)
    A /= np.linalg.norm(A, axis=0)
    x[rng.choice(N, n_nonzero, replace=False)] = rng.normal(size=n_nonzero)
    return A, A @ x + level * noise / np.linalg.norm(noise), x


def relative_error(coef, x):
    """Length of the deviation relative to the truth."""
    return np.linalg.norm(coef - x) / np.linalg.norm(x)


# %%
# With equal weights alpha decides only where a pursuit stops. One path of 30 steps therefore holds
# the answers for all alphas and both losses.

losses = ("squared", "sqrt")
errors = {(loss, level): [] for loss in losses for level in levels}
automatic = {level: [] for level in levels}
for level in levels:
    for seed in range(20):
        A, y, x = measurements(level, np.random.default_rng(seed))
        path = WeightedOMP(alpha=0.0, max_iter=3 * n_nonzero).fit(A, y).path_
        for loss in losses:
            coefs = [path.coef_at_alpha(alpha, loss=loss) for alpha in alphas]
            errors[loss, level].append([relative_error(coef, x) for coef in coefs])
        model = WeightedOMP("sqrt", alpha="auto").fit(A, y)
        automatic[level].append(relative_error(model.coef_, x))

fig, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
for ax, loss in zip(axes, losses, strict=True):
    for level in levels:
        (line,) = ax.loglog(
            alphas, np.median(errors[loss, level], axis=0), label=f"noise {level:g}"
        )
        if loss == "sqrt":
            ax.plot(model.alpha_, np.median(automatic[level]), "o", color=line.get_color())
    ax.set(xlabel="alpha", title=f'loss="{loss}"')
axes[0].set_ylabel("median relative error")
axes[1].plot([], [], "o", color="grey", label='alpha="auto"')
axes[1].legend()
plt.show()

# %%
# To the left of a valley the pursuit goes on into the noise, to the right it stops before the last
# true column.
