"""AWP on a layer of 4096 x 4096 in single precision, over the matrix products it contains.

`awp()` yields the rows of the table; ``python gpu/_torch_awp.py`` prints them.
"""

import os
import sys
from functools import partial
from pathlib import Path

os.environ["CUPY_TF32"] = "0"  # before CuPy is imported: products in full single precision

import cupy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

from _report import fastest, print_table, row

from sparseprob.torch.calibration import LayerStats
from sparseprob.torch.solvers import AWP, Refit, WandaPruner

TIMES_GEMMS = 1.5
CASES = (
    ("50 % of a row", {}, TIMES_GEMMS),
    ("2:4", {"nm": "2:4"}, TIMES_GEMMS),
    ("50 % of the matrix", {"granularity": "matrix"}, None),
    ("blocks of 8", {"granularity": "block"}, None),
)


def layer(size, n_tokens=2**14, seed=0):
    """Return a weight, and statistics of inputs that depend on each other."""
    rng = cupy.random.default_rng(seed)
    scales = cupy.linspace(-2, 1, size, dtype=cupy.float32)
    mix = rng.standard_normal((size, size), dtype=cupy.float32) * 10**scales
    x = rng.standard_normal((n_tokens, size), dtype=cupy.float32) @ mix.T
    return rng.standard_normal((size, size), dtype=cupy.float32), LayerStats.of(x)


def awp(size=4096, n_iter=200, rounds=3):
    """Time whole calls of `solve` over as many products with the Gram matrix as they make.

    Parameters
    ----------
    size : int
        Inputs and outputs of the layer.
    n_iter : int
        Steps; the loss of the last iterate takes one more product.
    rounds : int
        Repetitions, solver and products in turn.
    """
    W, stats = layer(size)
    C, product = stats.gram.astype(cupy.float32), cupy.empty_like(W)
    finish = cupy.cuda.Device().synchronize

    def products():
        for _ in range(n_iter + 1):
            cupy.matmul(W, C, out=product)

    for name, arguments, target in CASES:
        solver = AWP(max_iter=n_iter, tol=0.0, **arguments)
        calls = partial(solver.solve, W, stats), products
        times = [[fastest(call, 1, finish=finish) for call in calls] for _ in range(rounds)]
        solve, gemms = (min(column) for column in zip(*times, strict=True))
        error = solver.solve(W, stats).relative_error(stats)
        before = WandaPruner(**arguments).solve(W, stats).relative_error(stats)
        note = f"{solve:.3f} s over {gemms:.3f} s; error {error:.3f}, of Wanda {before:.3f}"
        what = f"AWP {size} x {size}, {name}, {n_iter} steps, float32: time over its products"
        yield row(what, solve / gemms, target, note=note)
    seconds = fastest(partial(Refit(WandaPruner()).solve, W, stats), 1, finish=finish)
    what = f"least squares on {size} supports of {size // 2} weights"
    yield row(what, seconds, unit="s")


if __name__ == "__main__":
    print_table(list(awp()), "AWP on a GPU")
