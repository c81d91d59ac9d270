"""Compression of large layers on one GPU, and the layers that come of it, beside their limits.

``python gpu/bench_torch_compression.py``: prints a table and writes its JSON. All in single
precision, products without TF32, unless a line says otherwise.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ["CUPY_TF32"] = "0"  # before CuPy is imported: products in full single precision

import cupy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from _report import ROOT, print_table, row, write_json
from _torch_awp import awp, layer
from _torch_ksvd import ksvd_parts
from _torch_monarch import monarch

from sparseprob.torch.solvers import CoSpaDi, LowRank


def cospadi(options):
    """Sparse factors of a large layer; 1572 atoms, 786 of them for each output."""
    size, n_iter = (512, 3) if options.quick else (4096, 60)
    weight, stats = layer(size)
    solver = CoSpaDi(0.4, max_iter=n_iter, random_state=0)
    CoSpaDi(0.4, max_iter=1, random_state=0).solve(weight, stats)  # compiles
    cupy.cuda.Device().synchronize()
    began = time.perf_counter()
    solution = solver.solve(weight, stats)
    cupy.cuda.Device().synchronize()
    seconds = time.perf_counter() - began
    error = solution.relative_error(stats)
    whitened = LowRank(0.4).solve(weight, stats).relative_error(stats)
    k, s = solution.to_module().n_atoms, solution.to_module().n_nonzero
    what = f"CoSpaDi {size} x {size}, {k} atoms, {s} non-zeros, {n_iter} iterations"
    yield row(what, seconds, 60, unit="s", note=f"error {error:.4f}")
    yield row(f"{what}: error over that of whitened SVD", error / whitened,
              note=f"{whitened:.4f}; rows and inputs of the layer are random")  # fmt: skip


def ksvd(options):
    """Passes of K-SVD over the time of their memory traffic and of their products."""
    sizes = {"n": 512, "d": 512, "k": 196, "s": 98} if options.quick else {}
    parts = ksvd_parts(**sizes)
    what = "K-SVD {n} x {d}, {k} atoms, {s} non-zeros".format(**parts)
    limit = parts["code_products_seconds"] + parts["code_bytes_seconds"]
    yield row(f"{what}: time of coding over its products and traffic",
              parts["code_seconds"] / limit, note=f"{parts['code_seconds']:.3f} s")  # fmt: skip
    yield row(f"{what}: time of all atoms over their traffic",
              parts["atoms_seconds"] / parts["atoms_bytes_seconds"],
              note=f"{parts['atoms_seconds']:.3f} s")  # fmt: skip


CLAIMS = {
    "awp": lambda options: awp(1024, 10, 1) if options.quick else awp(),
    "cospadi": cospadi, "ksvd": ksvd, "monarch": lambda options: monarch(),
}  # fmt: skip


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(CLAIMS), help="some of: %(default)s")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    output = ROOT / "gpu/results/torch_compression.json"
    parser.add_argument("--output", type=Path, default=output)
    options = parser.parse_args()
    rows = [line for name in options.only.split(",") for line in CLAIMS[name](options)]
    print_table(rows, "Compressed layers on a GPU")
    write_json(options.output, rows)


if __name__ == "__main__":
    main()
