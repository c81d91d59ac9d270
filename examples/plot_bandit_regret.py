"""
Regret of all policies
======================

The same function, candidates and noise for every policy: a thousand points of the unit square, five
hundred evaluations. You will see the regret relative to choosing at random over evaluations, over
rounds of feedback, and over time, and how the batches of BBKB grow.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.gaussian_process.kernels import RBF

from sparseprob.bandits import (
    BBKB,
    BKB,
    BPE,
    GPBUCB,
    GPTS,
    GPUCB,
    EpsilonGreedy,
    MiniGPEI,
    MiniGPUCB,
    RandomPolicy,
)
from sparseprob.datasets import make_rkhs_bandit
from sparseprob.plotting import RegretDisplay

T = 500
problem = make_rkhs_bandit(1000, 2, length_scale=0.2, random_state=0)
noise = 0.05 * np.random.default_rng(0).normal(size=T + 2)
options = {"noise_variance": 0.05**2, "max_evals": T + 2, "random_state": 0}
kernel = RBF(0.2)
policies = {
    "GPUCB": GPUCB(kernel, **options),
    "GPBUCB, batches of 10": GPBUCB(kernel, batch_size=10, inflate=False, **options),
    "GPTS, batches of 10": GPTS(kernel, batch_size=10, **options),
    "MiniGPUCB": MiniGPUCB(kernel, **options),
    "MiniGPEI": MiniGPEI(kernel, **options),
    "BPE": BPE(kernel, **options),
    "BKB": BKB(kernel, **options),
    "BBKB, C = 1.1": BBKB(kernel, ratio_threshold=1.1, **options),
    "BBKB, C = 1.5": BBKB(kernel, **options),
    "BBKB, C = 2, global-local": BBKB(
        kernel, ratio_threshold=2, batching="global-local", **options
    ),
    "EpsilonGreedy": EpsilonGreedy(kernel, **options),
    "RandomPolicy": RandomPolicy(kernel, batch_size=10, **options),
}


def run(policy, n_evals):
    """Ask and tell until so many evaluations are made."""
    policy.initialize(problem.X)
    while policy.n_evals_ < n_evals:
        batch = policy.ask(n_evals - policy.n_evals_)
        policy.tell(batch, problem.f[batch.indices] + noise[batch.ids])


for policy in policies.values():
    run(policy, 30)  # compiles
    run(policy, T + 2)

# %%
# Regret is the sum of the gaps to the best value, divided by what choosing at random would lose on
# average. The last picture has the sizes of the batches of BBKB over the evaluations made before.

fig, axes = plt.subplots(2, 2, figsize=(10, 7.2), layout="constrained")
axes = axes.ravel()
for ax, against in zip(axes, ("evaluations", "batches", "seconds"), strict=False):
    RegretDisplay.from_policies(policies, problem.f, against=against, ax=ax, n_legend=0)
    ax.set_ylim(0, 1.25)
for ax in axes[1:3]:
    ax.set_xscale("log")
colors = {line.get_label(): line.get_color() for line in axes[0].lines}
for name, policy in policies.items():
    if name.startswith("BBKB"):
        sizes = policy.batch_sizes_
        axes[3].loglog(np.cumsum(sizes) - sizes + 1, sizes, ".", color=colors[name], markersize=5)
axes[3].set(xlabel="evaluations made before", ylabel="batch size")
axes[3].grid(alpha=0.25)
axes[3].spines[["top", "right"]].set_visible(False)
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4,
           fontsize="small", frameon=False)  # fmt: skip
plt.show()

for name, policy in policies.items():
    relative = policy.regret(problem.f, "relative")[-1]
    simple = policy.regret(problem.f, "simple")[-1]
    seconds = policy.history_["wall"][-1]
    print(f"{name:26} {relative:5.3f} of chance, best found {simple:6.4f} below the maximum, "
          f"{policy.n_batches_:3d} batches, {seconds:5.2f} s")  # fmt: skip

# %%
# Over evaluations, the exact policies and BBKB with a small threshold are level. Over rounds of
# feedback, larger thresholds win, and a batch of fixed size wins at this length. On one problem of
# this size, ``EpsilonGreedy`` loses least: the function is smooth and greed finds its hill, which
# nothing promises on the next one. Widths of theory are cautious; ``beta_scale`` below 1 narrows
# them.
