"""Claims about batched Gaussian-process bandits: regret, rounds of feedback, time, memory.

``python benchmarks/bandits.py --authors DIR`` prints a table and writes its JSON; DIR is a checkout
of luigicarratino/batch-bkb, whose lines are left out without it. Every policy gets the same
candidates, noise, initial evaluations and kernel. Where implementations are compared, seconds are
those of the processor on one thread; a function costs nothing, so they are those of the policy.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import _bandit_problems as problems
import numpy as np
from _bandit_peers import Authors, scikit_learn
from _bandit_problems import play
from _report import ROOT, Threads, print_table, row, write_json

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

RULES = {  # published rule, threshold: accepted relative regret on P1
    ("global", 1.1): 0.165, ("global", 2.0): 0.26, ("global-local", 2.0): 0.32,
}  # fmt: skip
SMALL = {  # relative regret of the authors' code on P1-small, one seed, and a tenth more
    ("bkb", 0): 0.37, ("global", 1.1): 0.33, ("global", 2.0): 0.475, ("global-local", 2.0): 0.57,
}  # fmt: skip
PUBLISHED_ORDER = [  # of regrets on California housing at 2000 evaluations
    ("BBKB", "GPTS"), ("BBKB global-local", "GPTS"), ("GPUCB", "GPTS"), ("GPTS", "GPBUCB"),
]  # fmt: skip


class Measured:
    """Rows of the table, and a point for every run, for pages and pictures."""

    def __init__(self):
        self.points = []

    def add(self, problem, method, runs):
        """Keep the runs of a method; return the means of regret and seconds."""
        point = {
            "problem": problem.name, "n_candidates": len(problem.X), "n_evals": problem.n_evals,
            "method": method, "n_seeds": len(runs),
            "regret": float(np.mean([problem.relative(run.picks) for run in runs])),
            "spread": float(np.ptp([problem.relative(run.picks) for run in runs])),
            "batches": float(np.mean([len(run.sizes) for run in runs])),
            "largest_batch": int(max(run.sizes.max() for run in runs)),
            "seconds": float(np.mean([run.seconds for run in runs])),
        }  # fmt: skip
        self.points.append(point)
        return point


def bbkb(problem, seed, rule, threshold, second=None, **more):
    """The policy with the published rule (`second` None) or two thresholds."""
    options = {"ratio_threshold": threshold, "resparsify_threshold": second, "batching": rule}
    return BBKB(problem.kernel, **options, **problem.options(seed), **more)


def ours(problem, seed, rule, threshold):
    """Run the published algorithm of that name."""
    if rule == "bkb":
        return play(BKB(problem.kernel, **problem.options(seed)), problem, seed)
    return play(bbkb(problem, seed, rule, threshold), problem, seed)


def described(rule, threshold):
    """Return the name of a rule for the table."""
    return "BKB" if rule == "bkb" else f"BBKB {rule} C={threshold:g}"


def small(measured, options):
    """P1-small: the published algorithms, beside the authors' code on the same noise."""
    problem = problems.rkhs(*((300, 60) if options.quick else (1000, 500)), "P1-small")
    for (rule, threshold), accepted in SMALL.items():
        what = described(rule, threshold)
        mine = measured.add(
            problem, what, [ours(problem, s, rule, threshold) for s in range(options.seeds)]
        )
        yield row(f"P1-small, {what}: regret over that of chance", mine["regret"], accepted,
                  note=_note(mine))  # fmt: skip
        if options.authors:
            runs = [options.authors.play((rule, threshold), problem, s) for s in range(2)]
            yield from _beside(measured.add(problem, f"authors, {what}", runs), mine, what)


