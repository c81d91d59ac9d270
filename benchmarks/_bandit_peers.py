"""Peers of the bandit benchmarks: the authors' code where a checkout is given, scikit-learn."""

import sys
import time

import numpy as np
from _bandit_problems import Run
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import PairwiseKernel


class Authors:
    """The code of the authors of BKB and BBKB, a checkout of luigicarratino/batch-bkb.

    Kernels are evaluated by the faster of the two ways that it offers.
    """

    def __init__(self, folder):
        sys.path.insert(0, str(folder))
        try:
            import bkb_lib
            import utils
        finally:
            sys.path.remove(str(folder))
        self.lib, self.utils = bkb_lib, utils

    def play(self, rule, problem, seed=0):
        """Run "bkb", "global" or "global-local", the last two with a threshold: (rule, C)."""
        name, threshold = rule
        kinds = {"bkb": self.lib.BKB, "global": self.lib.Batch_BKB,
                 "global-local": self.lib.Local_Batch_BKB}  # fmt: skip
        gamma = 0.5 / problem.kernel.length_scale**2
        dot = self.utils.FastMixinKernel(problem.kernel, PairwiseKernel(metric="rbf", gamma=gamma))
        variance = problem.noise_std**2
        options = {} if name == "bkb" else {"ratio_threshold": threshold}
        policy = kinds[name](
            lam=variance, dot=dot, fnorm=problem.fnorm, noise_variance=variance,
            delta=1 / problem.n_evals, qbar=2, **options,
        )  # fmt: skip
        return _played_by_authors(policy, problem, seed)


def _played_by_authors(policy, problem, seed):
    noise, start = problem.noise(seed), list(problem.start)
    draws = np.random.RandomState(seed)  # noqa: NPY002, their code draws with rand
    picks: list[int] = []
    sizes = []
    began, clock = time.process_time(), time.perf_counter()
    policy.initialize(problem.X, start, problem.f[start] + noise[: len(start)])
    while len(picks) < problem.n_evals:
        batch = list(policy.predict()[0])[: problem.n_evals - len(picks)]
        first = len(start) + len(picks)
        policy.update(batch, problem.f[batch] + noise[first : first + len(batch)], draws)
        picks += batch
        sizes.append(len(batch))
    seconds, wall = time.process_time() - began, time.perf_counter() - clock
    return Run(np.array(picks), np.array(sizes), seconds, wall, policy)


def scikit_learn(problem, seed=0):
    """Exact GP-UCB with the posterior of scikit-learn, and the width of ours."""
    noise, lam = problem.noise(seed), problem.noise_std**2
    indices, y = list(problem.start), []
    process = GaussianProcessRegressor(problem.kernel, alpha=lam, optimizer=None)
    began, clock = time.process_time(), time.perf_counter()
    y = list(problem.f[indices] + noise[: len(indices)])
    gain = float(np.linalg.slogdet(np.eye(len(y)) + problem.kernel(problem.X[indices]) / lam)[1])
    for t in range(len(indices), len(indices) + problem.n_evals):
        process.fit(problem.X[indices], y)
        mean, std = process.predict(problem.X, return_std=True)
        width = np.sqrt(lam) * problem.fnorm + np.sqrt(lam * (gain + np.log(problem.n_evals)))
        pick = int(np.argmax(mean + width * std / np.sqrt(lam)))
        gain += float(np.log1p(std[pick] ** 2 / lam))
        indices.append(pick)
        y.append(problem.f[pick] + noise[t])
    seconds, wall = time.process_time() - began, time.perf_counter() - clock
    picks = np.array(indices[len(problem.start) :])
    return Run(picks, np.ones(len(picks), dtype=int), seconds, wall)
