"""A bandit over a million candidates on one GPU: ten thousand evaluations, and what limits them.

``python gpu/bench_bandits.py``: prints a table and writes its JSON.
"""

import argparse
import sys
import time
from pathlib import Path

import cupy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from _bandit_problems import rkhs
from _report import ROOT, print_table, row, write_json

from sparseprob.bandits import BBKB


def clock():
    """Time when the device has finished."""
    cupy.cuda.Device().synchronize()
    return time.perf_counter()


def fastest(function, repeats=5):
    """Shortest time of some runs, after one not counted."""
    times = []
    for _ in range(repeats + 1):
        began = clock()
        function()
        times.append(clock() - began)
    return min(times[1:])


class Run:
    """Seconds of every part of a run: asking, and telling with and without a new dictionary."""

    def __init__(self, problem, **options):
        self.problem, self.asked = problem, []
        self.builds, self.means = [], []
        noise, X = problem.noise(0), cupy.asarray(problem.X)
        self.policy = BBKB(problem.kernel, **options, **problem.options(0))
        began = clock()
        self.policy.initialize(X)
        while self.policy.n_evals_ < problem.n_evals + 2:
            self._step(noise)
        self.seconds = clock() - began
        history = self.policy.history_
        self.regret, self.m = problem.relative(history["index"][2:]), int(history["m"].max())

    def _step(self, noise):
        began, before = clock(), self.policy.n_dictionary_builds_
        batch = self.policy.ask()
        asked = clock()
        self.policy.tell(batch, self.problem.f[batch.indices] + noise[batch.ids])
        told, m = clock(), int(self.policy.history_["m"][-1])
        self.asked.append((len(batch), asked - began, m))
        built = self.policy.n_dictionary_builds_ > before
        (self.builds if built else self.means).append((told - asked, m))


def measure_run(problem):
    """The whole run, the pick against reading the embedding once, a build against its product."""
    Run(rkhs(2000, 100))  # compiles
    run = Run(problem)
    A, m, policy = len(problem.X), run.m, run.policy
    what = f"A={A:.0e}, T={problem.n_evals}"
    note = (f"{policy.n_batches_} batches, {policy.n_dictionary_builds_} dictionaries, "
            f"m up to {m}, regret over that of chance {run.regret:.3f}")  # fmt: skip
    yield row(f"{what}: wall time", run.seconds, 60, unit="s", note=note)
    shares = [sum(part[-2] for part in parts) for parts in (run.asked, run.builds, run.means)]
    for name, seconds in zip(("picks", "dictionaries", "means alone"), shares, strict=True):
        yield row(f"{what}: time of {name}", seconds, unit="s")
    picks, seconds, late = max(run.asked)
    source, target = cupy.zeros(2**28), cupy.empty(2**28)
    bandwidth = 2 * source.nbytes / fastest(lambda: cupy.copyto(target, source))
    limit = 8 * A * late / bandwidth
    yield row(f"{what}: picks per second, batch of {picks}", picks / seconds,
              note=f"m = {late}; reading the embedding once a pick would allow {1 / limit:.0f} at "
              f"{bandwidth / 1e12:.2f} TB/s")  # fmt: skip
    yield row(f"{what}: time of a pick over reading the embedding once", seconds / picks / limit, 3)
    seconds, late = run.builds[-1]
    W, G = cupy.zeros((min(A, 2**18), late)), cupy.zeros((late, late))
    product = fastest(lambda: W @ G) * A / len(W)
    yield row(f"{what}: time of a dictionary over its product A x m x m", seconds / product,
              note=f"m = {late}, {seconds * 1e3:.1f} ms beside {product * 1e3:.1f} ms")  # fmt: skip


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--output", default=ROOT / "gpu/results/bandits.json")
    options = parser.parse_args()
    sizes = (20_000, 500) if options.quick else (1_000_000, 10_000)
    rows = list(measure_run(rkhs(*sizes)))
    print_table(rows, "Bandits on one GPU")
    write_json(options.output, rows)


if __name__ == "__main__":
    main()
