"""Claims about robust PCA: iterations, error and time beside other implementations.

``python benchmarks/rpca.py`` prints a table and writes its JSON. Peers that are not installed are
left out: ``pip install pyrpca rpca==0.1.6``. Beside peers everything has one
thread, and seconds are those of the processor: threads of BLAS that wait for each other on a busy
machine would be counted against whoever has many small products.
"""

import argparse
import importlib
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from _report import ROOT, Threads, print_table, row, write_json
from sklearn.exceptions import ConvergenceWarning

from sparseprob.rpca import RobustPCA
from sparseprob.rpca import _partial_svd as partial_svd
from sparseprob.rpca import _pcp as pcp


def problem(n, rank, share, seed=0):
    """Product of Gaussian factors, and errors of up to 50 in a share of its entries."""
    rng = np.random.default_rng(seed)
    L = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, n))
    wrong = rng.random((n, n)) < share
    S = np.where(wrong, rng.uniform(-50, 50, (n, n)), 0)
    return L, L + S


def peer(name):
    """Import an installed package, or return None; this folder has files of such names too."""
    here, before = str(Path(__file__).resolve().parent), list(sys.path)
    sys.path[:] = [p for p in before if str(Path(p or ".").resolve()) != here]
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    finally:
        sys.path[:] = before
    if Path(module.__file__).resolve().is_relative_to(ROOT / "benchmarks"):
        raise ImportError(f"{name} was loaded from {module.__file__}, which is no peer.")
    return module


def timed(function, clock=time.perf_counter):
    """Return seconds and the result."""
    began = clock()
    result = function()
    return clock() - began, result


def in_turns(functions, repeats):
    """Return the shortest processor time and last result of each, called one after the other."""
    found: dict = {}
    for _ in range(repeats):
        for name, function in functions.items():
            seconds, result = timed(function, time.process_time)
            best = min(seconds, found.get(name, (np.inf,))[0])
            found[name] = best, result
    return found


def error(low, L):
    """Relative error of the low-rank part."""
    return float(np.linalg.norm(low - L) / np.linalg.norm(L))


def competitors(M, rank):
    """Return what splits M, by name: ours and the peers that are installed."""
    lam = 1 / np.sqrt(max(M.shape))
    functions = {
        "ialm": lambda: RobustPCA(random_state=0).fit(M),
        "accaltproj": lambda: RobustPCA(rank, solver="accaltproj", random_state=0).fit(M),
    }
    if pyrpca := peer("pyrpca"):
        functions["pyrpca"] = lambda: pyrpca.rpca_pcp_ialm(M, lam, verbose=False)
    if rpca := peer("rpca"):
        functions["rpca"] = lambda: rpca.RobustPCA(n_components=rank, tol=1e-7, verbose=False).fit(
            M
        )
    return functions


def peers(options):
    """Iterations, error and time at 1000 x 1000, rank 50, beside pyrpca and rpca."""
    n, rank = (200, 8) if options.quick else (1000, 50)
    with Threads(1):
        for share in (0.05, 0.1):
            L, M = problem(n, rank, share)
            functions = competitors(M, rank)
            functions["ialm"]()
            found = in_turns(functions, 2)
            yield from _peer_rows(found, L, f"{n} x {n}, rank {rank}, {share:.0%}")


def _peer_rows(found, L, what):
    seconds = {name: value[0] for name, value in found.items()}
    ialm, fast = found["ialm"][1], found["accaltproj"][1]
    mine, quick = seconds["ialm"], seconds["accaltproj"]
    note = f"rank {ialm.rank_}, duality gap {ialm.dual_gap_:.1e}"
    yield row(f"{what}: iterations of ialm", ialm.n_iter_, 30, note=note)
    yield row(f"{what}: error of ialm", error(ialm.low_rank_, L), 1e-6)
    if "pyrpca" in found:
        theirs = seconds["pyrpca"]
        note = (
            f"{theirs:.2f} s beside {mine:.2f} s; its error {error(found['pyrpca'][1][0], L):.1e}"
        )
        yield row(f"{what}: time of pyrpca over ialm", theirs / mine, 6, at_least=True, note=note)
    note = f"{fast.n_iter_} iterations"
    yield row(f"{what}: error of accaltproj", error(fast.low_rank_, L), 1e-6, note=note)
    note = f"{mine:.2f} s beside {quick:.2f} s"
    yield row(f"{what}: time of ialm over accaltproj", mine / quick, note=note)
    if "rpca" in found:
        theirs, off = seconds["rpca"], error(np.asarray(found["rpca"][1].low_rank_), L)
        note = f"{theirs:.2f} s beside {quick:.2f} s; its error {off:.1e}"
        yield row(f"{what}: time of rpca over accaltproj", theirs / quick, 1, at_least=True,
                  note=note)  # fmt: skip