def published(measured, options):
    """P1: the published rule and ours with a second threshold, beside the authors' code."""
    problem = problems.rkhs(*((400, 80) if options.quick else (5000, 2000)))
    for (rule, threshold), accepted in RULES.items():
        what = described(rule, threshold)
        runs = [ours(problem, s, rule, threshold) for s in range(options.seeds)]
        mine = measured.add(problem, what, runs)
        yield row(f"P1, {what}: regret over that of chance", mine["regret"], accepted,
                  note=_note(mine))  # fmt: skip
        if rule == "global" and threshold == 2:
            yield row("P1, BBKB global C=2: most batches", max(len(r.sizes) for r in runs), 259)
            yield from growth(problem, runs)
        faster = [play(bbkb(problem, s, rule, threshold, 4.0), problem, s)
                  for s in range(options.seeds)]  # fmt: skip
        second = measured.add(problem, f"{what}, dictionary 4", faster)
        yield row(f"P1, {what}, dictionary redrawn at 4: regret over that of chance",
                  second["regret"], accepted, note=_note(second))  # fmt: skip
        if options.authors:
            theirs = [options.authors.play((rule, threshold), problem, s) for s in range(2)]
            theirs = measured.add(problem, f"authors, {what}", theirs)
            yield from _beside(theirs, mine, what, "P1")
            ratio = theirs["seconds"] / second["seconds"]
            yield row(f"P1, {what}: time of the authors' code over ours, dictionary redrawn at 4",
                      ratio, 15 if threshold == 1.1 else None, at_least=True,
                      note=f"{theirs['seconds']:.2f} s beside {second['seconds']:.2f} s; regret "
                      f"{theirs['regret']:.3f} beside {second['regret']:.3f}")  # fmt: skip


def _note(point):
    return (
        f"{point['batches']:.0f} batches up to {point['largest_batch']}, "
        f"{point['seconds']:.2f} s, {point['n_seeds']} seeds within {point['spread']:.3f}"
    )


def _beside(theirs, mine, what, where="P1-small"):
    yield row(f"{where}, {what}: regret over that of the authors' code",
              mine["regret"] / theirs["regret"], 1.1, note=_note(theirs))  # fmt: skip
    yield row(f"{where}, {what}: time of the authors' code over ours",
              theirs["seconds"] / mine["seconds"],
              note=f"{theirs['seconds']:.2f} s beside {mine['seconds']:.2f} s")  # fmt: skip


def growth(problem, runs):
    """P4: batches start at one and grow; the last ones pick among the best candidates."""
    early = max(int(run.sizes[19:30].max(initial=0)) for run in runs)
    late = min(float(run.sizes[-11:-1].mean()) for run in runs)
    best = problem.f >= np.quantile(problem.f, 0.95)
    share = min(float(best[run.picks[-int(run.sizes[-11:].sum()) :]].mean()) for run in runs)
    yield row("P4, C=2: largest of batches 20 to 30", early, 1)
    yield row("P4, C=2: mean size of the last ten full batches", late, 30, at_least=True)
    yield row(
        "P4, C=2: share of the last batches' picks in the best 5 %", share, 0.5, at_least=True
    )


def defaults(measured, options):
    """P1 with the default thresholds, on all threads."""
    problem = problems.rkhs(*((400, 80) if options.quick else (5000, 2000)))
    with Threads(2):
        runs = [play(BBKB(problem.kernel, **problem.options(s)), problem, s)
                for s in range(options.seeds)]  # fmt: skip
    point = measured.add(problem, "BBKB, defaults", runs)
    yield row("P1, BBKB by default: regret over that of chance", point["regret"], 0.22,
              note=_note(point))  # fmt: skip
    yield row("P1, BBKB by default: longest run on two threads", max(r.wall for r in runs), 8,
              unit="s")  # fmt: skip


