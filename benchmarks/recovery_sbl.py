"""Claims about sparse Bayesian learning, measured: time, error beside scikit-learn, evidence.

``python benchmarks/recovery_sbl.py`` prints a table and writes its JSON. One thread throughout.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from _report import ROOT, Threads, print_table, row, write_json
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import ARDRegression

from sparseprob.recovery import SparseBayesianLearning

NOISES = (0.1, 0.01)  # length of the noise over that of A x


def planted(sizes, noise, seed=0, dtype=np.float64):
    """Gaussian A, standard normal coefficients at random places, y; and the oracle's error."""
    n_rows, n_columns, n_active = sizes
    rng = np.random.default_rng(seed)
    A, x = rng.normal(size=(n_rows, n_columns)), np.zeros(n_columns)
    support = rng.choice(n_columns, n_active, replace=False)
    x[support] = rng.normal(size=n_active)
    y, e = A @ x, rng.normal(size=n_rows)
    y += noise * np.linalg.norm(y) / np.linalg.norm(e) * e
    known = np.zeros(n_columns)
    known[support] = np.linalg.lstsq(A[:, support], y, rcond=None)[0]
    return A.astype(dtype), y.astype(dtype), x, relative_error(known, x)


def relative_error(estimate, x):
    """Return the length of the error over that of x."""
    return float(np.linalg.norm(estimate - x) / np.linalg.norm(x))


def timed(model, A, y):
    """Return the fitted model and its seconds."""
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(A, y)
    return model, time.perf_counter() - began


def large(options):
    """The large problem: "fast" in two seconds, EM beside it, noise learned by both."""
    size = "M={}, N={}, S={}".format(*options.large)
    for noise in NOISES:
        A, y, x, oracle = planted(options.large, noise)
        fast, seconds = timed(SparseBayesianLearning("fast"), A, y)
        error = relative_error(fast.coef_, x)
        what = f"SBL {size}, noise {noise:g}"
        note = f"{fast.n_iter_} sweeps, {len(fast.support_)} columns"
        yield row(f"{what}: fast, seconds", seconds, 2, unit="s", note=note)
        note = f"least squares on the true support: {oracle:.2g}"
        yield row(f"{what}: fast, error over that of the true support", error / oracle, 2,
                  note=note)  # fmt: skip
        em, em_seconds = timed(SparseBayesianLearning("em", max_iter=500), A, y)
        note = f"{em.n_iter_} iterations of {em_seconds / em.n_iter_:.2g} s on average"
        yield row(f"{what}: EM, seconds over fast", em_seconds / seconds, note=note)
        note = f"{len(em.support_)} columns"
        yield row(f"{what}: EM, relative error", relative_error(em.coef_, x), note=note)
        gap = (fast.log_evidence_[-1] - em.log_evidence_[-1]) / len(y)
        yield row(f"{what}: log evidence of fast above EM, per measurement", gap)
    A, y, x, oracle = planted(options.large, NOISES[0], dtype=np.float32)
    fast, seconds = timed(SparseBayesianLearning("fast"), A, y)
    note = f"error over that of the true support {relative_error(fast.coef_, x) / oracle:.2f}"
    yield row(f"SBL {size}, noise {NOISES[0]:g}: fast in float32, seconds", seconds, 2, unit="s",
              note=note)  # fmt: skip


def iteration(options):
    """An EM iteration over the two products it contains, all columns active."""
    A, y, *_ = planted(options.large, NOISES[0])
    steps = 2 if options.quick else 5
    seconds = []
    for max_iter in (1, 1 + steps):
        model = SparseBayesianLearning("em", max_iter=max_iter, tol=0, prune=0)
        seconds.append(min(timed(model, A, y)[1] for _ in range(3)))
    each = (seconds[1] - seconds[0]) / steps
    flops = 2 * A.shape[0] ** 2 * A.shape[1]  # a symmetric product and a triangular solve
    began = time.perf_counter()
    for _ in range(3):
        A @ A.T  # symmetric: half the work of a general product
        A.T @ A[:, : A.shape[0]]
    whole = (time.perf_counter() - began) / 3
    peak = 3 * A.shape[0] ** 2 * A.shape[1] / whole
    note = f"{flops / each / 1e9:.0f} of {peak / 1e9:.0f} Gflop/s of matrix products"
    yield row("SBL: an EM iteration, all columns active, seconds", each, 0.43, unit="s", note=note)


def beside_scikit_learn(options):
    """ARDRegression on the same data: time and error, medians over problems."""
    size = "M={}, N={}, S={}".format(*options.small)
    models = {
        "ARDRegression": lambda: ARDRegression(fit_intercept=False),
        "EM": SparseBayesianLearning,
        "fast": lambda: SparseBayesianLearning("fast"),
    }
    for noise in NOISES:
        found = {name: [] for name in models}
        for seed in range(options.seeds):
            A, y, x, oracle = planted(options.small, noise, seed)
            for name, make in models.items():
                model, seconds = timed(make(), A, y)
                found[name].append((seconds, relative_error(model.coef_, x) / oracle))
        medians = {name: np.median(values, axis=0) for name, values in found.items()}
        for name, (seconds, error) in medians.items():
            target = 1.5 if name == "fast" else None
            what = f"SBL {size}, noise {noise:g}: {name}, error over that of the true support"
            yield row(what, float(error), target, note=f"median, {seconds:.2g} s")
        ratio = medians["ARDRegression"][0] / medians["fast"][0]
        yield row(f"SBL {size}, noise {noise:g}: ARDRegression, seconds over fast", float(ratio), 1,
                  at_least=True)  # fmt: skip


def coverage(options):
    """How often 95 % intervals hold the coefficient they were made for."""
    for update in ("em", "fast"):
        inside, fresh = [], []
        for seed in range(20 * options.seeds):
            A, y, x, _ = planted((60, 150, 8), 0.1, seed)
            model = timed(SparseBayesianLearning(update), A, y)[0]
            S, rng = model.support_, np.random.default_rng(seed)
            inside.extend(abs(model.coef_[S] - x[S]) <= 1.96 * np.sqrt(model.sigma_diag_[S]))
            new = rng.normal(size=(20, 150))
            mean, std = model.predict(new, return_std=True)
            noise = np.sqrt(np.mean((y - A @ x) ** 2))
            fresh.extend(abs(mean - new @ x - noise * rng.normal(size=20)) <= 1.96 * std)
        name = f"SBL M=60, N=150, S=8, noise 0.1, learned: {update}"
        yield row(f"{name}, share of coefficients in their 95 % interval", float(np.mean(inside)))
        yield row(f"{name}, share of new measurements in theirs", float(np.mean(fresh)))


CLAIMS = {
    "large": large, "iteration": iteration, "peer": beside_scikit_learn, "coverage": coverage,
}  # fmt: skip


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(CLAIMS), help="some of: %(default)s")
    parser.add_argument("--quick", action="store_true", help="small sizes: a test of this program")
    output = ROOT / "benchmarks/results/recovery_sbl.json"
    parser.add_argument("--output", type=Path, default=output)
    options = parser.parse_args()
    options.large = (60, 200, 6) if options.quick else (500, 5000, 50)
    options.small = (40, 80, 4) if options.quick else (200, 1000, 20)
    options.seeds = 2 if options.quick else 10
    rows = []
    with Threads(1):
        for name in options.only.split(","):
            rows += CLAIMS[name](options)
            print(f"{name} measured", flush=True)
    print_table(rows, "Sparse Bayesian learning on one core")
    write_json(options.output, rows)


if __name__ == "__main__":
    main()
