"""Claims about the speed of Gaussian processes: ordering, factor, fit and prediction.

``python benchmarks/gp_speed.py`` prints a table and writes its JSON. Beside gpboost (``pip install
gpboost``), which is left out if it is not installed. Ratios of times by the clock need a machine
that does nothing else.
"""

import argparse
import subprocess
import sys
import threading
import time
from pathlib import Path

import _gp_peers
import numba
import numpy as np
from _gp_peers import gpboost_vecchia, installed
from _gp_tasks import Task, scores
from _memory import anonymous_bytes, watch
from _report import ROOT, Threads, print_table, row, write_json
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from sparseprob._kernels._column_lanes import factor_group, workspace
from sparseprob._kernels._lanes import LANES
from sparseprob.datasets import make_spatial_field
from sparseprob.gp import VecchiaGPRegressor, maximin_order, nearest_predecessors, sic_factor

N_NEIGHBORS = 30
KERNEL = ConstantKernel(1.0) * Matern(0.1, nu=1.5)


def timed(function, *arguments, **options):
    """Return seconds by the clock, seconds of the processor, and the result."""
    began, busy = time.perf_counter(), time.process_time()
    result = function(*arguments, **options)
    return time.perf_counter() - began, time.process_time() - busy, result


# ---------------------------------------------------------------- ordering
def brute_force_order(X):
    """Maximin order by all distances, the first point the one nearest the centroid."""
    start = int(((X - X.mean(axis=0)) ** 2).sum(axis=1).argmin())
    order, lengths = [start], [np.inf]
    nearest = np.sqrt(((X - X[start]) ** 2).sum(axis=1))
    for _ in range(len(X) - 1):
        nearest[order[-1]] = -1.0
        order.append(int(nearest.argmax()))
        lengths.append(nearest[order[-1]])
        nearest = np.minimum(nearest, np.sqrt(((X - X[order[-1]]) ** 2).sum(axis=1)))
    return np.array(order), np.array(lengths)


def ordering(options):
    """Exact maximin order on one thread, equal to brute force where that can be had."""
    rng = np.random.default_rng(0)
    X = rng.random((2000, 2))
    order, lengths = maximin_order(X)
    expected, distances = brute_force_order(X)
    wrong = int((order != expected).sum() + (abs(lengths - distances)[1:] > 1e-12).sum())
    yield row("maximin order of 2000 points: places that differ from brute force", wrong, 0)
    X = rng.random((options.large, 2))
    with Threads(1):
        seconds, busy, (order, _) = timed(maximin_order, X)
        approximate, _, _ = timed(maximin_order, X, method="approximate")
    what = f"maximin order of {options.large} points, one thread"
    yield row(f"{what}: seconds", min(seconds, busy), 10, unit="s",
              note=f"approximate {approximate:.3g} s")  # fmt: skip
    with Threads(2):
        _, busy, _ = timed(nearest_predecessors, X[order], N_NEIGHBORS)
    yield row(f"{N_NEIGHBORS} nearest earlier of {options.large} points: seconds of the processor",
              busy, 30, unit="s")  # fmt: skip


