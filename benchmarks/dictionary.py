"""Claims about dictionary learning on a CPU, measured: speed, memory, recovery.

``python benchmarks/dictionary.py [--prosper PATH]`` prints a table and writes its JSON. PATH is a
source checkout of ml-uol/prosper; ``_prosper.py`` says which patches today's NumPy needs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _models import CLAIMS as MODEL_CLAIMS
from _report import ROOT, Threads, fastest, print_table, row, write_json

from sparseprob._kernels import kernels
from sparseprob._threads import one_blas_thread, over_chunks
from sparseprob.datasets import make_bars, match_components
from sparseprob.dictionary import BinarySparseCoding

HEAVY = ("torch", "cupy", "pyro", "matplotlib", "mpi4py.MPI")
CASES = {"concentrated": (1.0, 0.02), "flat": (20.0, 0.05)}  # noise scale, prior


def planted(sizes, noise, prior, dtype=np.float64):
    """Rows drawn from a random dictionary, and the parameters that made them."""
    n_samples, n_features, n_components = sizes
    rng = np.random.default_rng(0)
    W = rng.normal(size=(n_components, n_features))
    X = (rng.random((n_samples, n_components)) < prior) @ W
    X += noise * rng.normal(size=X.shape)
    return X.astype(dtype), {"components": W, "prior": prior, "noise_scale": noise}


def estimator(init, max_iter=6, **options):
    """Make the model of the speed claims: eight candidates, four of them active."""
    options = {"n_candidates": 8, "max_active": 4, "tol": 0, "init": init, **options}
    return BinarySparseCoding(len(init["components"]), max_iter=max_iter, **options)


# ---------------------------------------------------------------- speed
def iteration_over_products(options):
    """An EM iteration over the two matrix products it contains, one thread."""
    for dtype, targets in ((np.float64, (2.0, 2.5)), (np.float32, (3.0, 3.0))):
        for (case, (noise, prior)), target in zip(CASES.items(), targets, strict=True):
            X, init = planted(options.sizes, noise, prior, dtype)
            with Threads(1):
                iteration, products = interleaved(X, init)
            note = f"{iteration * 1e3:.1f} ms over {products * 1e3:.1f} ms"
            name = np.dtype(dtype).name
            yield row(f"{name}, {case}: iteration over its two GEMMs", iteration / products, target,
                      note=note)  # fmt: skip


def interleaved(X, init, rounds=4):
    """Seconds of an iteration and of the two products, in turns; the fastest of each."""
    fits, products = [], []
    for _ in range(rounds):
        fits.append(float(estimator(init).fit(X).history_["seconds"].min()))
        products.append(product_seconds(X, init))
    return min(fits), min(products)


def product_seconds(X, init):
    """Seconds of W @ X.T and S @ X: the faster of whole arrays and the engine's chunks."""
    W = init["components"].astype(X.dtype)
    S = W @ X.T

    def whole():
        np.matmul(W, X.T, out=S)
        S @ X

    def in_chunks():
        for start in range(0, len(X), 4096):
            Y = X[start : start + 4096]
            (W @ Y.T) @ Y

    return min(fastest(whole, 3), fastest(in_chunks, 3))


def shares(options):
    """Microseconds per point of the parts of an E-step, one thread, float64, concentrated."""
    X, init = planted(options.sizes, *CASES["concentrated"])
    model, Y = estimator(init, max_iter=1).fit(X), X[:4096]
    parts = model._make_model()
    context, table = parts.context(init | {"prior": np.array([init["prior"]]), "offset": np.zeros(
        X.shape[1])}, np, Y.dtype), model._make_table()  # fmt: skip
    kernel, pairs = kernels("linear_discrete", Y), np.zeros((model.n_components,) * 2)
    B = parts.project(Y, context)
    candidates = parts.candidates(B, context, table)
    energies = (context.slope, context.bias, context.coupling, context.values)
    _, _, marginals = kernel.truncated_posterior(B, candidates, *energies, table, pairs=pairs)
    timed = {
        "projections (GEMM)": lambda: parts.project(Y, context),
        "selection": lambda: parts.candidates(B, context, table),
        "posterior and pairs": lambda: kernel.truncated_posterior(
            B, candidates, *energies, table, pairs=pairs
        ),
        "codes times data (GEMM)": lambda: marginals[0] @ Y,
    }
    with Threads(1):
        return {name: fastest(f, 9) / len(Y) * 1e6 for name, f in timed.items()}


