"""Claims about greedy pursuit on a CPU, measured: speed beside SPAMS, scikit-learn, convex solvers.

``python benchmarks/recovery.py`` prints a table and writes its JSON. The peers are installed with
``pip install spams-bin celer skglm``; what is missing is left out.
"""

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np
from _report import ROOT, Threads, print_table, row, write_json

from sparseprob.recovery import orthogonal_mp

SIZES = (500, 5000, 50, 1000)  # rows, columns, non-zero coefficients, right-hand sides


def problem(sizes, n_targets, dtype=np.float64):
    """Random unit columns, sparse coefficients of one size, and measurements with little noise."""
    n_rows, n_columns, n_nonzero, _ = sizes
    rng = np.random.default_rng(0)
    A = rng.normal(size=(n_rows, n_columns))
    A /= np.linalg.norm(A, axis=0)
    x = np.zeros((n_columns, n_targets))
    for t in range(n_targets):
        support = rng.choice(n_columns, n_nonzero, replace=False)
        x[support, t] = rng.normal(size=n_nonzero)
    noise = rng.normal(size=(n_rows, n_targets))
    y = A @ x + 1e-3 * noise / np.linalg.norm(noise, axis=0)
    return A.astype(dtype), x, y.astype(dtype)


def in_turns(*functions, rounds=5):
    """Shortest seconds of each function, called in turns after one round that is not counted."""
    times = [[] for _ in functions]
    for turn in range(rounds + 1):
        for function, seconds in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            if turn:
                seconds.append(time.perf_counter() - began)
    return [min(seconds) for seconds in times]


def has(package):
    """Whether a peer is installed; says so if not."""
    found = importlib.util.find_spec(package) is not None
    if not found:
        print(f"{package} is not installed: its comparison is left out")
    return found


# ---------------------------------------------------------------- orthogonal matching pursuit
def many(options):
    """Many right-hand sides, the Gram matrix included, two threads."""
    for dtype in (np.float64, np.float32):
        A, _, Y = problem(options.sizes, options.sizes[3], dtype)
        with Threads(2):
            yield from _many(A, Y, options)


def _many(A, Y, options):
    n_nonzero, n_targets, name = options.sizes[2], Y.shape[1], A.dtype.name
    functions = [
        lambda: orthogonal_mp(A, Y, n_nonzero_coefs=n_nonzero, method="gram"),
        lambda: A.T @ A,
    ]
    if has("spams"):
        functions.append(spams_omp(A, Y, n_nonzero, 2))
    ours, gemm, *peer = in_turns(*functions, rounds=options.rounds)
    size = f"M={A.shape[0]}, N={A.shape[1]}, S={n_nonzero}, {n_targets} right-hand sides"
    double = name == "float64"
    what = f"OMP {name}, {size}"
    if peer:
        note = f"{ours:.2f} s beside {peer[0]:.2f} s"
        yield row(f"{what}: times faster than SPAMS", peer[0] / ours, 2 if double else None,
                  at_least=True, note=note)  # fmt: skip
    flops = 2 * A.shape[0] * A.shape[1] ** 2
    limit = gemm + n_targets * A.shape[1] * n_nonzero**2 / (flops / gemm)
    note = f"{ours:.2f} s; Gram {gemm:.2f} s; the rest at the speed of the GEMM"
    yield row(f"{what}: time over Gram and N S²/2 multiply-adds", ours / limit, note=note)
    if double:
        seconds = scikit_learn_seconds(A, Y, n_nonzero) * n_targets
        note = f"scikit-learn {seconds:.0f} s, from ten right-hand sides"
        yield row(f"{what}: times faster than scikit-learn", seconds / ours, 200, at_least=True,
                  note=note)  # fmt: skip


