"""
Supports that are products: with and without knowing it
=======================================================

A matrix of 40 x 40 coefficients is zero except where a few rows meet a few columns. It is measured
through a Kronecker product, 144 numbers with noise. You will see the coefficients as estimated by
methods that know of the product, and by ones that take all coefficients for alike.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.linear_operators import KroneckerOperator
from sparseprob.metrics import nmse
from sparseprob.recovery import KroneckerOMP, KroneckerSBL, SparseBayesianLearning

rng = np.random.default_rng(1)
factors = [rng.normal(size=(12, 40)), rng.normal(size=(12, 40))]
x = np.zeros((40, 40))
x[np.ix_([5, 14, 15, 31], [8, 22, 30, 37])] = rng.choice([-1, 1], (4, 4)) * rng.uniform(
    1, 2, (4, 4)
)
clean = factors[0] @ x @ factors[1].T
noise_scale = 0.1 * clean.std()
y = clean + noise_scale * rng.normal(size=clean.shape)

model = KroneckerSBL().fit(factors, y)
plain = SparseBayesianLearning().fit(KroneckerOperator(factors).to_dense(), y.ravel())
estimates = {
    "KroneckerSBL": model.coef_,
    "KroneckerOMP": KroneckerOMP(4).fit(factors, y).coef_,
    "SparseBayesianLearning": plain.coef_.reshape(x.shape),
}
fig, axes = plt.subplots(1, 4, figsize=(10, 3), layout="constrained", sharey=True)
for ax, (name, found) in zip(axes, {"truth": x, **estimates}.items(), strict=True):
    ax.imshow(np.abs(found), cmap="magma_r", vmin=0, vmax=2)
    error = "" if name == "truth" else f"\nsquared error {nmse(found, x):.2g}"
    ax.set_title(name + error, fontsize=9)
plt.show()

# %%
# The product of supports leaves eighty variances to find instead of 1600; that is why 144
# measurements are enough. `KroneckerOMP` was told how many rows and columns there are, the Bayesian
# estimator found out, and its posterior says how far to trust each coefficient:
active = np.ix_(*model.supports_)
deviations = (model.coef_ - x)[active] / np.sqrt(model.posterior_var_[active])
print(f"rows and columns left: {[len(S) for S in model.supports_]}")
print(f"noise: learned {model.noise_var_**0.5:.2f}, true {noise_scale:.2f}")
print(f"deviations in posterior standard deviations: {np.sqrt((deviations**2).mean()):.2f}")