def against_prosper(options):
    """One iteration against ProSper's on the same rows and parameters, one thread."""
    if options.prosper is None:
        return
    from _prosper import step

    X, init = planted(options.sizes, *CASES["concentrated"])
    start = {"W": init["components"].T, "pi": init["prior"], "sigma": init["noise_scale"]}
    with Threads(1):
        theirs, their_seconds = step(options.prosper, "bsc", X, start, 8, 4)
        fitted = estimator(init, max_iter=1, prior_correction="et").fit(X)
        seconds = float(estimator(init, prior_correction="et").fit(X).history_["seconds"].min())
    gaps = np.abs(fitted.components_ - theirs["W"].T)
    worst = max(float(gaps.max()), abs(fitted.prior_ - theirs["pi"]))
    note = f"{their_seconds:.1f} s against {seconds * 1e3:.0f} ms"
    yield row("float64: times faster than ProSper", their_seconds / seconds, 150, at_least=True,
              note=note)  # fmt: skip
    yield row(
        "largest difference of atoms and prior from ProSper after one step",
        worst,
        1e-8,
        note="its noise scale is that of the old atoms, ours of the new",
    )


def two_threads(options):
    """Two threads over one, float32 and float64, beside the matrix products shared out alike."""
    for dtype in (np.float64, np.float32):
        X, init = planted(options.sizes, *CASES["concentrated"], dtype)
        times = {1: [], 2: []}
        for _ in range(8):
            for n_threads, found in times.items():
                with Threads(n_threads):
                    fit = float(estimator(init).fit(X).history_["seconds"].min())
                    found.append((fit, shared_products(X, init)))
        (one, one_alone), (two, two_alone) = (np.min(times[n], axis=0) for n in (1, 2))
        note = f"matrix products alone: {one_alone / two_alone:.2f}"
        name = np.dtype(dtype).name
        yield row(f"{name}: 2 threads over 1", one / two, 1.8, at_least=True, note=note)


def shared_products(X, init):
    """Seconds of the two products, chunks shared out over threads as in a fit."""
    W = init["components"].astype(X.dtype)
    with one_blas_thread():
        return fastest(lambda: over_chunks(lambda _, Y, __: (W @ Y.T) @ Y, X, 1024, X.dtype), 3)