def every_policy(problem, seed):
    """Return every policy of the package for a problem, by name."""
    kernel, options = problem.kernel, problem.options(seed)
    return {
        "GPUCB": GPUCB(kernel, **options),
        "GPBUCB, batches of 10": GPBUCB(kernel, batch_size=10, inflate=False, **options),
        "GP-AUCB": GPBUCB(kernel, batch_size=None, info_threshold=np.log(2), **options),
        "GPTS, one after the other": GPTS(kernel, batch_size=1, **options),
        "GPTS, batches of 10": GPTS(kernel, batch_size=10, **options),
        "MiniGPUCB": MiniGPUCB(kernel, **options),
        "MiniGPEI": MiniGPEI(kernel, **options),
        "BPE": BPE(kernel, **options),
        "BKB": BKB(kernel, **options),
        "BBKB, defaults": BBKB(kernel, **options),
        "BBKB, C=1.1": BBKB(kernel, ratio_threshold=1.1, **options),
        "EpsilonGreedy": EpsilonGreedy(kernel, **options),
        "RandomPolicy": RandomPolicy(kernel, batch_size=10, **options),
    }


def policies(measured, options):
    """Every policy on P1-small; exact GP-UCB with scikit-learn's posterior as the floor."""
    problem = problems.rkhs(*((300, 40) if options.quick else (1000, 500)), "P1-small")
    n_seeds = 1 if options.quick else 3
    found = {}
    for name in every_policy(problem, 0):
        runs = [play(every_policy(problem, s)[name], problem, s) for s in range(n_seeds)]
        found[name] = runs[0]
        point = measured.add(problem, name, runs)
        yield row(f"all policies, P1-small, {name}: regret over that of chance", point["regret"],
                  note=_note(point))  # fmt: skip
    theirs = scikit_learn(problem.shorter(200))
    mine = play(GPUCB(problem.kernel, **problem.options(0) | {"delta": 1 / theirs.picks.size}),
                problem.shorter(200))  # fmt: skip
    differ = int((mine.picks != theirs.picks).sum())
    yield row(
        "P1-small, GPUCB: picks that differ from those by scikit-learn's posterior", differ, 0
    )
    yield row("P1-small, GPUCB: time by scikit-learn's posterior over ours, 200 evaluations",
              theirs.seconds / mine.seconds,
              note=f"{theirs.seconds:.2f} s beside {mine.seconds:.3f} s")  # fmt: skip


def regimes(measured, options):
    """Where most picks are new candidates, and where they are not: BBKB against GPUCB."""
    sizes = ((256, 40), (300, 60)) if options.quick else ((4096, 600), (5000, 2000))
    for problem in (problems.hartmann(*sizes[0]), problems.rkhs(*sizes[1])):
        for scale in (1.0, 0.1, 0.03):
            for name, policy in (("BBKB", BBKB), ("BBKB, published", BBKB), ("GPUCB", GPUCB)):
                more = {"resparsify_threshold": None} if "published" in name else {}
                given = policy(problem.kernel, beta_scale=scale, **more, **problem.options(0))
                run = play(given, problem)
                point = measured.add(problem, f"{name}, beta_scale {scale:g}", [run])
                yield row(f"{problem.name}, {name}, beta_scale {scale:g}: "
                          "regret over that of chance", point["regret"],
                          note=_note(point))  # fmt: skip


