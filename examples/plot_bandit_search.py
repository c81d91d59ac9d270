"""
Hyper-parameters chosen by a bandit
===================================

``BanditSearchCV`` has the parameters and results of ``RandomizedSearchCV``, and learns where the
scores are high while it goes. You will see which settings of a support vector machine either of
them tries, and the best score after each, for Friedman's function with noise.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import make_friedman1
from sklearn.model_selection import RandomizedSearchCV
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from sparseprob.bandits import BanditSearchCV

X, y = make_friedman1(200, n_features=8, noise=1.0, random_state=0)
X = StandardScaler().fit_transform(X)
ranges = {
    "C": loguniform(1e-2, 1e3),
    "gamma": loguniform(1e-4, 1e1),
    "epsilon": loguniform(1e-3, 3),
}


def searches(kind):
    """Searches of 40 settings with five seeds."""
    options = {"n_iter": 40, "cv": 5, "refit": False}
    return [kind(SVR(), ranges, random_state=seed, **options).fit(X, y) for seed in range(5)]


found = {"random": searches(RandomizedSearchCV), "bandit": searches(BanditSearchCV)}

# %%
fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for ax, (name, runs) in zip(axes, found.items(), strict=False):
    results = runs[0].cv_results_
    scores = results["mean_test_score"]
    picture = ax.scatter(results["param_C"], results["param_gamma"], c=scores, vmin=0, vmax=1, s=30)
    ax.set(xscale="log", yscale="log", xlim=(1e-2, 1e3), ylim=(1e-4, 1e1))
    ax.set(xlabel="C", ylabel="gamma", title=f"{name}: best score {scores.max():.3f}")
fig.colorbar(picture, ax=axes[:2], label="R²")

for (name, runs), color in zip(found.items(), ("0.5", "C0"), strict=True):
    best = [np.maximum.accumulate(run.cv_results_["mean_test_score"]) for run in runs]
    axes[2].plot(np.transpose(best), color=color, lw=0.7, alpha=0.6)
    axes[2].plot(np.mean(best, axis=0), color=color, lw=2.5, label=name)
axes[2].set(xlabel="settings tried", ylabel="best R² so far", ylim=(0.7, 0.88))
axes[2].legend(title="mean of five seeds", loc="lower right")
plt.show()

# %%
# Both begin all over the ranges. The bandit soon leaves the settings that explain nothing, and
# spends most of its fits where the score is high; random search comes there by chance only.
