"""Claims about sparse Bayesian learning with Kronecker structure: error, speed, memory.

``python benchmarks/recovery_kronecker.py`` prints a table and writes its JSON. One thread
throughout. Factors, supports, coefficients and noise are drawn anew in each trial.
"""

import argparse
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
from _memory import anonymous_bytes, watch
from _report import ROOT, Threads, print_table, row, write_json
from sklearn.exceptions import ConvergenceWarning

from sparseprob.linear_operators import KroneckerOperator
from sparseprob.metrics import nmse, support_recovery_rate
from sparseprob.recovery import KroneckerOMP, KroneckerSBL, SparseBayesianLearning

# Medians reported for other draws of the same recipes; a bound is twice such a figure.
SYNTHETIC = {
    5: {"svd": 8.9e-3, "am": 0.12, "one-step": 0.12},
    15: {"svd": 1.2e-3, "am": 9.4e-3, "one-step": 8.7e-3},
    25: {"svd": 1.8e-4, "am": 2.6e-4, "one-step": 2.6e-4},
}
CONVERGENCE = 9.6e-5
SIZES = {32: (0.7, None), 64: (3.4, 4e-4), 96: (12.0, 3e-4)}  # bounds on seconds and error


def planted(shapes, n_active, snr_db, seed, *, product=False, dtype=np.float64):
    """Factors, coefficients on a product of supports, measurements, variance of their noise.

    The coefficients are independent standard normal, or products of such with `product`.
    """
    rng = np.random.default_rng(seed)
    factors = [_normal(rng, shape, dtype) for shape in shapes]
    supports = [np.sort(rng.choice(n, n_active, replace=False)) for _, n in shapes]
    x = np.zeros([n for _, n in shapes], dtype=dtype)
    if product:
        values = [_normal(rng, n_active, dtype) for _ in shapes]
        x[np.ix_(*supports)] = np.einsum("i,j,k->ijk", *values)
    else:
        x[np.ix_(*supports)] = _normal(rng, (n_active,) * len(shapes), dtype)
    clean = (KroneckerOperator(factors) @ x.ravel()).reshape([m for m, _ in shapes])
    noise_var = float((np.abs(clean) ** 2).mean() / 10 ** (snr_db / 10))
    noise = _normal(rng, clean.shape, dtype) * noise_var**0.5
    return factors, x, (clean + noise).astype(dtype), noise_var


def _normal(rng, shape, dtype):
    A = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        A = (A + 1j * rng.normal(size=shape)) / 2**0.5
    return A.astype(dtype)