def table(measured, options):
    """The rows of a table as candidates, its target as their values: ordering of the methods."""
    problem = problems.table(60 if options.quick else 10_000)
    if problem.name == "diabetes":
        problem = problem.shorter(400)
    first = problem.shorter(2000)
    kernel, given, found = problem.kernel, first.options(0), {}
    methods = {
        "BBKB": BBKB(kernel, **given),
        "BBKB global-local": BBKB(kernel, batching="global-local", **given),
        "GPUCB": GPUCB(kernel, **given),
        "GPTS": GPTS(kernel, batch_size=10, beta="posterior", **given),
        "GPBUCB": GPBUCB(kernel, batch_size=10, **given),
        "EpsilonGreedy": EpsilonGreedy(kernel, **given),
    }
    for name, policy in methods.items():
        point = measured.add(first, name, [play(policy, first)])
        found[name] = point["regret"]
        what = f"{problem.name}, {name}, {first.n_evals} evaluations"
        yield row(f"{what}: regret over that of chance", point["regret"], note=_note(point))
    swapped = [f"{a}, {b}" for a, b in PUBLISHED_ORDER if found[a] > found[b]]
    yield row(f"{problem.name}: pairs of methods in another order than published", len(swapped), 0,
              note="; ".join(swapped))  # fmt: skip
    if problem.name == "diabetes":
        return
    for rule in ("global", "global-local"):
        policy = BBKB(kernel, batching=rule, **problem.options(0))
        point = measured.add(problem, f"BBKB {rule}", [play(policy, problem)])
        what = f"{problem.name}, BBKB {rule}, {problem.n_evals} evaluations"
        yield row(f"{what}: regret over that of chance", point["regret"], 0.2, note=_note(point))


def _long_run(n_candidates, n_evals, thresholds, storage):
    command = [sys.executable, ROOT / "benchmarks/_bandit_million.py", n_candidates, n_evals,
               *thresholds, storage]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def large(measured, options):
    """P3: a hundred thousand candidates."""
    n_candidates, n_evals = (2000, 60) if options.quick else (100_000, 3000)
    found = _long_run(n_candidates, n_evals, (1.5, 4.0), "auto")
    what = f"P3, A={n_candidates}, T={n_evals}"
    note = f"{found['batches']} batches, {found['builds']} dictionaries, m up to {found['m']}"
    yield row(f"{what}: regret over that of chance", found["regret"], 0.16, note=note)
    yield row(f"{what}: wall time, two threads", found["seconds"], 45, unit="s")
    yield row(f"{what}: peak memory", found["bytes"] / 1e9, 1.5, unit="GB")


def million(measured, options):
    """A million candidates, ten thousand evaluations, rows of the embedding not stored."""
    n_candidates, n_evals = (3000, 100) if options.quick else (1_000_000, 10_000)
    found = _long_run(n_candidates, n_evals, (1.5, 4.0), "stream")
    what = f"A={n_candidates}, T={n_evals}, streamed"
    note = (f"{found['batches']} batches, {found['builds']} dictionaries, m up to {found['m']}, "
            f"regret over that of chance {found['regret']:.3f}")  # fmt: skip
    yield row(f"{what}: wall time, two threads", found["seconds"] / 60, 20, unit="min", note=note)
    yield row(f"{what}: peak memory", found["bytes"] / 1e9, 2, unit="GB")
    tenths = found["tenths"]
    yield row(f"{what}: time of the last tenth over that of the second", tenths[9] / tenths[1], 2,
              note="seconds of each tenth: " + " ".join(f"{t:.1f}" for t in tenths))  # fmt: skip


CLAIMS = {
    "small": small, "published": published, "defaults": defaults, "policies": policies,
    "regimes": regimes, "table": table, "large": large, "million": million,
}  # fmt: skip


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(CLAIMS), help="some of: %(default)s")
    parser.add_argument("--authors", type=Authors, help="a checkout of luigicarratino/batch-bkb")
    parser.add_argument("--quick", action="store_true", help="small sizes: a test")
    output = ROOT / "benchmarks/results/bandits.json"
    parser.add_argument("--output", type=Path, default=output)
    options = parser.parse_args()
    options.seeds = 1 if options.quick else 5
    measured, rows = Measured(), []
    with Threads(1):
        compiled = problems.rkhs(200, 20)
        for policy in every_policy(compiled, 0).values():
            play(policy, compiled)
        for name in options.only.split(","):
            for line in CLAIMS[name](measured, options):
                print(line["what"], line["measured"], line["note"], flush=True)
                rows.append(line)
    print_table(rows, "Gaussian-process bandits")
    write_json(options.output, rows, points=measured.points)


if __name__ == "__main__":
    main()