# ---------------------------------------------------------------- factor
@numba.njit(parallel=True, fastmath={"contract"}, error_model="numpy")
def arithmetic_alone(kinds, variances, shapes, points, n_groups, n_threads):
    """Evaluate kernels and factor as often as a factor does, always the same eight columns.

    Nothing is gathered or written: everything stays in the nearest cache.
    """
    total, size = np.zeros(n_threads), points.shape[1]
    for thread in numba.prange(n_threads):
        work = workspace(1, 2, size, 2)
        work[0][0] = points
        work[4][:] = 1e-6
        pads, tried = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
        for _ in range(n_groups // n_threads):
            factor_group(kinds, variances, shapes, pads, size, size, 0, work, tried)
            total[thread] += work[3][0, 0]
    return total.sum()


def factor(options):
    """The sparse factor over its kernel evaluations and Cholesky factors alone; its memory."""
    n, size = options.large, N_NEIGHBORS + 1
    X = np.random.default_rng(0).random((n, 2))
    order, _ = maximin_order(X, method="approximate")
    X = X[order]
    pattern = nearest_predecessors(X, N_NEIGHBORS)
    points = np.random.default_rng(1).random((2, size, LANES))
    alone = (np.array([1]), np.ones(1), np.ones(1), points, n // LANES, 2)
    with Threads(2):
        sic_factor(KERNEL, X, *pattern)
        arithmetic_alone(*alone)
        both = []
        for _ in range(3):  # in turns
            whole, busy, _ = timed(sic_factor, KERNEL, X, *pattern)
            part, busy_part, _ = timed(arithmetic_alone, *alone)
            both.append((busy, busy_part, whole, part))
    busy, busy_part, whole, part = np.min(both, axis=0)
    what = f"sic_factor of {n} points, {N_NEIGHBORS} neighbors, two threads"
    rate = n * size * (size + 1) / 2 / busy_part / 1e9
    note = f"{busy:.2f} over {busy_part:.2f} s, {rate:.2f} G kernel values a second and core"
    yield row(f"{what}: processor time over its arithmetic alone", busy / busy_part, 1.3, note=note)
    yield row(f"{what}: time by the clock over its arithmetic alone", whole / part,
              note=f"{whole:.2f} over {part:.2f} s")  # fmt: skip
    command = [sys.executable, __file__, "--memory", str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    everything, alone = map(int, done.stdout.split())
    yield row(f"{what}: peak memory with ordering and neighbors", everything / 1e9, 1.5, unit="GB",
              note=f"the factor alone adds {alone / 1e9:.2f} GB")  # fmt: skip


def print_memory(n):
    """Print the memory that order, neighbors and factor add at their peak; that of the factor."""
    rng = np.random.default_rng(0)

    def steps(X):
        X = X[maximin_order(X)[0]]
        pattern = nearest_predecessors(X, N_NEIGHBORS)
        return sic_factor(KERNEL, X, *pattern), anonymous_bytes(), X, pattern

    steps(rng.random((2000, 2)))
    X = rng.random((n, 2))
    before = anonymous_bytes()
    peak, done = [before], threading.Event()
    watcher = threading.Thread(target=watch, args=(peak, done))
    watcher.start()
    found = steps(X)
    done.set()
    watcher.join()
    print(peak[0] - before, found[0].data.nbytes)


# ---------------------------------------------------------------- fit, prediction
def field_task(n, n_test):
    """A field of Matern-3/2, at so many points, with noise of variance 0.01."""
    drawn = make_spatial_field(n + n_test, random_state=0)
    X, y, f = drawn.data, drawn.target, drawn.field
    return Task(X[:n], y[:n], X[n:], y[n:], f[n:], 1.5, 0.01)


def fit(options):
    """Fit with a learned kernel beside gpboost at equal neighbors; what likelihood is reached.

    Both learn one lengthscale, with one thread each by the processor, with two by the clock.
    """
    task, small = field_task(options.middle, 2000), field_task(2000, 100)
    what = f"fit of {options.middle} points, {N_NEIGHBORS} neighbors"
    model = VecchiaGPRegressor(task.start_kernel, n_neighbors=N_NEIGHBORS)
    model.fit(small.X, small.y).predict(small.X_test, return_std=True)
    times = {1: [], 2: []}
    for n_threads in (1, 2, 1, 2):
        with Threads(n_threads):
            clock, busy, _ = timed(model.fit, task.X, task.y)
        times[n_threads].append(busy if n_threads == 1 else clock)
    reached = model.log_marginal_likelihood_value_
    note = f"{model.n_iter_} iterations, {model.kernel_}, log likelihood {reached:.1f}"
    busy, clock = min(times[1]), min(times[2])
    yield row(f"{what}, one thread: seconds of the processor", busy, unit="s", note=note)
    yield row(f"{what}, two threads: seconds by the clock", clock, unit="s")
    if not installed("gpboost"):
        return
    peer = next(gpboost_vecchia(task, N_NEIGHBORS, 1))
    theirs = next(gpboost_vecchia(task, N_NEIGHBORS, 2))
    note = f"{peer.seconds:.0f} s, log likelihood {peer.log_likelihood:.1f}, {peer.note}"
    yield row(f"{what}, one thread: processor time of gpboost over ours", peer.seconds / busy, 1.5,
              at_least=True, note=note)  # fmt: skip
    yield row(f"{what}, two threads: time of gpboost over ours, by the clock",
              theirs.clock / clock, 1.5, at_least=True, note=f"{theirs.clock:.0f} s")  # fmt: skip
    gap = (reached - peer.log_likelihood) / options.middle
    yield row(f"{what}: log likelihood per point above gpboost's", gap, -1e-4, at_least=True,
              note="orderings differ, and with them the approximations")  # fmt: skip
    mean, std = model.predict(task.X_test, return_std=True)
    ours = peer._replace(mean=mean, variance=std**2, noise=model.noise_variance_)
    yield row(f"{what}: NLPD above gpboost's", scores(task, ours)[0] - scores(task, peer)[0], 3e-3)


def prediction(options):
    """Means and standard deviations at a million points."""
    n = options.large
    task = field_task(options.middle, n)
    model = VecchiaGPRegressor(
        task.kernel, noise_variance=task.noise, n_neighbors=N_NEIGHBORS, optimize_kernel=False
    )
    model.fit(task.X, task.y).predict(task.X_test[:1000], return_std=True)
    with Threads(2):
        clock, busy, (mean, std) = timed(model.predict, task.X_test, return_std=True)
    inside = np.mean(abs(mean - task.f_test) < 1.96 * std)
    what = f"prediction at {n} points, {N_NEIGHBORS} neighbors, from {options.middle}"
    yield row(f"{what}: seconds with deviations, two threads", min(clock, busy / 2), 60, unit="s",
              note=f"{clock:.1f} s by the clock")  # fmt: skip
    yield row(f"{what}: share of the field in its 95 % intervals", float(inside))


def million(options):
    """Everything at once: a climate-like field with a million points and four clouds over it."""
    n = options.large
    kernel = ConstantKernel(9.0) * Matern([0.02, 0.04], nu=1.5)
    drawn = make_spatial_field(n, kernel=kernel, noise_variance=0.25, mean=14.0, random_state=0)
    X, y, f = drawn.data, drawn.target, drawn.field
    clouds = np.array([[0.3, 0.3], [0.62, 0.75], [0.8, 0.25], [0.2, 0.8]])
    hidden = (((X[:, None] - clouds) ** 2).sum(axis=2) < 0.03**2).any(axis=1)
    train = ~hidden & (np.arange(n) % 10 > 0)
    model = VecchiaGPRegressor(n_neighbors=N_NEIGHBORS, normalize_y=True)
    with Threads(2):
        clock, busy, _ = timed(model.fit, X[train], y[train])
        seconds, _, (mean, std) = timed(model.predict, X[~train], return_std=True)
    what = f"field of {n} points, {train.sum()} to learn from, two threads"
    yield row(f"{what}: seconds of the fit", clock, unit="s", note=f"{model.kernel_}")
    yield row(f"{what}: seconds of the processor", busy, unit="s")
    yield row(f"{what}: seconds of {len(mean)} predictions", seconds, unit="s")
    for name, part in (("clear", ~hidden[~train]), ("in clouds", hidden[~train])):
        z = (mean - f[~train])[part] / std[part]
        yield row(f"{what}, {name}: share of the field in 95 % intervals",
                  float(np.mean(abs(z) < 1.96)),
                  note=f"mean deviation {std[part].mean():.3f}")  # fmt: skip


CLAIMS = {
    "ordering": ordering, "factor": factor, "fit": fit, "prediction": prediction,
    "million": million,
}  # fmt: skip


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(CLAIMS), help="some of: %(default)s")
    parser.add_argument("--quick", action="store_true", help="small sizes: a test of this program")
    parser.add_argument("--memory", type=int, help="only print the memory of so many points")
    output = ROOT / "benchmarks/results/gp_speed.json"
    parser.add_argument("--output", type=Path, default=output)
    parser.add_argument("--alone", action="store_true", help="without peers")
    options = parser.parse_args()
    if options.memory:
        print_memory(options.memory)
        return
    options.large, options.middle = (20_000, 2000) if options.quick else (1_000_000, 100_000)
    _gp_peers.ALONE = options.alone
    rows = []
    for name in options.only.split(","):
        rows += CLAIMS[name](options)
        print(f"{name} measured", flush=True)
    print_table(rows, "Gaussian processes on a CPU")
    write_json(options.output, rows)


if __name__ == "__main__":
    main()
