"""Speed of sparse Gaussian processes on one GPU: a million points with thirty neighbors each.

``python gpu/bench_gp.py``: prints a table and writes its JSON; ``--only`` chooses parts.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import cupy
import numpy as np
from sklearn.gaussian_process.kernels import Matern

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from _report import ROOT, print_table, row, write_json

from sparseprob._covariance import Covariance
from sparseprob._kernels import kernels
from sparseprob.gp import (
    SWSGPRegressor,
    maximin_order,
    nearest_predecessors,
    sic_factor,
)
from sparseprob.gp._elbo import Bound, Pattern, Patterns
from sparseprob.gp._inducing import exact_nearest
from sparseprob.gp._laplace import laplace_start
from sparseprob.gp._likelihoods import Gaussian
from sparseprob.gp._neighbors import nearest_training
from sparseprob.gp._swsgp_bound import Batch, Spread, local_bound

KERNEL = Matern([0.02, 0.02], nu=1.5)
NUGGET, NOISE = 1e-6, 0.01


def seconds(function, repeats=3):
    """Shortest time of some runs, after one not counted."""
    times = []
    for _ in range(repeats + 1):
        cupy.cuda.Device().synchronize()
        begin = time.perf_counter()
        function()
        cupy.cuda.Device().synchronize()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


class Problem:
    """Points of the unit square in their order, their neighbors, and values."""

    def __init__(self, n, m):
        self.n, self.m = n, m
        rng = np.random.default_rng(0)
        X = rng.random((n, 2))
        nearest_predecessors(cupy.asarray(X[maximin_order(X[:2000])[0]]), m)  # compiles
        begin = time.perf_counter()
        order, _ = maximin_order(X)
        self.ordering = time.perf_counter() - begin
        self.X = cupy.asarray(X[order])
        self.covariance = Covariance.from_kernel(KERNEL, 2)
        begin = time.perf_counter()
        scaled = self.covariance.scale(self.X)
        self.pattern = [cupy.asarray(part) for part in nearest_predecessors(scaled, m)]
        cupy.cuda.Device().synchronize()
        self.searching = time.perf_counter() - begin
        self.terms = self.covariance.terms(self.X)
        self.y = cupy.asarray(rng.normal(size=n))
        self.n_entries = len(self.pattern[1])
        self.what = f"n={n:.0e}, m={m}"


def measure_factor(problem):
    """The factor against the Cholesky factors of its blocks alone, and a plain reading of it."""
    n, size = problem.n, problem.m + 1
    yield row(f"maximin order on the host, {problem.what}", problem.ordering, unit="s")
    yield row(f"nearest earlier points, {problem.what}", problem.searching, unit="s")
    data, failed = cupy.zeros(problem.n_entries), cupy.zeros(n, dtype=np.int8)
    kernel = kernels("inverse_cholesky", data)
    taken = seconds(
        lambda: kernel.factor_columns(*problem.terms, NUGGET, *problem.pattern, 0, n, data, failed)
    )
    chunk = min(n, 65_536)
    blocks = cupy.zeros((chunk, size, size))
    blocks[:] = 0.5 + 0.5 * cupy.eye(size)
    batched = seconds(lambda: cupy.linalg.cholesky(blocks)) * n / chunk
    yield row(f"factor, {problem.what}", taken, 0.3, unit="s",
              note=f"batched Cholesky of its blocks alone {batched:.3f} s")  # fmt: skip
    whole = seconds(lambda: sic_factor(KERNEL, problem.X, *problem.pattern, NUGGET), repeats=1)
    yield row(f"sic_factor with all checks, {problem.what}", whole, 0.3, unit="s")
    dU = cupy.asarray(np.random.default_rng(1).normal(size=problem.n_entries))
    taken = seconds(
        lambda: kernel.column_gradients(*problem.terms, NUGGET, *problem.pattern, 0, n, dU, 2)
    )
    yield row(f"gradient of a function of the factor, {problem.what}", taken, unit="s")


def measure_response(problem):
    """Likelihood, its gradient and Fisher information; local predictions."""
    n, m = problem.n, problem.m
    kernel, failed = kernels("response", problem.y), cupy.zeros(n, dtype=np.int8)
    for n_lengthscales, what in ((0, "likelihood"), (2, "likelihood, gradient, information")):
        taken = seconds(
            lambda k=n_lengthscales: kernel.response_columns(
                *problem.terms, NOISE, *problem.pattern, problem.y, 0, n, k, failed
            )
        )
        yield row(f"{what}, {problem.what}", taken, unit="s")
    scaled = problem.covariance.scale(problem.X)
    tests = cupy.asarray(np.random.default_rng(2).random((n, 2)))
    scaled_test = problem.covariance.scale(tests)
    searching = seconds(lambda: nearest_training(scaled, scaled_test, m), repeats=1)
    near = cupy.asarray(nearest_training(scaled, scaled_test, m))
    means, deviations = cupy.empty(n), cupy.empty(n)
    taken = seconds(
        lambda: kernel.predict_columns(
            *problem.terms, NOISE, problem.covariance.terms(tests).scaled, near, problem.y,
            means, deviations, failed,
        )
    )  # fmt: skip
    yield row(f"predictions with deviations, {problem.what}", taken, unit="s",
              note=f"search {searching:.2f} s")  # fmt: skip


def measure_bound(problem):
    """Marginal variances, and the bound with all gradients; ancestors are the pattern."""
    pattern = Pattern(*problem.pattern)
    bound = Bound(problem.X, problem.y, Patterns(pattern, pattern, pattern), NOISE)
    u, _ = bound.factor(problem.covariance)
    taken = seconds(lambda: bound.marginals(u))
    yield row(f"marginal variances, {problem.what}", taken, unit="s")
    taken = seconds(
        lambda: bound.value_and_gradient(problem.covariance, Gaussian(NOISE), u, problem.y, u)
    )
    yield row(f"bound and its gradients, {problem.what}", taken, 0.5, unit="s")


def measure_laplace(problem):
    """Mode and incomplete factor for Gaussian noise; the solves that it consists of."""
    indptr, indices = problem.pattern
    u, failed = cupy.zeros(problem.n_entries), cupy.zeros(problem.n, dtype=np.int8)
    kernels("inverse_cholesky", u).factor_columns(
        *problem.terms, NUGGET, indptr, indices, 0, problem.n, u, failed
    )
    triangular, incomplete = kernels("triangular", u), kernels("incomplete_cholesky", u)
    rows = triangular.row_view(indptr, indices)
    Q = cupy.empty_like(u)
    for name, call in {
        "pattern by rows": lambda: triangular.row_view(indptr, indices),
        "U^-1 x": lambda: triangular.solve(indptr, indices, u, problem.y.copy()),
        "U^-T x": lambda: triangular.solve_transposed(indptr, indices, u, problem.y.copy()),
        "U U^T on the pattern": lambda: incomplete.gram_columns(
            indptr, indices, u, *rows, None, None, Q
        ),
    }.items():
        yield row(f"{name}, {problem.what}", 1e3 * seconds(call), unit="ms")
    Q[indptr[1:] - 1] += 1 / NOISE
    floors = 1e-10 * Q[indptr[1:] - 1]
    taken = seconds(lambda: incomplete.factor_without_fill(indptr, indices, Q.copy(), floors, None))
    yield row(f"incomplete factor, {problem.what}", 1e3 * taken, unit="ms")
    values = cupy.sin(problem.X.sum(axis=1) * 30) + NOISE**0.5 * problem.y
    begin = time.perf_counter()
    _, _, info = laplace_start(indptr, indices, u, values, Gaussian(NOISE))
    taken = time.perf_counter() - begin
    yield row(f"laplace_start, {problem.what}", taken, unit="s",
              note=f"{info.n_iter} steps, {info.n_cg} of conjugate gradients")  # fmt: skip


def measure_neighborhoods(problem):
    """Steps with few inducing inputs and with many; a pass over all rows with the most."""
    rng, batch_size, n_neighbors = np.random.default_rng(3), min(4096, problem.n), 20
    covariance, spread = problem.covariance, Spread("diag")
    rows = cupy.asarray(rng.choice(problem.n, batch_size, replace=False))
    X, y = problem.X[rows], problem.y[rows]
    steps = {}
    for n_inducing in (10_000, 100_000):
        Z = cupy.asarray(rng.random((n_inducing, 2)))
        arrays = {
            "mean": cupy.zeros(n_inducing),
            "inputs": Z,
            "spread": spread.start(n_inducing, 0.1, cupy),
        }
        queries, inputs = covariance.scale(X), covariance.scale(Z)
        searching = seconds(lambda q=queries, z=inputs: exact_nearest(q, z, n_neighbors))
        near = exact_nearest(queries, inputs, n_neighbors)
        batch = Batch(X, y, near, problem.n, batch_size)
        steps[n_inducing] = seconds(
            lambda b=batch, a=arrays, w=n_inducing / n_neighbors: local_bound(
                covariance, Gaussian(NOISE), b, a, spread, w
            )
        )
        what = f"bound of a batch of {batch_size}, M={n_inducing:.0e}, H={n_neighbors}"
        note = f"search {1e3 * searching:.2f} ms"
        yield row(what, 1e3 * steps[n_inducing], unit="ms", note=note)
    few, many = steps.values()
    yield row("time with ten times as many inducing inputs, apart from the search", many / few, 1.5)
    model = SWSGPRegressor(
        KERNEL, n_inducing=100_000, n_neighbors=n_neighbors, batch_size=batch_size, max_iter=1,
        tol=0, random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one pass does not converge
        taken = seconds(lambda: model.fit(problem.X, problem.y), repeats=1)
    n_steps = -(-problem.n // batch_size)
    yield row(f"SWSGPRegressor, n={problem.n:.0e}, M=1e+05: a pass", taken, unit="s",
              note=f"{n_steps} steps, start and searches included")  # fmt: skip


PARTS = {
    "factor": measure_factor,
    "response": measure_response,
    "bound": measure_bound,
    "neighborhoods": measure_neighborhoods,
    "laplace": measure_laplace,
}


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help="some of: %(default)s")
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--neighbors", type=int, default=30)
    parser.add_argument("--output", type=Path, default=ROOT / "gpu/results/gp.json")
    arguments = parser.parse_args()
    problem = Problem(arguments.points, arguments.neighbors)
    rows = [line for part in arguments.only.split(",") for line in PARTS[part](problem)]
    print_table(rows, "Sparse Gaussian processes on a GPU")
    write_json(arguments.output, rows)


if __name__ == "__main__":
    main()
