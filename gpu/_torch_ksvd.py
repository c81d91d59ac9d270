"""Times of the parts of K-SVD on a GPU, beside what memory and matrix products would take alone.

Run ``python gpu/_torch_ksvd.py`` for the table, or call `ksvd_parts` from another program.
"""

import sys

import numpy as np


def ksvd_parts(n=4096, d=4096, k=1572, s=786, n_power_iterations=8, n_iter=2):
    """Time one pass of coding and one of atoms on random rows of decaying spectrum.

    Parameters
    ----------
    n, d : int
        Shape of the rows, in single precision.
    k, s : int
        Atoms, and those of a row.
    n_power_iterations : int
    n_iter : int
        Iterations before the passes that are timed.

    Returns
    -------
    dict
        Seconds of each part and of 60 iterations; the same parts as memory traffic and products
        alone; the share of the norm that is left.
    """
    import cupy

    from sparseprob._kernels import kernels
    from sparseprob._kernels._sparse_coding_rules import atoms_together
    from sparseprob.dictionary._ksvd_loop import KSVDFit

    rng = cupy.random.default_rng(0)
    A = rng.standard_normal((n, d), dtype=np.float32)
    A *= (1 + cupy.arange(d, dtype=np.float32)) ** np.float32(-0.5)
    fit = KSVDFit(A, k, s, n_power_iterations)
    fit.start("random", np.random.default_rng(0))
    for _ in range(n_iter):
        fit.step()
    D = fit.components
    G, B = D @ D.T, A @ D.T
    squares = cupy.asarray(fit.squares)
    coding = kernels("sparse_coding", D)
    n_together = atoms_together(s)
    n_steps = -(-s // n_together)
    bandwidth, flops = _bandwidth(), _flops()
    users = n * s / k
    factor_bytes = 4 * n * sum((n_together * i) ** 2 / 2 for i in range(n_steps))
    result = {
        "n": n, "d": d, "k": k, "s": s, "n_together": n_together,
        "bytes_per_second": bandwidth, "flops": flops,
        "code_seconds": _seconds(lambda: coding.sparse_code(G, B, squares, s)),
        "code_products_seconds": 2 * n * k * k * n_steps / flops,
        "code_bytes_seconds": 2 * factor_bytes / bandwidth,
        "atoms_seconds": _seconds(fit.update_atoms),
        "atoms_bytes_seconds": (n_power_iterations + 2) * 4 * users * d * k / bandwidth,
        "step_seconds": _seconds(fit.step),
        "error_share": fit.error / float(fit.squares.sum()),
    }  # fmt: skip
    seconds = result["code_seconds"] + 60 * result["step_seconds"]
    return result | {"sixty_iterations_seconds": seconds}


def patch_parts(n=100_000, k=256, s=5):
    """Time passes over rows as long as 8 x 8 patches, in single precision."""
    return ksvd_parts(n=n, d=64, k=k, s=s, n_power_iterations=1)


def _seconds(work):
    import cupy

    times = []
    for _ in range(2):  # the first one compiles
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        work()
        end.record()
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) / 1e3)
    return times[-1]


def _bandwidth():
    """Bytes a second of a large copy, both ways counted."""
    import cupy

    x = cupy.zeros(2**28, dtype=np.float32)
    y = cupy.empty_like(x)
    return 2 * x.nbytes / _seconds(lambda: cupy.copyto(y, x))


def _flops():
    """Operations a second of a large product in single precision."""
    import cupy

    x = cupy.ones((8192, 8192), dtype=np.float32)
    return 2 * 8192**3 / _seconds(lambda: x @ x)


def main():
    """Print the parts of both problems."""
    for parts in (ksvd_parts(), patch_parts()):
        for name, value in parts.items():
            print(f"{name:28} {value:12.5g}")
        print()


if __name__ == "__main__":
    sys.exit(main())
