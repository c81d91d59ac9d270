"""
Sparse Bayesian learning: coefficients with error bars
======================================================

Sixty noisy measurements of two hundred unknowns, eight of which are not zero. Sparse Bayesian
learning finds how many there are, how large the noise is, and how sure it is of each coefficient.
You will see the coefficients with their error bars, and two ways to the same model: EM, and one
column at a time.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.recovery import SparseBayesianLearning

rng = np.random.default_rng(1)
A, x, noise = rng.normal(size=(60, 200)), np.zeros(200), 1.0
places = np.sort(rng.choice(200, 8, replace=False))
x[places] = rng.choice([-1, 1], 8) * rng.uniform(1, 3, 8)
y = A @ x + noise * rng.normal(size=60)
fast = SparseBayesianLearning("fast").fit(A, y)
em = SparseBayesianLearning("em").fit(A, y)

# %%
# Bars are two posterior deviations. They take the learned variances as known: they are somewhat too
# short, and say nothing of coefficients that were missed.

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
ax.errorbar(
    fast.support_, fast.coef_[fast.support_], 2 * np.sqrt(fast.sigma_diag_[fast.support_]),
    fmt="o", capsize=3, label="posterior mean, two deviations",
)  # fmt: skip
ax.plot(places, x[places], "x", color="black", label="truth")
ax.axhline(0, color="gray", linewidth=0.5)
ax.set(xlabel="coefficient", ylabel="value")
ax.legend()
print(f"noise {fast.noise_var_**0.5:.2f} by fast, {em.noise_var_**0.5:.2f} by EM (true {noise})")

# %%
# The evidence over iterations. EM starts from all columns and drops them; "fast" starts from none,
# and each column has to earn its place. EM ends with the higher evidence and with columns that only
# explain noise, which it then takes to be small: with more unknowns than measurements and a noise
# that is learned, the highest evidence is not the best model. Give EM the noise if you know it.

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for model, name in ((em, "em"), (fast, "fast")):
    left.plot(np.arange(1, model.n_iter_ + 1), model.log_evidence_, "o-", markersize=3, label=name)
    error = np.linalg.norm(model.coef_ - x) / np.linalg.norm(x)
    label = f"{name}: {len(model.support_)} columns, error {error:.2f}"
    right.plot(model.coef_, "o", markersize=3, label=label)
right.plot(x, "x", color="black", markersize=4, zorder=0)
left.set(xlabel="iteration", ylabel="log evidence")
right.set(xlabel="coefficient", ylabel="value", ylim=(-3, 5))
left.legend()
right.legend()

# %%
# Draws from the posterior show what the measurements leave open about any function of the
# coefficients, here of a new measurement, beside the interval predicted for it with its noise.

row = rng.normal(size=(1, 200))
draws = fast.sample_posterior(5000, random_state=0) @ row[0]
mean, std = fast.predict(row, return_std=True)
fig, ax = plt.subplots(figsize=(5, 2.5), layout="constrained")
ax.hist(draws, bins=60, density=True, alpha=0.6, label="draws without noise")
ax.axvline(float(row[0] @ x), color="black", linestyle="--", label="truth without noise")
ax.axvspan(
    mean[0] - 2 * std[0], mean[0] + 2 * std[0], alpha=0.15, label="mean, two deviations with noise"
)
ax.set_xlabel("predicted measurement")
ax.legend(fontsize="small")
plt.show()
