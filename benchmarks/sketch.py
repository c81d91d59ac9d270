"""Claims about sketches, measured: errors against size, one pass over the rows, products, peers.

``python benchmarks/sketch.py`` prints a table and writes its JSON. The large matrices take 3 GB.
``pip install datasketch`` adds a peer.
"""

import argparse
import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from _report import ROOT, Threads, print_table, row, write_json
from numba import njit
from scipy import sparse

from sparseprob.sketch import (
    CountSketcher,
    GaussianSketcher,
    PrioritySketcher,
    SignSketcher,
    ThresholdSketcher,
    WeightedMinHashSketcher,
)

LARGE = (5_000_000, 1000, 20)  # rows, columns, non-zero entries a row
# Relative errors at 1000 and 4000 samples that the methods are known for, by kind of data.
KNOWN = {
    "independent": {"priority": (0.0358, 0.0177), "threshold": (0.0360, 0.0177)},
    "correlated": {"priority": (0.0315, 0.0146), "threshold": (0.0316, 0.0146)},
    "skewed": {"priority": (0.00086, 0.00023), "threshold": (0.00087, 0.00023)},
    "tenth of all keys shared": {"priority": (0.0151, 0.0076), "threshold": (0.0151, 0.0076)},
}
SKETCHERS = {
    "priority": (PrioritySketcher, {}, 20),
    "threshold": (ThresholdSketcher, {}, 20),
    "uniform": (PrioritySketcher, {"weighting": "uniform"}, 20),
    "CountSketch": (CountSketcher, {}, 10),
    "Gaussian": (GaussianSketcher, {}, 1),
}


# ---------------------------------------------------------------- error against size
def errors(options):
    """Root mean squared errors, over the product of norms, by data, method and size."""
    for name in KNOWN:
        A, B, keys, exact = pair(name, *options.small)
        scale = sparse.linalg.norm(A) * sparse.linalg.norm(B)
        for method in SKETCHERS:
            for place, k in enumerate((1000, 4000)):
                error, seconds = error_of(method, k, A, B, keys, exact, scale)
                known = KNOWN[name].get(method)
                yield from error_rows(name, method, k, error, seconds, known and known[place])


def error_rows(name, method, k, error, seconds, known):
    """Return the lines of one data set, method and size."""
    what, note = f"{name}, {method}, {k} samples", f"both sketches and product in {seconds:.4f} s"
    yield row(f"{what}: relative error", error, note=note)
    if known is not None:
        band = 0.25 if name == "skewed" else 0.1
        yield row(f"{what}: deviation from the known {known:g}", abs(error / known - 1), band)
        bound = np.sqrt(2 / (k - 1))
        yield row(f"{what}: error over its bound sqrt(2 / (k - 1))", error / bound, 1)


def pair(name, n, d):
    """Two sparse matrices, the keys of the second one's rows, and their product."""
    rng = np.random.default_rng(0)
    A, B = (sparse.random_array((n, d), density=0.01, rng=rng, format="csr",
                                data_sampler=rng.standard_normal) for _ in range(2))  # fmt: skip
    keys = np.arange(n)
    if name == "correlated":
        B = (A + 0.3 * B).tocsr()
    if name == "skewed":
        D = sparse.diags_array(1 + rng.pareto(1.5, size=n))
        A, B = (D @ A).tocsr(), (D @ B).tocsr()
    if name.startswith("tenth"):
        shared = rng.random(n) < 2 / 11  # of each table, for a tenth of the keys of both
        keys = np.where(shared, keys, keys + n)
        return A, B, keys, (A[shared].T @ B[shared]).toarray()
    return A, B, keys, (A.T @ B).toarray()


def error_of(method, k, A, B, keys, exact, scale):
    """Return the root mean squared relative error over seeds, and seconds of one estimate."""
    kind, parameters, n_seeds = SKETCHERS[method]
    squares, seconds = [], []
    for seed in range(n_seeds):
        sketcher = kind(k, seed=seed, **parameters)
        began = time.perf_counter()
        W = sketcher.sketch(A).product(sketcher.sketch(B, keys))
        seconds.append(time.perf_counter() - began)
        squares.append((np.linalg.norm(W - exact) / scale) ** 2)
    return float(np.sqrt(np.mean(squares))), min(seconds)