def two_ranks(options):
    """Two MPI ranks over one, strong and weak, by mpi/scaling.py."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "scaling.json"
        n_samples = str(2 * options.sizes[0])
        command = [sys.executable, ROOT / "mpi/scaling.py", "--ranks", "1,2", "--repeats", "3",
                   "--n-samples", n_samples, "--n-components", str(options.sizes[2]),
                   "--dtype", "float64", "--output", answer]  # fmt: skip
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        yield from json.loads(answer.read_text())["rows"]


# ---------------------------------------------------------------- memory, recovery, import
def memory(options):
    """Peak memory above one chunk and the parameters, rows memory mapped."""
    n_samples, n_features, n_components = options.mapped
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        X = np.lib.format.open_memmap(path, "w+", np.float32, (n_samples, n_features))
        rng = np.random.default_rng(0)
        for start in range(0, n_samples, 50_000):
            block = X[start : start + 50_000]
            block[:] = rng.standard_normal(block.shape, dtype=np.float32) ** 3
        X.flush()
        del X
        command = [sys.executable, Path(__file__).with_name("_memory.py"), path, n_components]
        done = subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True)
    chunk = 4096 * n_features * 4
    parameters = 8 * n_components * (n_features + n_components)
    extra = (int(done.stdout) - chunk - parameters) / 1e6
    yield row(f"peak memory above a chunk and the parameters, N={n_samples:.0e}, D={n_features}",
              extra, 200, unit="MB")  # fmt: skip


def bars(options):
    """The bars test: how often all bars are found, and the parameters learned then."""
    found, priors, scales, times, true_priors = 0, [], [], [], []
    for seed in range(options.seeds):
        data = make_bars(1000, 5, p_bar=0.2, random_state=seed)
        began = time.perf_counter()
        model = BinarySparseCoding(
            10,
            n_candidates=8,
            max_active=5,
            schedule="anneal",
            max_iter=60,
            tol=0,
            random_state=seed,
        ).fit(data.data)
        times.append(time.perf_counter() - began)
        if match_components(model.components_, data.components).errors.max() < 2.5:
            found += 1
            priors.append(model.prior_)
            scales.append(model.noise_scale_)
            true_priors.append(data.states.mean())
    target = 18 / 20 * options.seeds
    yield row(f"bars: seeds of {options.seeds} with all bars found", found, target, at_least=True)
    yield within("bars: learned π, mean over seeds", np.mean(priors), 0.19, 0.21, priors)
    yield within("bars: learned σ, mean over seeds", np.mean(scales), 1.97, 2.06, scales)
    gap = float(np.abs(np.subtract(priors, true_priors)).max())
    yield row("bars: largest gap from learned π to the share of bars drawn", gap)
    yield row("bars: seconds per run", float(np.median(times)), 2, unit="s")


def within(what, value, low, high, values):
    """Return a line whose target is an interval."""
    line = row(what, float(value), note=f"all: {min(values):.4g} to {max(values):.4g}")
    return line | {"target": f"{low} to {high}", "met": bool(low <= value <= high)}


def imports(options):
    """Import of the package: its time, and the heavy modules it loads."""
    program = f"import sys, sparseprob; print([m for m in {HEAVY!r} if m in sys.modules])"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    seconds = time.perf_counter() - began
    loaded = done.stdout.strip()
    yield row("heavy modules loaded by import", len(json.loads(loaded.replace("'", '"'))), 0,
              note=f"{loaded}, {seconds:.2f} s with the interpreter")  # fmt: skip


CLAIMS = {
    "products": iteration_over_products, "prosper": against_prosper, "threads": two_threads,
    "ranks": two_ranks, "memory": memory, "bars": bars, "import": imports,
} | MODEL_CLAIMS  # fmt: skip


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prosper", type=Path, help="source checkout of ml-uol/prosper")
    parser.add_argument("--only", default=",".join(CLAIMS), help="some of: %(default)s")
    parser.add_argument("--quick", action="store_true", help="small sizes: a test of this program")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/dictionary.json")
    options = parser.parse_args()
    options.sizes = (2000, 64, 30) if options.quick else (20_000, 256, 100)
    options.mapped = (50_000, 32, 20) if options.quick else (3_000_000, 256, 100)
    options.seeds = 2 if options.quick else 20
    rows = []
    for name in options.only.split(","):
        rows += CLAIMS[name](options)
        print(f"{name} measured", flush=True)
    parts = shares(options)
    n_samples, n_features, n_components = options.sizes
    sizes = f"N={n_samples}, D={n_features}, H={n_components}, H'=8, γ=4"
    print_table(rows, f"Sparse coding on a CPU; {sizes} where nothing else is said")
    print("  BSC, one thread, µs per point: " + ", ".join(f"{k} {t:.2f}" for k, t in parts.items()))
    write_json(options.output, rows, microseconds_per_point=parts)


if __name__ == "__main__":
    main()
