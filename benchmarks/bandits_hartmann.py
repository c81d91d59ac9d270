"""Claims about optimization in a box: Hartmann's function of six variables beside other libraries.

``python benchmarks/bandits_hartmann.py`` prints a table and writes its JSON. 200 evaluations in ten
batches of 20, the first of them Sobol points, the same for everybody; the simple regret is the
optimum less the largest value without noise among the evaluated points. Seconds are those of the
processor, on one thread, without the function. Peers that are not installed are left out:
``pip install botorch scikit-optimize``; ``--only`` runs some methods and takes the others from the
results that are there. Ours are told the variance of the noise (1e-6 where there is none), which
the peers infer; ``botorch-told`` is told too.
"""

import argparse
import json
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from _report import ROOT, Threads, print_table, row, write_json
from rpca import peer
from scipy.stats import qmc
from sklearn.gaussian_process.kernels import RBF

from sparseprob.bandits import GPBUCB, AdaBKB
from sparseprob.datasets.test_functions import Hartmann6

BATCH, N_EVALS = 20, 200
HARTMANN = Hartmann6()


class Problem:
    """Noisy values of minus Hartmann's function, the points and the clock of one run."""

    def __init__(self, seed, noise):
        self.seed, self.noise, self.noise_variance = seed, noise, max(noise**2, 1e-6)
        self._rng = np.random.default_rng(1000 + seed)
        self.X = np.empty((0, 6))
        self.seconds, self._began = 0.0, time.process_time()
        self.regrets = []

    @property
    def initial(self):
        """The first batch."""
        sampler = qmc.Sobol(6, scramble=True, rng=np.random.default_rng(self.seed))
        return sampler.random(32)[:BATCH]

    def evaluate(self, X):
        """Return values to be maximized; stops the clock meanwhile."""
        self.seconds += time.process_time() - self._began
        self.X = np.vstack([self.X, X])
        values = -HARTMANN(X) + self.noise * self._rng.normal(size=len(X))
        self.regrets.append(float(HARTMANN(self.X).min() - HARTMANN.optimum_value))
        self._began = time.process_time()
        return values


def random_points(problem):
    """Uniform points."""
    rng = np.random.default_rng(problem.seed)
    problem.evaluate(problem.initial)
    while len(problem.X) < N_EVALS:
        problem.evaluate(rng.random((BATCH, 6)))


def asked(policy, problem):
    """Ask a policy for batches until the budget is used up."""
    while len(batch := policy.ask()):
        policy.tell(batch, problem.evaluate(batch.X))


def common(problem, batch=True):
    """Parameters of ours: bounds two posterior deviations wide, the noise as it is."""
    sizes = {"min_batch_size": BATCH, "max_batch_size": BATCH} if batch else {"batch_size": BATCH}
    return {
        "noise_variance": problem.noise_variance, "beta_scale": 2.0, "max_evals": N_EVALS,
        "random_state": problem.seed, **sizes,
    }  # fmt: skip


def cloud(problem):
    """AdaBKB on a moving cloud of candidates, its kernel fitted after every batch."""
    policy = AdaBKB(
        discretization="cloud", optimizer="fmin_l_bfgs_b", beta="posterior",
        initial=problem.initial, **common(problem),
    )  # fmt: skip
    asked(policy.initialize(bounds=HARTMANN.bounds), problem)


def tree(problem):
    """AdaBKB as published, but for batches and width: a tree of cells, the kernel fixed."""
    policy = AdaBKB(
        RBF(0.5), beta="posterior", initial=problem.initial, **common(problem)
    )  # fmt: skip
    asked(policy.initialize(bounds=HARTMANN.bounds), problem)


def sobol(problem):
    """GPBUCB on fixed Sobol points, the kernel fixed."""
    candidates = qmc.Sobol(6, scramble=True, rng=np.random.default_rng(problem.seed)).random(2**14)
    policy = GPBUCB(
        RBF(0.5), beta=np.sqrt(problem.noise_variance), inflate=False,
        initial=np.arange(BATCH), **common(problem, batch=False),
    )  # fmt: skip
    asked(policy.initialize(candidates), problem)


def botorch_told(problem):
    """BoTorch, told the variance of the noise."""
    botorch(problem, told=True)