def sizes(options):
    """Bytes of a sketch of sparse rows, sampled and linear, at one number of samples."""
    A = pair("independent", *options.small)[0]
    sampled, linear = PrioritySketcher(1000).sketch(A), CountSketcher(1000).sketch(A)
    note = f"{sampled.nbytes} and {linear.nbytes} bytes"
    yield row("1000 samples of sparse rows: times smaller than a linear sketch",
              linear.nbytes / sampled.nbytes, 10, at_least=True, note=note)  # fmt: skip


# ---------------------------------------------------------------- large matrices
def large(options):
    """One pass over a large CSR matrix against reading it; products against the exact one."""
    A, B = large_pair(*options.large)
    with Threads(2):
        yield from passes(A, options.rounds)
    yield from products(A, B, options.rounds)


def large_pair(n, d, n_entries):
    """Two correlated matrices that share their columns; one entry in each of equal ranges."""
    rng = np.random.default_rng(0)
    width = d // n_entries
    columns = rng.integers(0, width, (n, n_entries), dtype=np.int32)
    columns += np.arange(n_entries, dtype=np.int32) * width
    ends = np.arange(n + 1, dtype=np.int32) * n_entries
    a = rng.standard_normal(n * n_entries)
    b = a + 0.3 * rng.standard_normal(n * n_entries)
    return [sparse.csr_array((v, columns.ravel(), ends), shape=(n, d)) for v in (a, b)]


def passes(A, rounds):
    """Sketches of CSR rows, in turns with reading every byte of the matrix by two threads."""
    sketchers = {
        "priority, 1000 samples": PrioritySketcher(1000),
        "threshold, 1000 samples": ThresholdSketcher(1000),
        "priority, 20000 samples": PrioritySketcher(20_000),
    }
    parts = [A.data, A.indices, A.indptr[:-1]]
    n_bytes = sum(part.nbytes for part in parts)
    with ThreadPoolExecutor(2) as pool:
        reads = [lambda: read_all(parts, pool)]
        functions = reads + [lambda s=s: s.sketch(A) for s in sketchers.values()]
        read, *seconds = in_turns(*functions, rounds=5 * rounds)
    yield row("reading the large matrix, two threads", n_bytes / read / 1e9, unit="GB/s")
    for name, time_ in zip(sketchers, seconds, strict=True):
        target = None if name.endswith("20000 samples") else 0.5
        yield row(f"sketch of {A.shape[0]} CSR rows, {name}: share of the speed of reading them",
                  read / time_, target, at_least=True,
                  note=f"{time_:.3f} s, reading {read:.3f} s")  # fmt: skip


@njit(nogil=True, fastmath=True)
def _read(words):
    total = 0
    for i in range(words.shape[0]):
        total += words[i]
    return total


