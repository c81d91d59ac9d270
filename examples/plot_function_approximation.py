"""
A function of five variables from 200 samples
=============================================

A smooth function of many variables is close to a short sum of polynomials, but which ones? You will
see the error of a pursuit over 426 Chebyshev polynomials against the number chosen, from 200 noisy
samples. Without a penalty, the pursuit goes on until it fits the noise; with the polynomials'
intrinsic weights in the penalty it stops near the bottom of the curve.
"""

import matplotlib.pyplot as plt
import numpy as np

from sparseprob.polynomials import (
    intrinsic_weights,
    max_order,
    multi_index_set,
    sample_points,
    tensor_design,
)
from sparseprob.recovery import WeightedOMP

d, M = 5, 200
indices = multi_index_set("hyperbolic_cross", d, max_order("hyperbolic_cross", d, 500))
weights = intrinsic_weights("chebyshev", indices)


def function(points):
    """Values at points, one a row."""
    return np.exp(-points.sum(axis=1) / (2 * d))


points = sample_points("chebyshev", M, d, random_state=0)
A = tensor_design("chebyshev", indices, points) / np.sqrt(M)
new_points = sample_points("chebyshev", 10 * len(indices), d, random_state=1)
new_design, truth = tensor_design("chebyshev", indices, new_points), function(new_points)


def error(coef):
    """Relative L2 error, estimated on new points."""
    return np.linalg.norm(new_design @ coef - truth) / np.linalg.norm(truth)


# %%
# Samples carry noise of three sizes. A dot marks where each penalized pursuit stops by itself.

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
for level, alpha in ((1e-3, 1e-4), (1e-2, 1e-3), (1e-1, 3.16e-2)):
    noise = np.random.default_rng(2).normal(size=M)
    y = function(points) / np.sqrt(M) + level * noise / np.linalg.norm(noise)
    free = WeightedOMP("squared", alpha=0.0, max_iter=100).fit(A, y)
    steps = range(1, 101)
    (line,) = ax.semilogy(
        steps, [error(free.path_.coef_at(k)) for k in steps], label=f"noise {level:g}"
    )
    model = WeightedOMP("squared", alpha=alpha, weights=weights).fit(A, y)
    ax.plot(model.n_nonzero_coefs_, error(model.coef_), "o", color=line.get_color())
ax.plot([], [], "o", color="grey", label="weighted, stopped by alpha")
ax.set(xlabel="polynomials chosen", ylabel="relative error")
fig.legend(loc="outside right center")

# %%
# Which polynomials are chosen: few variables at a time, and of low degree. With each degree the
# coefficients fall by about a factor of ten; mixed products have larger ones than pure powers.

model = WeightedOMP("squared", alpha=1e-4, weights=weights).fit(A, function(points) / np.sqrt(M))
fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
n_variables = (indices > 0).sum(axis=1)
for n in range(4):
    chosen = np.flatnonzero((model.coef_ != 0) & (n_variables == n))
    ax.semilogy(
        indices[chosen].sum(axis=1), np.abs(model.coef_[chosen]), "o", alpha=0.6, label=f"{n}"
    )
ax.set(xlabel="total degree", ylabel="modulus of the coefficient", xticks=range(4))
ax.legend(title="variables")
plt.show()
