"""Speed of sparse recovery on one GPU, over the products it cannot do without.

``python gpu/bench_recovery.py``: prints a table and writes its JSON.
"""

import argparse
import os
import sys
import warnings
from pathlib import Path

os.environ["CUPY_TF32"] = "0"  # before CuPy is imported: products in full single precision

import cupy
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from _report import ROOT, print_table, row, write_json

from sparseprob.metrics import nmse
from sparseprob.recovery import (
    IterativeHardThresholding,
    KroneckerSBL,
    OrthogonalMatchingPursuit,
    SubspacePursuit,
)

SIZES = (500, 5000, 50, 10_000)  # rows, columns, non-zero coefficients, right-hand sides
SUPPORT = 8  # entries in each direction of a Kronecker support


def fastest(function, repeats=3):
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


def problem(sizes, seed=0):
    """Random unit columns, sparse coefficients and measurements with little noise, float32."""
    n_rows, n_columns, n_nonzero, n_targets = sizes
    rng = cupy.random.RandomState(seed)
    A = rng.standard_normal((n_rows, n_columns), dtype=cupy.float32)
    A /= cupy.linalg.norm(A, axis=0)
    order = rng.random_sample((n_targets, n_columns), dtype=cupy.float32)
    support = cupy.argpartition(order, n_nonzero, axis=1)[:, :n_nonzero]
    x = cupy.zeros((n_targets, n_columns), dtype=cupy.float32)
    values = rng.standard_normal((n_targets, n_nonzero), dtype=cupy.float32)
    cupy.put_along_axis(x, support, values, axis=1)
    noise = rng.standard_normal((n_rows, n_targets), dtype=cupy.float32)
    return A, A @ x.T + 1e-3 * noise / cupy.linalg.norm(noise, axis=0), x


def pursuit(options):
    """Orthogonal matching pursuit of all right-hand sides, over its products with the matrix."""
    A, Y, x = problem(options.sizes)
    n_nonzero = options.sizes[2]
    model = OrthogonalMatchingPursuit(n_nonzero)
    seconds = fastest(lambda: model.fit(A, Y))
    products = n_nonzero * fastest(lambda: A.T @ Y)
    errors = cupy.linalg.norm(model.coef_ - x, axis=1) / cupy.linalg.norm(x, axis=1)
    what = "OMP GPU float32, M={}, N={}, S={}, {} right-hand sides".format(*options.sizes)
    yield row(f"{what}: seconds", seconds, 0.5, unit="s",
              note=f"median relative error {float(cupy.median(errors)):.1e}")  # fmt: skip
    yield row(f"{what}: time over its products with the matrix", seconds / products)


def thresholding(options):
    """Whole fits over the two products that each iteration contains."""
    A, Y, _ = problem(options.sizes)
    products = fastest(lambda: A @ (A.T @ Y))
    for estimator in (IterativeHardThresholding, SubspacePursuit):
        model = estimator(options.sizes[2], max_iter=20)
        seconds = fastest(lambda model=model: fit_quietly(model, A, Y), 2)
        what = f"{estimator.__name__} GPU float32, {options.sizes[3]} right-hand sides"
        yield row(f"{what}: time over two products an iteration",
                  seconds / (int(np.max(model.n_iter_)) * products),
                  note=f"{seconds:.2f} s for {int(np.max(model.n_iter_))} iterations")  # fmt: skip


def fit_quietly(model, A, Y):
    """Fit without complaints of too few iterations, which are counted here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(A, Y)


def kronecker(options):
    """Sparse Bayesian learning of a tensor of unknowns, over its mode products alone."""
    n, m = options.side, options.side // 2
    rng = cupy.random.RandomState(0)
    factors = [complex_normal(rng, (m, n)) for _ in range(3)]
    x = cupy.zeros((n, n, n), dtype=cupy.complex64)
    places = [cupy.sort(rng.permutation(n)[:SUPPORT]) for _ in range(3)]
    x[cupy.ix_(*places)] = complex_normal(rng, (SUPPORT,) * 3)
    Y = mode_products(x, factors)
    noise = complex_normal(rng, Y.shape)
    Y += noise * (cupy.linalg.norm(Y) / cupy.linalg.norm(noise) / 10)  # 20 dB
    model = KroneckerSBL()
    seconds = fastest(lambda: model.fit(factors, Y), 1)
    U, V = [f.conj().T[:m] for f in factors], [f.conj().T for f in factors]
    squares = [cupy.abs(v) ** 2 for v in V]

    def products():
        t = mode_products(Y, [u[:, :m] for u in U])
        mode_products(t, V)
        mode_products(cupy.abs(t) ** 2, squares)

    once = fastest(products)
    what = f"KroneckerSBL GPU complex64, {n}^3 unknowns"
    note = f"{seconds:.2f} s for {model.n_iter_} iterations, peak {peak_memory():.1f} GB"
    yield row(f"{what}: time over the mode products of full size", seconds / (once * model.n_iter_),
              note=note)  # fmt: skip
    yield row(f"{what}: NMSE", float(nmse(model.coef_, x)), 1e-3)


def complex_normal(rng, shape):
    """Complex normal numbers of unit variance."""
    real, imaginary = (rng.standard_normal(shape, dtype=cupy.float32) for _ in range(2))
    return ((real + 1j * imaginary) / np.sqrt(2)).astype(cupy.complex64)


def mode_products(T, factors):
    """Multiply every mode of a tensor by its factor."""
    for factor in factors:  # the first mode goes last: three times around
        T = cupy.tensordot(T, factor, axes=(0, 1))
    return T


def peak_memory():
    """Bytes that CuPy's pool holds, in GB: it does not shrink."""
    return cupy.get_default_memory_pool().total_bytes() / 1e9


CLAIMS = {"pursuit": pursuit, "thresholding": thresholding, "kronecker": kronecker}


def main():
    """Measure the chosen claims, print them and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(CLAIMS), help="claims, separated by commas")
    parser.add_argument("--side", type=int, default=256, help="unknowns in each direction")
    parser.add_argument("--output", type=Path, default=ROOT / "gpu/results/recovery.json")
    options = parser.parse_args()
    options.sizes = SIZES
    rows = []
    for claim in options.only.split(","):
        cupy.get_default_memory_pool().free_all_blocks()
        rows += CLAIMS[claim](options)
    print_table(rows, "Sparse recovery on a GPU")
    write_json(options.output, rows)


if __name__ == "__main__":
    main()