def single(options):
    """One right-hand side."""
    A, x, Y = problem(options.sizes, 1)
    n_nonzero, y = options.sizes[2], np.ascontiguousarray(Y[:, 0])
    functions = [lambda: orthogonal_mp(A, y, n_nonzero_coefs=n_nonzero)]
    if has("spams"):
        functions.append(spams_omp(A, Y, n_nonzero, 2))
    with Threads(2):
        ours, *peer = in_turns(*functions, rounds=4 * options.rounds)
        (product,) = in_turns(lambda: A.T @ y, rounds=20)
    what = f"OMP, M={A.shape[0]}, N={A.shape[1]}, S={n_nonzero}, one right-hand side"
    if peer:
        note = f"{ours * 1e3:.1f} ms beside {peer[0] * 1e3:.1f} ms"
        yield row(f"{what}: times faster than SPAMS", peer[0] / ours, 1.5, at_least=True, note=note)
    yield row(f"{what}: time over S products with the matrix", ours / (n_nonzero * product))
    coef = orthogonal_mp(A, y, n_nonzero_coefs=n_nonzero)
    yield row(f"{what}: relative error", relative_error(coef, x[:, 0]))


def spams_omp(A, Y, n_nonzero, n_threads):
    """Return a call of SPAMS on column-major arrays, which it asks for."""
    import spams

    A, Y = np.asfortranarray(A), np.asfortranarray(Y)
    return lambda: spams.omp(Y, A, L=n_nonzero, numThreads=n_threads)


def scikit_learn_seconds(A, Y, n_nonzero, n_targets=10):
    """Seconds that scikit-learn takes for one right-hand side among several."""
    from sklearn.linear_model import orthogonal_mp as peer

    coef = peer(A, Y[:, :n_targets], n_nonzero_coefs=n_nonzero)
    (seconds,) = in_turns(lambda: peer(A, Y[:, :n_targets], n_nonzero_coefs=n_nonzero), rounds=3)
    ours = orthogonal_mp(A, Y[:, :n_targets], n_nonzero_coefs=n_nonzero)
    if np.abs(ours - coef).max() > 1e-8:
        raise AssertionError("scikit-learn finds other coefficients")
    return seconds / n_targets


def relative_error(coef, x):
    """Distance of coefficients over the length of the true ones."""
    return float(np.linalg.norm(coef - x) / np.linalg.norm(x))


# ---------------------------------------------------------------- convex peers
def convex(options):
    """Seconds and relative error of ℓ¹ solvers on the problem of one right-hand side."""
    A, x, Y = problem(options.sizes, 1)
    y, x = np.ascontiguousarray(Y[:, 0]), x[:, 0]
    largest = np.abs(A.T @ y).max() / len(y)
    solvers = {"sparseprob OMP": lambda: orthogonal_mp(A, y, n_nonzero_coefs=options.sizes[2])}
    if has("celer"):
        from celer import Lasso as Celer

        solvers["celer Lasso"] = lambda: _coef(
            Celer(alpha=largest / 1000, fit_intercept=False), A, y
        )
    if has("skglm"):
        from skglm import Lasso as Skglm

        solvers["skglm Lasso"] = lambda: _coef(
            Skglm(alpha=largest / 1000, fit_intercept=False), A, y
        )
    seconds = in_turns(*solvers.values(), rounds=options.rounds)
    for (name, solve), time_ in zip(solvers.items(), seconds, strict=True):
        yield row(f"one right-hand side, {name}: relative error", relative_error(solve(), x),
                  note=f"{time_ * 1e3:.1f} ms")  # fmt: skip


def _coef(estimator, A, y):
    return estimator.fit(A, y).coef_


CLAIMS = {"many": many, "single": single, "convex": convex}


def main():
    """Measure the chosen claims, print them and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(CLAIMS), help="claims, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the program")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/recovery.json")
    options = parser.parse_args()
    options.sizes = (60, 200, 8, 50) if options.quick else SIZES
    options.rounds = 2 if options.quick else 5
    rows = [line for claim in options.only.split(",") for line in CLAIMS[claim](options)]
    print_table(rows, "Greedy pursuit")
    write_json(options.output, rows)


if __name__ == "__main__":
    main()
