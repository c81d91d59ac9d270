"""Bandit problems with known values, and one run of a policy on them."""

import time
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import qmc
from sklearn.datasets import fetch_california_housing, load_diabetes
from sklearn.gaussian_process.kernels import RBF

from sparseprob.datasets import make_rkhs_bandit
from sparseprob.datasets.test_functions import Hartmann6


@dataclass(frozen=True)
class Problem:
    """Candidates, their values, the kernel, noise, and how many evaluations are made."""

    name: str
    X: np.ndarray
    f: np.ndarray
    kernel: RBF
    noise_std: float
    n_evals: int
    fnorm: float = 1.0
    start: tuple = (0, 1)
    lam: float | None = None

    def noise(self, seed):
        """Noise of every evaluation, the same for every policy; initial ones come first."""
        rng = np.random.default_rng(seed)
        return self.noise_std * rng.normal(size=len(self.start) + self.n_evals)

    def options(self, seed):
        """Parameters that every policy gets."""
        return {
            "noise_variance": self.noise_std**2, "lam": self.lam, "fnorm": self.fnorm,
            "delta": 1 / self.n_evals, "max_evals": len(self.start) + self.n_evals,
            "initial": list(self.start), "n_initial": len(self.start), "random_state": seed,
        }  # fmt: skip

    def relative(self, picks):
        """Regret over that of uniform choice."""
        gaps = self.f.max() - self.f
        return float(gaps[picks].mean() / gaps.mean())

    def shorter(self, n_evals):
        """The same with fewer evaluations."""
        return replace(self, n_evals=min(n_evals, self.n_evals))


def rkhs(n_candidates, n_evals, name="P1"):
    """A function of unit norm in the space of an RBF kernel, on points of the unit square."""
    drawn = make_rkhs_bandit(n_candidates, 2, length_scale=0.2, random_state=0)
    return Problem(name, drawn.X, drawn.f, RBF(0.2), 0.05, n_evals)


def hartmann(n_candidates, n_evals):
    """Hartmann's function of six variables, to be maximized, on Sobol points."""
    X = qmc.Sobol(6, seed=0).random(n_candidates)
    return Problem("Hartmann-6", X, -Hartmann6().unit_cube(X), RBF(0.5), 0.1, n_evals)


def table(n_evals, n_candidates=None):
    """A table whose target is the reward: California housing if it is there, else diabetes.

    Features are standardized, targets go from 0 to 1, the lengthscale is the median distance. The
    ridge is far above the noise: it stands for what no smooth function explains of the targets.
    """
    try:
        data, name = fetch_california_housing(download_if_missing=False), "California housing"
    except OSError:
        data, name = load_diabetes(), "diabetes"
    X, y = data.data, data.target
    rows = np.random.default_rng(0).permutation(len(X))[:n_candidates]
    X, y = X[rows], y[rows]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    some = X[:500]
    median = float(np.median(np.sqrt(((some[:, None] - some) ** 2).sum(axis=2))))
    f = (y - y.min()) / (y.max() - y.min())
    return Problem(name, np.ascontiguousarray(X), f, RBF(median), 0.01, n_evals, lam=0.1)


@dataclass
class Run:
    """What a policy did: its picks without the initial ones, batches, and processor time."""

    picks: np.ndarray
    sizes: np.ndarray
    seconds: float
    wall: float
    policy: object = None


def play(policy, problem, seed=0):
    """Let a policy of ours make its evaluations; the time is that of the policy alone."""
    noise, n_start = problem.noise(seed), len(problem.start)
    n_evals = n_start + problem.n_evals
    began, clock = time.process_time(), time.perf_counter()
    policy.initialize(problem.X)
    while policy.n_evals_ < n_evals:
        batch = policy.ask(n_evals - policy.n_evals_)
        policy.tell(batch, problem.f[batch.indices] + noise[batch.ids])
    seconds, wall = time.process_time() - began, time.perf_counter() - clock
    picks = policy.history_["index"][n_start:]
    return Run(picks, np.asarray(policy.batch_sizes_), seconds, wall, policy)
