"""
An expensive simulation that is interrupted
===========================================

A simulation takes long, fails in a part of its domain, and the machine goes down in the middle of
the run. Batches run in parallel through an executor; the policy is saved after every batch, and a
new process goes on from the file. You will see that the interrupted run takes the very steps of one
that nobody disturbed.
"""

import logging
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.gaussian_process.kernels import RBF

from sparseprob.bandits import BBKB

logging.getLogger("sparseprob").setLevel(logging.ERROR)  # no warning of each failed simulation
candidates = np.random.default_rng(0).random((5000, 2))


def simulate(x):
    """Yield of a reactor at a temperature and a flow, both scaled to [0, 1]."""
    temperature, flow = x
    if temperature > 0.93:
        raise RuntimeError("the solver diverged")
    noise = 0.05 * np.sin(1e5 * np.dot(x, [1.0, np.pi]))  # the same whenever it is run
    ridge = np.exp(-8 * (flow - 0.3 - 0.5 * np.sin(2 * temperature)) ** 2)
    return ridge * np.sin(2.6 * temperature) + noise


class PowerCut(BaseException):
    """What nobody catches."""


def new_policy():
    """Return the policy at its start."""
    policy = BBKB(RBF(0.25), noise_variance=0.0025, beta_scale=0.3, n_initial=20, random_state=0)
    return policy.initialize(candidates)


path = Path(tempfile.mkdtemp()) / "reactor.npz"


def after_each_batch(policy):
    """Save, and lose the machine after 300 evaluations."""
    policy.save(path)
    if len(policy.history_) > 300:
        raise PowerCut


try:
    with ThreadPoolExecutor(4) as executor:
        new_policy().run(simulate, 600, executor=executor, callback=after_each_batch)
except PowerCut:
    pass

policy = BBKB.load(path)  # in another process, the next morning
n_before = len(policy.history_)
with ThreadPoolExecutor(4) as executor:
    policy.run(simulate, 600 - n_before, executor=executor)

undisturbed = new_policy().run(simulate, 600)  # for comparison, one after the other
assert np.array_equal(policy.history_["index"], undisturbed.history_["index"])


# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4), layout="constrained")
left.plot(undisturbed.history_["y"], "o", color="0.8", ms=7, label="undisturbed")
left.plot(policy.history_["y"], ".", ms=4, label="interrupted")
left.axvline(n_before, color="C3", ls="--", label="power cut")
left.set(xlabel="evaluation", ylabel="yield", title="The same steps")
left.legend(loc="lower right")

history = policy.history_
points, after = candidates[history["index"]], history["step"] >= n_before
for chosen, label, style in (
    (~after & ~history["failed"], "before", {"color": "0.6"}),
    (after & ~history["failed"], "after the power cut", {"color": "C0"}),
    (history["failed"], "failed", {"color": "C3", "marker": "x"}),
):
    right.scatter(*points[chosen].T, s=14, label=f"{label}: {chosen.sum()}", **style)
right.set(xlabel="temperature", ylabel="flow", title="Where the simulation was run")
right.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3, columnspacing=0.8)
plt.show()

# %%
# Every blue dot lies on a gray one: the file holds all that the policy knows, random numbers
# included, and parallel workers change nothing. The failed simulations are recorded; a setting that
# fails twice counts as the worst so far, and the policy turns elsewhere. After the power cut
# nearly all runs are near the best yield.