def botorch(problem, told=False):
    """BoTorch with its defaults: Gaussian process with fitted kernel and noise, qLogEI."""
    import torch
    from botorch.acquisition import qLogExpectedImprovement
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.optim import optimize_acqf
    from gpytorch.mlls import ExactMarginalLogLikelihood

    torch.set_num_threads(1)
    torch.manual_seed(problem.seed)
    y = problem.evaluate(problem.initial)
    while len(problem.X) < N_EVALS:
        values = torch.tensor(y)[:, None]
        variances = torch.full_like(values, problem.noise_variance) if told else None
        model = SingleTaskGP(torch.tensor(problem.X), values, variances)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        # the best posterior mean where values are noisy, the best value where they are not
        means = model.posterior(torch.tensor(problem.X)).mean.detach()
        best = float(means.max()) if problem.noise else float(y.max())
        batch, _ = optimize_acqf(
            qLogExpectedImprovement(model, best_f=best),
            bounds=torch.tensor([[0.0] * 6, [1.0] * 6], dtype=torch.double),
            q=BATCH, num_restarts=10, raw_samples=512,
        )  # fmt: skip
        y = np.append(y, problem.evaluate(batch.numpy()))


def scikit_optimize(problem):
    """scikit-optimize with its defaults: Gaussian process, hedged acquisition, constant liar."""
    from skopt import Optimizer

    optimizer = Optimizer([(0.0, 1.0)] * 6, "GP", n_initial_points=1, random_state=problem.seed)
    optimizer.tell(problem.initial.tolist(), (-problem.evaluate(problem.initial)).tolist())
    while len(problem.X) < N_EVALS:
        batch = optimizer.ask(BATCH)
        optimizer.tell(batch, (-problem.evaluate(np.array(batch))).tolist())


METHODS = {
    "random": random_points,
    "cloud": cloud,
    "tree": tree,
    "sobol": sobol,
    "botorch": botorch,
    "botorch-told": botorch_told,
    "skopt": scikit_optimize,
}
PACKAGES = {"botorch": "botorch", "scikit-optimize": "skopt"}
PEERS = {"botorch": "botorch", "botorch-told": "botorch", "skopt": "skopt"}


def measured(name, seeds, noise):
    """Run a method with some seeds; return regrets after each batch and seconds."""
    runs = []
    for seed in range(seeds):
        problem = Problem(seed, noise)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            METHODS[name](problem)
        problem.seconds += time.process_time() - problem._began
        runs.append({"seed": seed, "regrets": problem.regrets, "seconds": problem.seconds})
        print(f"{name}, noise {noise}, seed {seed}: regret {problem.regrets[-1]:.4g}, "
              f"{problem.seconds:.1f} s", flush=True)  # fmt: skip
    return runs


def median(runs, what):
    """Median over the seeds of the last regret or of the seconds."""
    return float(np.median([run[what][-1] if what == "regrets" else run[what] for run in runs]))


def table(runs):
    """Rows of the table from the runs of all methods, by noise."""
    for noise, methods in runs.items():
        for name in (name for name in METHODS if name in methods):
            found = methods[name]
            regrets = [run["regrets"][-1] for run in found]
            note = (
                f"{min(regrets):.2g} to {max(regrets):.2g} over {len(found)} seeds, "
                f"{median(found, 'seconds'):.3g} s"
            )
            yield row(f"noise {noise}: median simple regret of {name}", median(found, "regrets"),
                      note=note)  # fmt: skip
        for name in (name for name in PEERS if name in methods and "cloud" in methods):
            ours, theirs = methods["cloud"], methods[name]
            bound = name == "botorch"
            yield row(
                f"noise {noise}: regret of cloud over that of {name}",
                median(ours, "regrets") / median(theirs, "regrets"), 2 if bound else None,
            )  # fmt: skip
            yield row(
                f"noise {noise}: time of cloud over that of {name}",
                median(ours, "seconds") / median(theirs, "seconds"), 0.05 if bound else None,
            )  # fmt: skip


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(METHODS), help="some of: %(default)s")
    parser.add_argument("--noise", default="0,0.1", help="standard deviations: %(default)s")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one seed, no noise: a test")
    output = ROOT / "benchmarks/results/bandits_hartmann.json"
    parser.add_argument("--output", type=Path, default=output)
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.noise, options.only = 1, "0", "random,cloud,tree,sobol"
    runs = json.loads(options.output.read_text())["runs"] if options.output.exists() else {}
    with Threads(1):
        for noise in options.noise.split(","):
            for name in options.only.split(","):
                if name in PEERS and peer(PEERS[name]) is None:
                    continue
                runs.setdefault(noise, {})[name] = measured(name, options.seeds, float(noise))
    rows = list(table(runs))
    print_table(rows, "Hartmann's function of six variables, ten batches of 20")
    versions = {package: version(package) for package in PACKAGES if peer(PACKAGES[package])}
    write_json(options.output, rows, peers=versions, runs=runs)


if __name__ == "__main__":
    main()
