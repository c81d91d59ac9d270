"""
How a batch is built
====================

A function of one variable is maximized from noisy evaluations that are made in batches. You will
see one batch of BBKB grow: each pick is the candidate with the largest upper confidence bound, and
narrows the bound around it without any value being known, so that the next pick lies elsewhere.
When the picks have taken so much uncertainty away that the bounds may be wrong, the batch ends.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.gaussian_process.kernels import RBF

from sparseprob.bandits import BBKB
from sparseprob.plotting import BatchDisplay

X = np.linspace(0, 1, 400)[:, None]
x = X[:, 0]
f = 0.6 * np.sin(9 * x) + 0.4 * np.cos(23 * x) + 0.5 * x
noise = 0.3 * np.random.default_rng(0).normal(size=2000)

policy = BBKB(
    RBF(0.06), noise_variance=0.09, ratio_threshold=4, resparsify_threshold=None, beta_scale=0.4,
    max_evals=len(noise), random_state=0,
).initialize(X)  # fmt: skip
while policy.n_batches_ < 19:
    batch = policy.ask()
    policy.tell(batch, f[batch.indices] + noise[batch.ids])

# %%
# Batch 20, as it is asked for in parts, and after its values have been told. The band is the
# confidence interval that picks are chosen by, the thin line its upper end when the batch began.
# Triangles are the bounds of the picks when they were chosen, gray points evaluations.

fig, axes = plt.subplots(
    2, 4, figsize=(12, 4.8), sharex=True, sharey="row", height_ratios=(2, 1), layout="constrained"
)
stages = iter(axes.T)
upper = policy.mean_ + policy.beta_ * np.sqrt(policy.leverage_)
batch = []
for n in (1, 4, None):
    batch.append(policy.ask(n))
    n_picks = sum(map(len, batch))
    label = f"{n_picks} pick{'s' * (n_picks > 1)}" + ", batch complete" * (n is None)
    BatchDisplay.from_policy(policy, axes=next(stages), label=label)
for part in batch:
    policy.tell(part, f[part.indices] + noise[part.ids])
BatchDisplay.from_policy(policy, axes=next(stages), label="values told")
for ax in axes[0]:
    ax.plot(x, f, color="black", linestyle=":", linewidth=1)
    ax.plot(x, upper, color="#1f5fa8", linewidth=0.8)
for ax in axes[:, 1:].ravel():
    ax.set_ylabel("")
plt.show()

print("sizes of the batches:", policy.batch_sizes_.tolist())

# %%
# The dotted line is the function. No mean moves while the batch grows, only widths do; the mean
# follows once the values are there. Batches start at one evaluation, when every pick is news, and
# grow as the function becomes known.
