"""Scaling of dictionary learning over MPI ranks.

``python mpi/scaling.py --ranks 1,2,4,8,16`` starts ``mpiexec`` for each number of ranks, one thread
a rank, and prints and writes strong scaling (the rows are shared out) and weak scaling (each rank
has as many as one rank of the largest strong run). Strong efficiency is time(1) / (K time(K)).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
BLOCK = 10_000  # rows drawn from one seed, so that the data do not depend on the number of ranks


def main():
    """Drive mpiexec, or be one rank of it."""
    arguments = _arguments()
    if arguments.worker:
        run_rank(arguments)
        return 0
    return drive(arguments)


def _arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", default="1,2", help="numbers of ranks, the first must be 1")
    parser.add_argument("--n-samples", type=int, default=200_000, help="rows of the strong runs")
    parser.add_argument("--n-features", type=int, default=256)
    parser.add_argument("--n-components", type=int, default=200)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--dtype", default="float32", choices=("float32", "float64"))
    parser.add_argument("--mpiexec", default=None, help="launcher, default: the one of this Python")
    parser.add_argument("--repeats", type=int, default=1, help="take the fastest of some runs")
    parser.add_argument("--output", default=ROOT / "mpi/results/scaling.json")
    parser.add_argument("--worker", default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


# ---------------------------------------------------------------- one rank
def run_rank(arguments):
    """Fit this rank's rows; rank 0 writes the seconds of the fastest iteration."""
    from sparseprob import distributed, mpi, row_slice
    from sparseprob.dictionary import BinarySparseCoding

    D, H = arguments.n_features, arguments.n_components
    W = np.random.default_rng(0).normal(size=(H, D))
    with distributed() as comm:
        X = local_rows(row_slice(arguments.n_samples), W, arguments.dtype)
        model = BinarySparseCoding(
            H, n_candidates=8, max_active=4, max_iter=arguments.iterations + 1, tol=0,
            init={"components": W, "prior": 2 / H, "noise_scale": 1.0},
        )  # fmt: skip
        comm.Barrier()
        seconds = model.fit(X).history_["seconds"][1:]
        slowest = max(comm.allgather(float(np.min(seconds))))
        reduction = _reduction_seconds(mpi, H, D)
        products = max(comm.allgather(_product_seconds(comm, X, W)))
    if comm.rank == 0:
        result = {
            "seconds": slowest,
            "reduction": reduction,
            "products": products,
            "bound": model.lower_bound_,
        }
        Path(arguments.worker).write_text(json.dumps(result))


def local_rows(rows, W, dtype):
    """Draw the rows of a slice of the whole data, block by block."""
    X = np.empty((rows.stop - rows.start, W.shape[1]), dtype=dtype)
    for block in range(rows.start // BLOCK, -(-rows.stop // BLOCK)):
        rng = np.random.default_rng((1, block))
        active = rng.random((BLOCK, len(W)), dtype=np.float32) < 2 / len(W)
        drawn = active.astype(dtype) @ W.astype(dtype)
        drawn += rng.standard_normal(drawn.shape, dtype=np.float32)
        start, stop = max(rows.start, block * BLOCK), min(rows.stop, (block + 1) * BLOCK)
        X[start - rows.start : stop - rows.start] = drawn[
            start - block * BLOCK : stop - block * BLOCK
        ]
    return X


def _product_seconds(comm, X, W):
    """Seconds of the iteration's two matrix products over this rank's rows, all ranks at once."""
    W, times = W.astype(X.dtype), []
    for _ in range(3):
        comm.Barrier()
        began = time.perf_counter()
        for start in range(0, len(X), 4096):
            B = W @ X[start : start + 4096].T
            B @ X[start : start + 4096]
        times.append(time.perf_counter() - began)
    return min(times)


def _reduction_seconds(mpi, H, D):
    """Seconds of one Allreduce of the statistics."""
    buffer, times = np.zeros(H * D + H * H + D + H + 3), []
    for _ in range(5):
        began = time.perf_counter()
        mpi.row_sum(buffer)
        times.append(time.perf_counter() - began)
    return min(times)


# ---------------------------------------------------------------- all ranks
def drive(arguments):
    """Run every number of ranks, print the table and write it."""
    from _report import print_table, write_json

    counts = [int(k) for k in arguments.ranks.split(",")]
    if counts[0] != 1:
        raise SystemExit(f"--ranks must begin with 1, got {arguments.ranks}.")
    per_rank = arguments.n_samples // counts[-1]
    runs = {"strong": [], "weak": []}
    for kind, list_of_runs in runs.items():
        for k in counts:
            n = arguments.n_samples if kind == "strong" else per_rank * k
            tries = [launch(arguments, k, n) for _ in range(arguments.repeats)]
            best = min(tries, key=lambda r: r["seconds"])
            one = list_of_runs[0] if list_of_runs else None
            one_seconds = one["seconds_per_iteration"] if one else best["seconds"]
            one_products = one["products_seconds"] if one else best["products"]
            share = k if kind == "strong" else 1
            list_of_runs.append(
                {
                    "ranks": k,
                    "n_samples": n,
                    "seconds_per_iteration": best["seconds"],
                    "efficiency": one_seconds / (share * best["seconds"]),
                    "products_seconds": best["products"],
                    "products_efficiency": one_products / (share * best["products"]),
                    "reduction_seconds": best["reduction"],
                    "lower_bound": best["bound"],
                }  # fmt: skip
            )
            print(kind, list_of_runs[-1], flush=True)
    rows = [
        line for kind, list_of_runs in runs.items() for line in _rows(kind, list_of_runs, arguments)
    ]
    print_table(rows, "Scaling over MPI ranks, one thread each")
    write_json(arguments.output, rows, **runs)
    return 0


def _rows(kind, runs, arguments):
    from _report import row

    for run in runs[1:]:
        k, limit = run["ranks"], run["products_efficiency"]
        what = (
            f"{kind} scaling, 1 → {k} ranks, N={run['n_samples']}, D={arguments.n_features}, "
            f"H={arguments.n_components}, {arguments.dtype}: "
        )
        note = f"{run['seconds_per_iteration']:.3f} s/iteration; matrix products alone: {limit:.2f}"
        if k == 2:
            yield row(what + "speed-up", 2 * run["efficiency"], 1.8, at_least=True, note=note)
        else:
            target = 0.85 if kind == "strong" and k == 16 else None
            yield row(what + "efficiency", run["efficiency"], target, at_least=True, note=note)


def launch(arguments, n_ranks, n_samples):
    """Start one run under mpiexec and return what rank 0 measured."""
    launcher = arguments.mpiexec or _launcher()
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [
            launcher, *_binding(launcher), "-n", str(n_ranks),
            sys.executable, "-m", "mpi4py", __file__,
            "--worker", str(answer), "--n-samples", str(n_samples),
            "--n-features", str(arguments.n_features), "--dtype", arguments.dtype,
            "--n-components", str(arguments.n_components),
            "--iterations", str(arguments.iterations),
        ]  # fmt: skip
        threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=os.environ | threads)
        return json.loads(answer.read_text())


def _launcher():
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else "mpiexec"


def _binding(launcher):
    """Options that give each rank a core of its own, in the words of the MPI library."""
    version = subprocess.run([launcher, "--version"], capture_output=True, text=True).stdout
    if "Open MPI" not in version and "OpenRTE" not in version:
        return ["-bind-to", "core"]
    return ["--bind-to", "core", *(["--allow-run-as-root"] if os.geteuid() == 0 else [])]


if __name__ == "__main__":
    sys.exit(main())
