"""Speed of dictionary learning on one GPU, over the two matrix products an iteration contains.

``python gpu/bench_dictionary.py [--n-samples 10000000]``: prints a table and writes its JSON.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ["CUPY_TF32"] = "0"  # before CuPy is imported: products in full single precision

import cupy
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from _report import ROOT, print_table, row, write_json

from sparseprob import dictionary
from sparseprob._kernels import kernels
from sparseprob.datasets import on_gpu
from sparseprob.dictionary import BinarySparseCoding
from sparseprob.dictionary._encoder import rows_at_once

DRAWN = 2**19  # rows drawn at once


def fastest(function, repeats):
    """Shortest of some times between two events on the GPU, in seconds, after one not counted."""
    function()
    begin, end, times = cupy.cuda.Event(), cupy.cuda.Event(), []
    for _ in range(repeats):
        begin.record()
        function()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3)
    return min(times)


def planted(n_samples, n_features, n_components, *, noise, prior, seed=0):
    """Draw rows from a planted dictionary on the GPU, and the parameters that made them."""
    rng = cupy.random.RandomState(seed)
    W = rng.standard_normal((n_components, n_features)).astype(cupy.float32)
    X = cupy.empty((n_samples, n_features), dtype=cupy.float32)
    for start in range(0, n_samples, DRAWN):
        chunk = X[start : start + DRAWN]
        active = rng.random_sample((len(chunk), n_components), dtype=cupy.float32) < prior
        chunk[:] = active.astype(cupy.float32) @ W
        chunk += noise * rng.standard_normal(chunk.shape, dtype=cupy.float32)
    init = {"components": W.get().astype(float), "prior": prior, "noise_scale": float(noise)}
    return X, init


def matrix_products(X, n_components):
    """Time W @ Y.T and S @ Y over all rows in the engine's chunks, in seconds."""
    chunk = rows_at_once(None, X, n_components)
    W = cupy.ones((n_components, X.shape[1]), dtype=X.dtype)
    S = cupy.ones((n_components, min(chunk, len(X))), dtype=X.dtype)

    def project():
        for start in range(0, len(X), chunk):
            W @ X[start : start + chunk].T

    def gather():
        for start in range(0, len(X), chunk):
            Y = X[start : start + chunk]
            S[:, : len(Y)] @ Y

    return fastest(project, 3), fastest(gather, 3)


def iteration_seconds(X, init, **options):
    """Time an EM iteration, parameters and sums included: the fastest of five after the first."""
    model = BinarySparseCoding(
        len(init["components"]),
        n_candidates=8,
        max_active=4,
        max_iter=6,
        tol=0,
        init=init,
        **options,
    )
    return float(model.fit(X).history_["seconds"][1:].min())


def shares(X, init):
    """Nanoseconds per point of the parts of an E-step on one chunk."""
    model = BinarySparseCoding(
        len(init["components"]), n_candidates=8, max_active=4, max_iter=1, tol=0, init=init
    )
    Y = X[: rows_at_once(None, X, len(init["components"]))]
    model.fit(Y)
    parts = model._make_model()
    context = parts.context(model._parameters(), cupy, Y.dtype)
    table, kernel = model._make_table(), kernels("linear_discrete", Y)
    B = parts.project(Y, context)
    candidates = parts.candidates(B, context, table)
    pairs = cupy.zeros((len(B), len(B)))
    energies = (context.slope, context.bias, context.coupling, context.values)
    _, _, marginals = kernel.truncated_posterior(B, candidates, *energies, table, pairs=pairs)
    timed = {
        "projections (GEMM)": lambda: parts.project(Y, context),
        "selection": lambda: parts.candidates(B, context, table),
        "posterior and pairs": lambda: kernel.truncated_posterior(
            B, candidates, *energies, table, pairs=pairs
        ),
        "sums of marginals": lambda: marginals.sum(axis=-1, dtype=np.float64),
        "codes times data (GEMM)": lambda: marginals[0] @ Y,
    }
    return {name: fastest(f, 10) / len(Y) * 1e9 for name, f in timed.items()}