def read_all(parts, pool):
    """Read arrays by two threads, a half each."""
    words = [part.view(np.int64) for part in parts]
    halves = [[w[: len(w) // 2] for w in words], [w[len(w) // 2 :] for w in words]]
    list(pool.map(lambda half: [_read(w) for w in half], halves))


def products(A, B, rounds):
    """The product of two sketches against scipy's product of the matrices."""
    began = time.perf_counter()
    exact = (A.T @ B).toarray()
    seconds = time.perf_counter() - began
    scale = sparse.linalg.norm(A) * sparse.linalg.norm(B)
    k = 20_001  # for sqrt(2 / (k - 1)) = 1 %
    with Threads(2):
        sketcher = PrioritySketcher(k)
        sketching = in_turns(lambda: sketcher.sketch(A), rounds=rounds)[0]
        left, right = sketcher.sketch(A), sketcher.sketch(B)
        ours = in_turns(lambda: left.product(right), rounds=2 * rounds)[0]
    product, std = left.product(right, return_std=True)
    size = f"product of {A.shape[0]} rows, {A.shape[1]} columns"
    yield row(f"{size}: times faster from sketches than exact by scipy", seconds / ours, 100,
              at_least=True, note=f"{ours * 1e3:.1f} ms beside {seconds:.1f} s")  # fmt: skip
    yield row(f"{size}: times faster, making both sketches included",
              seconds / (ours + 2 * sketching))  # fmt: skip
    yield row(f"{size}: relative error of {k} samples",
              float(np.linalg.norm(product - exact) / scale), 0.01,
              note=f"estimated {std / scale:.4f}")  # fmt: skip


# ---------------------------------------------------------------- peers
def peers(options):
    """Linear sketches beside libraries that project the same matrix to the same size."""
    from scipy.linalg import clarkson_woodruff_transform
    from sklearn.random_projection import GaussianRandomProjection

    A, k = pair("independent", *options.small)[0], 1000
    turned = A.T.tocsr()
    ours, scipys = in_turns(
        lambda: CountSketcher(k).sketch(A),
        lambda: clarkson_woodruff_transform(A, k, 0),
        rounds=options.rounds,
    )
    yield row("CountSketch of CSR rows: times faster than scipy's", scipys / ours,
              note=f"{ours * 1e3:.1f} ms beside {scipys * 1e3:.1f} ms")  # fmt: skip
    gauss, sign, theirs = in_turns(
        lambda: GaussianSketcher(k).sketch(A),
        lambda: SignSketcher(k).sketch(A),
        lambda: GaussianRandomProjection(k, random_state=0).fit_transform(turned),
        rounds=2,
    )
    yield row("Gaussian sketch: times faster than scikit-learn's projection", theirs / gauss,
              note=f"{gauss:.2f} s beside {theirs:.2f} s")  # fmt: skip
    yield row("sign sketch: times faster than scikit-learn's projection", theirs / sign)
    yield from minhash()


def minhash():
    """Weighted MinHash of one column, ours and datasketch's, which only compares sets."""
    x, k = np.abs(np.random.default_rng(0).normal(size=2000)), 200
    functions = [
        lambda: PrioritySketcher(k).sketch(x),
        lambda: WeightedMinHashSketcher(k).sketch(x),
    ]
    if importlib.util.find_spec("datasketch") is not None:
        from datasketch import WeightedMinHashGenerator

        generator = WeightedMinHashGenerator(len(x), k)
        functions.append(lambda: generator.minhash(x))
    priority, ours, *theirs = in_turns(*functions, rounds=3)
    yield row("priority sketch of a column: times faster than weighted MinHash", ours / priority,
              note=f"{priority * 1e3:.2f} ms beside {ours * 1e3:.1f} ms")  # fmt: skip
    if theirs:
        yield row("weighted MinHash: times faster than datasketch", theirs[0] / ours,
                  note=f"{ours * 1e3:.1f} ms beside {theirs[0] * 1e3:.1f} ms")  # fmt: skip


def in_turns(*functions, rounds):
    """Shortest seconds of each function, called in turns after one round that is not counted."""
    times = [[] for _ in functions]
    for turn in range(rounds + 1):
        for function, seconds in zip(functions, times, strict=True):
            began = time.perf_counter()
            function()
            if turn:
                seconds.append(time.perf_counter() - began)
    return [min(seconds) for seconds in times]


CLAIMS = {"errors": errors, "sizes": sizes, "large": large, "peers": peers}


def main():
    """Measure the chosen claims, print them and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(CLAIMS), help="claims, separated by commas")
    parser.add_argument("--quick", action="store_true", help="small sizes, to try the program")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/sketch.json")
    options = parser.parse_args()
    options.small = (5000, 200) if options.quick else (50_000, 200)
    options.large = (50_000, 100, 20) if options.quick else LARGE
    options.rounds = 2 if options.quick else 4
    rows = [line for claim in options.only.split(",") for line in CLAIMS[claim](options)]
    print_table(rows, "Sketches")
    write_json(options.output, rows)


if __name__ == "__main__":
    main()