def fitted(model, X, y, clock=time.perf_counter):
    """Return seconds of a fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        began = clock()
        model.fit(X, y)
    return clock() - began


def trials(method, known, problems):
    """Return errors, support rates, iterations and seconds of a method, one row per problem."""
    found = []
    for factors, x, y, noise_var in problems:
        model = KroneckerSBL(method, noise_var=noise_var if known else None)
        seconds = fitted(model, factors, y)
        rate = support_recovery_rate(model.coef_, x)
        found.append((nmse(model.coef_, x), rate, model.n_iter_, seconds))
    return np.array(found)


def synthetic(options):
    """Medians over trials of the recipe with 3375 unknowns and 1440 measurements."""
    shapes = [(8, 15), (12, 15), (15, 15)]
    for snr, figures in SYNTHETIC.items():
        problems = [planted(shapes, 3, snr, 100 + t, product=True) for t in range(options.trials)]
        for method, figure in figures.items():
            for known in (True, False):
                found = trials(method, known, problems)
                middle, mean = np.median(found, axis=0), found.mean(axis=0)
                noise = "known" if known else "learned"
                yield row(
                    f"synthetic, SNR {snr} dB, {method}, noise {noise}: NMSE, median",
                    float(middle[0]), 2 * figure if known else None,
                    note=f"reported {figure:.2g}; mean {mean[0]:.2g}, supports {mean[1]:.2f}, "
                    f"{middle[2]:.0f} iterations, {middle[3] * 1e3:.0f} ms",
                )  # fmt: skip
        errors = [nmse(KroneckerOMP(3).fit(factors, y).coef_, x) for factors, x, y, _ in problems]
        yield row(f"synthetic, SNR {snr} dB, KroneckerOMP(3): NMSE, median",
                  float(np.median(errors)), note=f"mean {np.mean(errors):.2g}")  # fmt: skip


def convergence(options):
    """The recipe of the convergence study: independent coefficients, 30 dB."""
    shapes = [(14, 15), (12, 15), (15, 15)]
    problems = [planted(shapes, 4, 30, seed) for seed in range(6)]
    for method in ("svd", "am", "one-step"):
        for known in (True, False):
            found = trials(method, known, problems)
            noise = "known" if known else "learned"
            bound = 1.5 * CONVERGENCE if method == "svd" else None
            yield row(f"convergence study, {method}, noise {noise}: NMSE, median",
                      float(np.median(found[:, 0])), bound,
                      note=f"supports {found[:, 1].mean():.2f}")  # fmt: skip


def against_sbl(options):
    """Time and error beside sparse Bayesian learning without structure, 15 dB, noise known.

    Seconds are those of the processor, which other work on the machine does not change much.
    """
    shapes, clock = [(8, 15), (12, 15), (15, 15)], time.process_time
    found: dict[str, list] = {}
    for t in range(options.peers):
        factors, x, y, noise_var = planted(shapes, 3, 15, 100 + t, product=True)
        A = KroneckerOperator(factors).to_dense()
        model = KroneckerSBL(noise_var=noise_var)
        mine = min(fitted(model, factors, y, clock) for _ in range(15))
        for update in ("em", "fast"):
            plain = SparseBayesianLearning(update, noise_var=noise_var)
            theirs = min(fitted(plain, A, y.ravel(), clock) for _ in range(2))
            errors = nmse(model.coef_, x), nmse(plain.coef_.reshape(x.shape), x)
            found.setdefault(update, []).append((theirs / mine, *errors, theirs, mine))
    for update, values in found.items():
        ratio, error, other, theirs, mine = np.median(values, axis=0)
        name = f"SparseBayesianLearning ({update})"
        yield row(f"{name} over KroneckerSBL: time", ratio, 500 if update == "em" else None,
                  at_least=True, note=f"{theirs:.3g} s beside {mine * 1e3:.1f} ms")  # fmt: skip
        yield row(f"KroneckerSBL over {name}: NMSE", error / other, 1.0,
                  note=f"{error:.2g} beside {other:.2g}")  # fmt: skip


def scale(options):
    """Seconds, error and memory up to 884736 unknowns, 20 dB, noise learned."""
    for n, (seconds, error) in SIZES.items():
        if n > options.largest:
            continue
        for dtype in (np.float64, np.complex64):
            factors, x, y, _ = planted([(n // 2, n)] * 3, n // 9, 20, 0, dtype=dtype)
            model = KroneckerSBL()
            took = min(fitted(model, factors, y) for _ in range(3))
            kind = np.dtype(dtype).name
            what = f"{n**3} unknowns, {y.size} measurements, {kind}"
            note = f"{model.n_iter_} iterations, {n // 9} entries of each factor"
            yield row(f"{what}: seconds", took, seconds, unit="s", note=note)
            mine, best = nmse(model.coef_, x), known_supports(factors, x, y)
            yield row(f"{what}: NMSE", mine, error)
            yield row(f"{what}: NMSE over that of least squares with known supports", mine / best,
                      1.2, note=f"which is {best:.2g}")  # fmt: skip
            command = [sys.executable, __file__, "--memory", str(n), "--dtype", kind]
            used = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            yield row(f"{what}: peak memory over the unknowns", int(used) / x.nbytes, 10)


def known_supports(factors, x, y):
    """Return the error of least squares on the true supports."""
    axes = [tuple(a for a in range(x.ndim) if a != k) for k in range(x.ndim)]
    supports = [np.flatnonzero((x != 0).any(axis=others)) for others in axes]
    inverses = [np.linalg.pinv(F[:, S]) for F, S in zip(factors, supports, strict=True)]
    found = KroneckerOperator(inverses) @ y.ravel()
    return nmse(found, x[np.ix_(*supports)].ravel())


def print_memory(n, dtype):
    """Print the anonymous memory that a fit adds at its peak, after a small one."""
    fitted(KroneckerSBL(), *planted([(4, 8)] * 3, 2, 20, 0, dtype=dtype)[::2])
    factors, _, y, _ = planted([(n // 2, n)] * 3, n // 9, 20, 0, dtype=dtype)
    before = anonymous_bytes()
    peak, done = [before], threading.Event()
    watcher = threading.Thread(target=watch, args=(peak, done))
    watcher.start()
    fitted(KroneckerSBL(), factors, y)
    done.set()
    watcher.join()
    print(peak[0] - before)


CLAIMS = {"synthetic": synthetic, "convergence": convergence, "sbl": against_sbl, "scale": scale}


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(CLAIMS), help="some of: %(default)s")
    parser.add_argument("--quick", action="store_true", help="few trials, small sizes: a test")
    parser.add_argument("--memory", type=int, help="only print the memory of a fit of this size")
    parser.add_argument("--dtype", default="float64", help="of that fit")
    output = ROOT / "benchmarks/results/recovery_kronecker.json"
    parser.add_argument("--output", type=Path, default=output)
    options = parser.parse_args()
    with Threads(1):
        if options.memory:
            print_memory(options.memory, options.dtype)
            return
        options.trials, options.peers = (2, 1) if options.quick else (30, 3)
        options.largest = 32 if options.quick else 96
        rows = []
        for name in options.only.split(","):
            rows += CLAIMS[name](options)
            print(f"{name} measured", flush=True)
    print_table(rows, "Kronecker structure on a CPU, one thread")
    write_json(options.output, rows)


if __name__ == "__main__":
    main()