def measure(arguments):
    """Return all rows of the table and the shares of the parts."""
    sizes = (arguments.n_samples, arguments.n_features, arguments.n_components)
    rows, parts = [], {}
    cases = {"concentrated": (1.0, 2.0 / arguments.n_components), "flat": (20.0, 0.05)}
    for case, (noise, prior) in cases.items():
        X, init = planted(*sizes, noise=noise, prior=prior)
        gemms = matrix_products(X, sizes[2])
        seconds = iteration_seconds(X, init)
        label = f"GPU float32, N={sizes[0]:.0e}, D={sizes[1]}, H={sizes[2]}, {case}"
        ratio = seconds / sum(gemms)
        gemm_times = " + ".join(f"{t * 1e3:.1f}" for t in gemms)
        note = f"iteration {seconds * 1e3:.1f} ms, GEMMs {gemm_times} ms"
        rows.append(row(f"{label}: iteration over its two GEMMs", ratio, 2, note=note))
        rate = sizes[0] / seconds
        rows.append(row(f"{label}: points/s", rate, 8e7, at_least=True))
        parts[case] = shares(X, init)
        parts[case]["rest"] = seconds / len(X) * 1e9 - sum(parts[case].values())
        if case == "concentrated":
            rows.append(_streaming(X[: min(len(X), 2_000_000)], init))
        del X
        cupy.get_default_memory_pool().free_all_blocks()
    rows.append(_agreement())
    rows += other_models(max(1, arguments.n_samples // 10), *sizes[1:])
    return rows, parts


def _streaming(X, init):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        np.save(path, X.get())
        rows = np.load(path, mmap_mode="r")
        seconds = iteration_seconds(on_gpu(rows), init)
        gigabytes = rows.nbytes / seconds / 1e9
        del rows
    return row(
        "GPU float32, rows streamed from a memory map: points/s", X.shape[0] / seconds,
        note=f"{gigabytes:.1f} GB/s, file in the page cache",
    )  # fmt: skip


def other_models(n_samples, n_features, n_components):
    """Points per second of an EM iteration of MCA and GSC, rows resident."""
    options = {"n_candidates": 8, "max_active": 4, "max_iter": 4, "tol": 0}
    prior = 2.0 / n_components
    X, init = planted(n_samples, n_features, n_components, noise=1.0, prior=prior)
    ones = np.ones(n_components)
    slab = {"components": init["components"], "prior": prior, "noise_variance": 1.0,
            "slab_mean": ones, "slab_covariance": ones}  # fmt: skip
    causes = init | {"components": np.abs(init["components"])}
    models = {"GSC": dictionary.GSC(n_components, init=slab, **options),
              "MCA": dictionary.MCA(n_components, init=causes, **options)}  # fmt: skip
    gemms = sum(matrix_products(X, n_components))
    for name, model in models.items():
        if name == "MCA":
            cupy.abs(X, out=X)
        seconds = float(model.fit(X).history_["seconds"][1:].min())
        sizes = f"N={n_samples:.0e}, D={n_features}, H={n_components}"
        note = f"{seconds / gemms:.1f} times the two GEMMs"
        yield row(f"{name} GPU float32, {sizes}: points/s", n_samples / seconds, 2e7,
                  at_least=True, note=note)  # fmt: skip


def _agreement():
    X, init = planted(20_000, 64, 50, noise=1.0, prior=0.05, seed=1)
    X = X.astype(np.float64)
    bounds = [
        BinarySparseCoding(50, max_iter=5, tol=0, init=init).fit(A).lower_bound_
        for A in (X, X.get())
    ]
    difference = abs(bounds[0] - bounds[1]) / abs(bounds[1])
    return row("GPU and CPU free energy, float64, relative difference", difference, 1e-10)


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n-samples", type=int, default=10_000_000)
    parser.add_argument("--n-features", type=int, default=256)
    parser.add_argument("--n-components", type=int, default=200)
    parser.add_argument("--output", default=ROOT / "gpu/results/bench_dictionary.json")
    arguments = parser.parse_args()
    rows, parts = measure(arguments)
    print_table(rows, "Binary sparse coding on a GPU")
    for case, times in parts.items():
        print(f"  {case}: " + ", ".join(f"{name} {t:.2f} ns" for name, t in times.items()))
    write_json(arguments.output, rows, nanoseconds_per_point=parts)


if __name__ == "__main__":
    main()