class SVDClock:
    """Time spent in singular value decompositions of a fit, norms of the same kind included."""

    def __init__(self, finish):
        self.seconds, self.finish = 0.0, finish

    def wrap(self, function):
        """Return the function, timed until the device has finished."""

        def inner(*args, **kwargs):
            self.finish()
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.finish()
                self.seconds += time.perf_counter() - began

        return inner


def fit_and_svds(M, finish=lambda: None):
    """Return the seconds of the faster of two fits, those of its partial SVDs, and the model."""
    from sparseprob.rpca import _certificate as certificate

    RobustPCA(random_state=0).fit(M[:300, :300])
    clock = SVDClock(finish)
    places = [(partial_svd.PartialSVD, "above"), (pcp, "spectral_norm"),
              (certificate, "spectral_norm")]  # fmt: skip
    before = [getattr(owner, name) for owner, name in places]
    found = []
    try:
        for (owner, name), function in zip(places, before, strict=True):
            setattr(owner, name, clock.wrap(function))
        for _ in range(2):
            clock.seconds = 0.0
            seconds, model = timed(lambda: (RobustPCA(random_state=0).fit(M), finish())[0])
            found.append((seconds, clock.seconds, model))
    finally:
        for (owner, name), function in zip(places, before, strict=True):
            setattr(owner, name, function)
    return min(found, key=lambda fit: fit[0])


def large(options):
    """A whole fit over the partial SVDs it contains, in one run."""
    from sklearn.utils.extmath import randomized_svd

    n, rank = (600, 10) if options.quick else (5000, 50)
    L, M = problem(n, rank, 0.1)
    seconds, svds, model = fit_and_svds(M)
    what = f"{n} x {n}, rank {rank}, 10 %"
    yield row(f"{what}: time over that of its partial SVDs", seconds / svds, 1.5,
              note=f"{seconds:.1f} s, {svds:.1f} s with the norms of X and of the multiplier; "
              f"{model.n_iter_} iterations")  # fmt: skip
    yield row(f"{what}: error", error(model.low_rank_, L), 1e-6,
              note=f"duality gap {model.dual_gap_:.1e}")  # fmt: skip
    other = min(
        timed(lambda: randomized_svd(M, rank, n_iter=2, random_state=0))[0] for _ in range(2)
    )
    yield row(f"{what}: time over as many randomized SVDs of scikit-learn",
              seconds / (other * model.n_iter_), 1.5, note=f"{other:.2f} s for one")  # fmt: skip


def wrong(options):
    """A split that is wrong with a small residual."""
    n = 300
    L, M = problem(n, 30, 0.3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = RobustPCA(random_state=0).fit(M)
    warned = any(issubclass(w.category, ConvergenceWarning) for w in caught)
    yield row("300 x 300, rank 30, 30 %: warnings of the wrong split", int(warned), 1,
              at_least=True, note=f"residual {model.residual_:.1e}, error "
              f"{error(model.low_rank_, L):.2g}, duality gap {model.dual_gap_:.1e}")  # fmt: skip


CLAIMS = {"peers": peers, "wrong": wrong, "large": large}


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(CLAIMS), help="some of: %(default)s")
    parser.add_argument("--quick", action="store_true", help="small sizes: a test")
    output = ROOT / "benchmarks/results/rpca.json"
    parser.add_argument("--output", type=Path, default=output)
    options = parser.parse_args()
    with Threads(2):
        rows = [r for name in options.only.split(",") for r in CLAIMS[name](options)]
    print_table(rows, "Robust PCA")
    write_json(options.output, rows)


if __name__ == "__main__":
    main()
