"""A long run over many candidates; a program of its own for its peak memory, started by bandits.py.

Prints JSON: seconds of every tenth of the run, regret, batches, dictionary builds, and the
anonymous memory at its peak, candidates and libraries included.
"""

import json
import sys
import threading
import time

import numpy as np
from _bandit_problems import rkhs
from _memory import anonymous_bytes, watch
from _report import Threads

from sparseprob.bandits import BBKB


def main(n_candidates, n_evals, ratio_threshold, resparsify_threshold, storage):
    """Run, watch, print."""
    problem = rkhs(n_candidates, n_evals, "P3")
    noise = problem.noise(0)
    options = {
        "ratio_threshold": ratio_threshold, "resparsify_threshold": resparsify_threshold,
        "storage": storage,
    }  # fmt: skip
    compile_all(options)
    peak, done = [anonymous_bytes()], threading.Event()
    watcher = threading.Thread(target=watch, args=(peak, done))
    watcher.start()
    policy = BBKB(problem.kernel, **options, **problem.options(0))
    marks, began = [], time.perf_counter()
    policy.initialize(problem.X)
    while policy.n_evals_ < n_evals + 2:
        batch = policy.ask(n_evals + 2 - policy.n_evals_)
        policy.tell(batch, problem.f[batch.indices] + noise[batch.ids])
        marks.append((policy.n_evals_, time.perf_counter() - began))
    done.set()
    watcher.join()
    evals, seconds = np.array([(0, 0.0), *marks]).T
    ends = np.interp(np.linspace(0, n_evals + 2, 11), evals, seconds)
    print(
        json.dumps(
            {
                "seconds": float(seconds[-1]),
                "tenths": np.diff(ends).tolist(),
                "regret": problem.relative(policy.history_["index"][2:]),
                "bytes": peak[0],
                "batches": policy.n_batches_,
                "builds": policy.n_dictionary_builds_,
                "m": int(policy.history_["m"].max()),
            }  # fmt: skip
        )
    )


def compile_all(options):
    """Run on few candidates, so that compiling is not measured."""
    problem = rkhs(500, 30)
    policy = BBKB(problem.kernel, **options, **problem.options(0)).initialize(problem.X)
    while policy.n_evals_ < 32:
        batch = policy.ask()
        policy.tell(batch, problem.f[batch.indices])


if __name__ == "__main__":
    with Threads(2):
        main(
            int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
        )
