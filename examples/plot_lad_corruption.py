"""
Measurements that are plainly wrong
===================================

A few sensors report nonsense. Least squares spreads their error over everything; the loss of least
absolute deviations passes it by, inside the pursuit as well as in the fits. You will see
coefficients recovered by both losses from the same 150 measurements, 10 % of which are wrong by
hundreds of times the signal, and the error against the share of wrong measurements.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.recovery import WeightedOMP

M, N, n_nonzero = 150, 300, 10


def measurements(share, seed):
    """A matrix, measurements of which a share is wrong, and the truth."""
    rng = np.random.default_rng(seed)
    A, x, noise = rng.normal(size=(M, N)), np.zeros(N), rng.normal(size=M)
    A /= np.linalg.norm(A, axis=0)
    x[rng.choice(N, n_nonzero, replace=False)] = rng.normal(size=n_nonzero)
    y = A @ x + 1e-3 * noise / np.linalg.norm(noise)
    wrong = rng.choice(M, int(share * M), replace=False)
    y[wrong] += 100 * rng.normal(size=len(wrong))
    return A, y, x


robust = WeightedOMP("absolute", alpha=1.78, max_iter=30)
ordinary = WeightedOMP("squared", alpha=1e-3, max_iter=30)

A, y, x = measurements(0.1, seed=0)
fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for ax, model, title in zip(axes, (ordinary, robust), ("squared", "absolute"), strict=True):
    coef, true = model.fit(A, y).coef_, np.flatnonzero(x)
    ax.axhline(0, color="grey", linewidth=0.5)
    ax.plot(model.support_, coef[model.support_], ".", label="recovered")
    ax.plot(true, x[true], "o", fillstyle="none", label="truth")
    ax.set(xlabel="column", title=f'loss="{title}"')
axes[0].set_ylabel("coefficient")
axes[1].legend()

# %%
# On the left the scale is that of the wrong measurements: the truth lies along zero. On the right
# every coefficient sits in its circle.

shares = np.array([0, 0.05, 0.1, 0.2, 0.3, 0.4])
errors = np.zeros((2, len(shares), 10))
for i, share in enumerate(shares):
    for seed in range(10):
        A, y, x = measurements(share, seed)
        for k, model in enumerate((ordinary, robust)):
            errors[k, i, seed] = np.linalg.norm(model.fit(A, y).coef_ - x) / np.linalg.norm(x)

fig, ax = plt.subplots(figsize=(4.5, 3.4), layout="constrained")
for error, loss in zip(np.median(errors, axis=2), ("squared", "absolute"), strict=True):
    ax.semilogy(100 * shares, error, "o-", label=f'loss="{loss}"')
ax.set(xlabel="wrong measurements in %", ylabel="median relative error")
ax.legend()
plt.show()

# %%
# Up to a fifth of wrong measurements costs the absolute loss next to nothing. Without any, the
# squared loss is as good, and faster.
