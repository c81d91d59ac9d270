"""Speed of robust PCA on one GPU, over the partial singular value decompositions it contains.

``python gpu/bench_rpca.py``: prints a table and writes its JSON.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ["CUPY_TF32"] = "0"  # before CuPy is imported: products in full single precision

import cupy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from _report import ROOT, print_table, row, write_json
from rpca import error, fit_and_svds, problem


def large(n=5000, rank=50):
    """Time whole fits in both precisions over their decompositions."""
    L, M = problem(n, rank, 0.1)
    for dtype, tolerance in ((cupy.float64, 1e-6), (cupy.float32, 1e-3)):
        X = cupy.asarray(M, dtype=dtype)
        seconds, svds, model = fit_and_svds(X, cupy.cuda.Device().synchronize)
        what = f"RobustPCA GPU {X.dtype}, {n} x {n}, rank {rank}, 10 %"
        yield row(f"{what}: time over that of its partial SVDs", seconds / svds, 1.5,
                  note=f"{seconds:.2f} s for {model.n_iter_} iterations")  # fmt: skip
        yield row(f"{what}: error", error(cupy.asnumpy(model.low_rank_), L), tolerance)


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "gpu/results/rpca.json")
    arguments = parser.parse_args()
    rows = list(large())
    print_table(rows, "Robust PCA on a GPU")
    write_json(arguments.output, rows)


if __name__ == "__main__":
    main()
