"""BBKB and BKB: picks as the dense oracle has them, rules of batches, regret as published."""

import re

import numpy as np
import pytest
import reference_bandits as reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.gaussian_process.kernels import RBF, DotProduct, ExpSineSquared, Matern
from threadpoolctl import threadpool_limits

from sparseprob.bandits import BBKB, BKB, BanditWarning
from sparseprob.bandits._dictionary import uniform_by_number

NOISE = 0.05
LATE = {"ratio_threshold": 4.0, "resparsify_threshold": 6.0, "beta_scale": 0.2}  # large batches


@pytest.fixture(autouse=True)
def small_products():
    """The dense oracle multiplies small matrices, where threads only wait for each other."""
    with threadpool_limits(1):
        yield


def recipe(n_candidates, seed=0):
    """A random function of unit norm on random candidates, as in the acceptance problems."""
    rng = np.random.RandomState(seed)  # noqa: NPY002 - the recipe is written in these draws
    X, centers, a = rng.rand(n_candidates, 2), rng.rand(30, 2), rng.randn(30)
    return X, RBF(0.2)(X, centers) @ a / np.sqrt(a @ RBF(0.2)(centers) @ a)


def measure(f, index, time):
    """A noisy value that depends on candidate and time only."""
    return f[index] + NOISE * (uniform_by_number([index], 1, time) - 0.5)[0] * np.sqrt(12)


def play(policy, X, f, T, flush=False):
    """Let a policy make T evaluations beyond the initial two; return its picks."""
    policy.initialize(X)
    while policy.n_evals_ < T + 2 and len(batch := policy.ask()):
        times = batch.ids
        y = [measure(f, j, t) for j, t in zip(batch.indices.tolist(), times, strict=True)]
        policy.tell(batch, y)
    return picks_of(policy)


def picks_of(policy):
    return policy.history_["index"][2 : policy.n_evals_]


def relative_regret(picks, f):
    return (f.max() - f[picks]).sum() / (len(picks) * (f.max() - f.mean()))


def policy(cls=BBKB, T=None, **options):
    options = {"noise_variance": NOISE**2, "initial": [0, 1], "random_state": 0} | options
    return cls(RBF(0.2), max_evals=None if T is None else T + 2, **options)


def oracle(f, X, model, **options):
    """The same problem for the dense reference; `model` is our policy, run already."""
    clock = iter(range(10**6))
    given = {"C": model.ratio_threshold, "C_D": model.resparsify_threshold, "qbar": model.qbar}
    return reference.Run(
        RBF(0.2), X, lambda j: measure(f, j, next(clock)),
        lambda P, n_draw: uniform_by_number(P, model._seed, n_draw),
        initial=[0, 1], lam=NOISE**2, noise=NOISE**2, delta=0.5, **(given | options),
    )  # fmt: skip


# ---- the algorithm ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"ratio_threshold": 1.5, "resparsify_threshold": None},
        {"ratio_threshold": 2.0, "resparsify_threshold": 6.0, "qbar": 1.5},
        {"ratio_threshold": 2.0, "resparsify_threshold": None, "batching": "global-local"},
    ],
    ids=["published", "two thresholds", "local"],
)
@pytest.mark.parametrize("storage", ["dense", "stream"])
def test_picks_are_those_of_the_dense_oracle(options, storage):
    X, f = recipe(200)
    ours = policy(storage=storage, **options)
    picks = play(ours, X, f, 180)
    theirs = oracle(f, X, ours, local="batching" in options)
    assert_array_equal(picks, theirs.run(len(picks)))
    assert_array_equal(ours.batch_sizes_, [len(b) for b in theirs.batches])
    assert max(ours.batch_sizes_) > 3
    assert_array_equal(ours.dictionary_indices_, theirs.D)
    assert_allclose(ours.logdet_, theirs.logdet, rtol=1e-8)
    betas = ours.history_["beta"][2:]
    assert_allclose(betas, np.repeat(theirs.betas, [len(b) for b in theirs.batches]), rtol=1e-8)
    assert_allclose(ours.mean_, theirs.mean, atol=1e-7)
    assert_allclose(ours.posterior_std_, NOISE * np.sqrt(theirs.s), rtol=1e-6)


def test_no_variance_shrinks_in_a_batch_by_more_than_the_ratio():
    X, f = recipe(120)
    ours = policy(ratio_threshold=2.0, resparsify_threshold=None)
    theirs = oracle(f, X, ours.initialize(X))
    theirs.run(200)
    ratios = [(true.max(), bound) for true, bound, _ in theirs.ratios]
    assert all(true <= bound * (1 + 1e-9) for true, bound in ratios)
    assert max(true for true, _ in ratios) > 1.5


def test_bkb_is_the_algorithm_with_batches_of_one():
    """Its width is its own; everything else is the oracle's with C = 1."""
    X, f = recipe(200)
    ours = policy(BKB)
    picks = play(ours, X, f, 80)
    ours.ratio_threshold, ours.resparsify_threshold = 1.0, None
    theirs = oracle(f, X, ours)
    theirs.beta = lambda: (
        NOISE + NOISE * np.sqrt(np.log(theirs.n.sum()) * (theirs.n * theirs.s).sum() + np.log(2.0))
    )
    assert_array_equal(picks, theirs.run(80))
    assert set(ours.batch_sizes_) == {1}
    assert_allclose(ours.beta_, theirs.beta(), rtol=1e-8)


def test_with_all_points_in_the_dictionary_it_is_exact_gpucb():
    """qbar is large, so that every draw keeps all; widths are taken from our run."""
    X, f = recipe(300)
    ours = policy(ratio_threshold=1.0, resparsify_threshold=None, qbar=1e9)
    picks = play(ours, X, f, 60)
    K, betas = RBF(0.2)(X), ours.history_["beta"][2:]
    chosen, y = [0, 1], [measure(f, 0, 0), measure(f, 1, 1)]
    for t, beta in enumerate(betas):
        A = np.linalg.inv(K[np.ix_(chosen, chosen)] + NOISE**2 * np.eye(len(chosen)))
        s = (1 - np.einsum("ia,ab,ib->i", K[:, chosen], A, K[:, chosen])) / NOISE**2
        chosen.append(int(np.argmax(K[:, chosen] @ A @ y + beta * np.sqrt(s))))
        y.append(measure(f, chosen[-1], t + 2))
    assert_array_equal(picks, chosen[2:])


@pytest.mark.parametrize("cls", [BBKB, BKB])
def test_the_exact_start_does_not_change_the_picks(cls):
    X, f = recipe(400)
    runs = [policy(cls, exact_start=exact) for exact in (True, False)]
    first, second = (play(run, X, f, 120) for run in runs)
    assert_array_equal(first, second)
    assert runs[0].n_dictionary_builds_ < 0.7 * runs[1].n_dictionary_builds_


def test_batches_larger_than_one_are_extended_too():
    """Few candidates have large leverages at a high noise: the first batches are large."""
    X, f = recipe(200)
    options = {"noise_variance": 4.0, "ratio_threshold": 3.0, "qbar": 100.0}
    options["resparsify_threshold"] = None
    runs = [policy(exact_start=exact, **options) for exact in (True, False)]
    first, second = (play(run, X, f, 60) for run in runs)
    assert_array_equal(first, second)
    assert max(runs[0].batch_sizes_) > 3
    assert runs[0].n_dictionary_builds_ < runs[1].n_dictionary_builds_


# ---- storage, precision, ranks ------------------------------------------------------------------


@pytest.mark.parametrize("kernel", [RBF(0.2), Matern(0.3, nu=1.5), ExpSineSquared(0.8, 2.0)])
def test_storage_does_not_change_the_picks(kernel):
    X, f = recipe(500)
    picks = [play(policy(storage=s).set_params(kernel=kernel), X, f, 150) for s in
             ("dense", "stream")]  # fmt: skip
    assert_array_equal(picks[0], picks[1])


def test_long_chains_are_whitened_anew():
    X, f = recipe(100)
    runs = [policy(resparsify_threshold=limit, beta_scale=0.1) for limit in (1e3, None)]
    for run in runs:
        play(run, X, f, 900)
    assert runs[0]._model.n_chain < 4 * 130
    mean, std = runs[0].predict(X, return_std=True)
    D, P = X[runs[0].dictionary_indices_], runs[0]._ledger
    expected = reference.posterior(RBF(0.2), D, X, P.points, P.counts, P.sums, NOISE**2)
    assert_allclose(mean, expected[0], atol=1e-6)
    assert_allclose(std, NOISE * np.sqrt(expected[1]), rtol=1e-5)


def test_single_precision_candidates():
    X, f = recipe(500)
    X32 = X.astype(np.float32)
    ours = policy()
    picks = play(ours, X32, f, 300)
    assert ours._scores.W.dtype == np.float32
    assert np.shares_memory(ours._candidates.X, X32)
    double = play(policy(), X, f, 300)
    assert abs(relative_regret(picks, f) - relative_regret(double, f)) < 0.1


_PROGRAM = """
import sys
import numpy as np
from sparseprob import distributed, row_slice
from test_bandits_bbkb import policy, play, recipe

X, f = recipe(301)
found = []
with distributed():
    local = {"batching": "global-local", "ratio_threshold": 2.0}
    for options in ({}, {"storage": "stream"}, local):
        found.append(play(policy(**options), X[row_slice(301)], f, 100))
    from sparseprob import mpi
    if mpi.rank() == 0:
        np.save(sys.argv[1], np.concatenate(found))
"""


@pytest.mark.mpi
def test_ranks_do_not_change_the_picks(mpiexec, tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    X, f = recipe(301)
    options = ({}, {}, {"batching": "global-local", "ratio_threshold": 2.0})
    expected = np.concatenate([play(policy(**o), X, f, 100) for o in options])
    for n_ranks in (1, 2, 3):
        mpiexec(n_ranks, _PROGRAM, str(tmp_path / f"{n_ranks}.npy"))
        assert_array_equal(np.load(tmp_path / f"{n_ranks}.npy"), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("storage", ["dense", "stream"])
@pytest.mark.parametrize("options", [{}, {"batching": "global-local", "ratio_threshold": 2.0}])
def test_the_gpu_does_not_change_the_picks(storage, options):
    import cupy

    X, f = recipe(2000)
    expected = play(policy(**options), X, f, 300)
    ours = policy(storage=storage, **options)
    assert_array_equal(play(ours, cupy.asarray(X), f, 300), expected)
    assert isinstance(ours._scores.leverage, cupy.ndarray)


# ---- batches ------------------------------------------------------------------------------------


def test_threshold_one_gives_single_evaluations():
    X, f = recipe(200)
    ours = policy(ratio_threshold=1.0)
    play(ours, X, f, 50)
    assert set(ours.batch_sizes_) == {1}


def test_an_endless_threshold_gives_one_batch():
    X, f = recipe(200)
    ours = policy(T=60, ratio_threshold=1e12, resparsify_threshold=None)
    play(ours, X, f, 60)
    assert_array_equal(ours.batch_sizes_, [60])


def test_sizes_of_batches_can_be_limited():
    X, f = recipe(300)
    smallest = policy(min_batch_size=8)
    play(smallest, X, f, 64)
    assert min(smallest.batch_sizes_) >= 8
    plain = policy()
    play(plain, X, f, 64)
    assert smallest.beta_ > plain.beta_  # for the ratio that was reached
    largest = policy(max_batch_size=3, resparsify_threshold=None)
    with pytest.warns(BanditWarning, match="cut off at max_batch_size=3"):
        play(largest, X, f, 400)
    assert max(largest.batch_sizes_) == 3


def test_partial_asks_make_the_same_batch():
    X, f = recipe(300)
    whole, parts = policy(**LATE), policy(**LATE)
    for p in (whole, parts):
        play(p, X, f, 200)
    batch = whole.ask()
    assert len(batch) > 8
    pieces = [parts.ask(n) for n in (3, 5, 1)]
    pieces.append(parts.ask())
    assert_array_equal(np.concatenate([p.indices for p in pieces]), batch.indices)
    assert len(parts.ask()) == 0
    assert parts.batch_closed_


def test_feedback_in_any_order_is_the_same():
    X, f = recipe(300)
    ordered, shuffled = policy(**LATE), policy(**LATE)
    for p in (ordered, shuffled):
        play(p, X, f, 200)
    batch, other = ordered.ask(), shuffled.ask()
    y = f[batch.indices]
    ordered.tell(batch, y)
    order = np.random.default_rng(0).permutation(len(y))
    half = len(y) // 2
    for rows in (order[:half], order[half:]):
        shuffled.tell(other[rows], y[rows])
    assert_array_equal(ordered.mean_, shuffled.mean_)
    assert_array_equal(ordered.ask().indices, shuffled.ask().indices)


def test_flushed_and_pending_evaluations():
    """What was told counts in mean and variance, what is pending in the variance alone."""
    X, f = recipe(300)
    ours = policy(**LATE)
    play(ours, X, f, 200)
    batch = ours.ask()
    assert len(batch) > 8
    ours.tell(batch[:3], f[batch.indices[:3]])
    ours.flush()
    ledger, counts = ours._ledger, np.zeros(300)
    np.add.at(counts, ledger.indices, ledger.counts)
    assert counts.sum() == len(ours.history_) - len(batch) + 3
    everything = counts.copy()
    np.add.at(everything, batch.indices[3:], 1)
    D, P = X[ours.dictionary_indices_], np.flatnonzero(everything)
    S = np.zeros(300)
    np.add.at(S, ledger.indices, ledger.sums)
    mean, _ = reference.posterior(RBF(0.2), D, X, X[P], counts[P], S[P], NOISE**2)
    _, s = reference.posterior(RBF(0.2), D, X, X[P], everything[P], S[P], NOISE**2)
    assert_allclose(ours.mean_, mean, atol=1e-6)
    assert_allclose(ours.posterior_std_, NOISE * np.sqrt(s), rtol=1e-6)
    ours.tell(batch[3:], f[batch.indices[3:]])
    np.add.at(S, batch.indices[3:], f[batch.indices[3:]])
    n = everything
    D = X[ours.dictionary_indices_]
    mean, s = reference.posterior(RBF(0.2), D, X, X[P], n[P], S[P], NOISE**2)
    assert_allclose(ours.mean_, mean, atol=1e-6)
    assert_allclose(ours.posterior_std_, NOISE * np.sqrt(s), rtol=1e-6)


def test_failed_and_outside_evaluations():
    """After either the posterior is that of what was measured."""
    X, f = recipe(300)
    ours = policy(**LATE)
    play(ours, X, f, 200)
    batch = ours.ask()
    y = f[batch.indices].copy()
    y[::2] = np.nan
    ours.tell(batch, y, failed="drop")
    opened = ours.ask(1)
    ours.observe([5, 6, 5], [0.1, 0.2, 0.3])
    ours.tell(opened, f[opened.indices])
    ours.flush()
    ledger = ours._ledger
    D = X[ours.dictionary_indices_]
    mean, s = reference.posterior(
        RBF(0.2), D, X, ledger.points, ledger.counts, ledger.sums, NOISE**2
    )
    assert 5 in ledger.indices
    assert_allclose(ours.mean_, mean, atol=1e-6)
    assert_allclose(ours.posterior_std_, NOISE * np.sqrt(s), rtol=1e-6)
    assert len(ours.ask()) > 0


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio_threshold": 0.5}, "The 'ratio_threshold' parameter"),
        ({"resparsify_threshold": 1.2}, "resparsify_threshold=1.2 must be at least"),
        ({"qbar": 0.0}, "The 'qbar' parameter"),
        ({"batching": "local"}, "The 'batching' parameter"),
        ({"storage": "disk"}, "The 'storage' parameter"),
        ({"min_batch_size": 5, "max_batch_size": 4}, "max_batch_size=4 must be at least"),
        ({"max_memory_mb": -1}, "The 'max_memory_mb' parameter"),
    ],
)
def test_bad_parameters_are_refused(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        policy(**options).initialize(np.random.rand(20, 2))  # noqa: NPY002


def test_large_dictionaries_are_warned_of():
    X, f = recipe(150)
    ours = policy(qbar=1e6).set_params(kernel=RBF(0.01))
    with pytest.warns(BanditWarning, match="The dictionary has .* raise lam"):
        play(ours, X, f, 140)


def test_an_empty_draw_is_counted():
    X, f = recipe(100)
    ours = policy(qbar=1e-9, T=30)
    play(ours, X, f, 30)
    assert ours.n_dictionary_fallbacks_ > 0
    assert len(ours.dictionary_indices_) == 1


def test_repeated_candidates_and_ties():
    """Copies of a candidate are arms of their own; of equal bounds the first is taken."""
    X, f = recipe(60)
    X, f = np.repeat(X, 4, axis=0), np.repeat(f, 4)
    picks = play(policy(), X, f, 100)
    assert (picks % 4 == 0).all()
    first = play(policy().set_params(kernel=DotProduct(0.3)), X, f, 30)
    assert (first % 4 == 0).all()


# ---- figures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "regret", "batches"),
    [
        ({"ratio_threshold": 1.1, "resparsify_threshold": None}, 0.297, 262),
        ({"ratio_threshold": 2.0, "resparsify_threshold": None}, 0.431, 145),
        ({"ratio_threshold": 2.0, "resparsify_threshold": None, "batching": "global-local"},
         0.516, 63),
    ],
)  # fmt: skip
def test_regret_of_the_small_problem(options, regret, batches):
    """One seed of the authors' program; runs differ by their draws and noise."""
    X, f = recipe(1000)
    ours = policy(T=500, **options)
    assert abs(relative_regret(play(ours, X, f, 500), f) - regret) < 0.05
    assert abs(ours.n_batches_ - batches) < 0.15 * batches


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({}, 0.22),
        ({"ratio_threshold": 1.1, "resparsify_threshold": 4.0}, 0.165),
        ({"ratio_threshold": 1.1, "resparsify_threshold": None}, 0.165),
        ({"ratio_threshold": 2.0, "resparsify_threshold": None}, 0.26),
        ({"ratio_threshold": 2.0, "batching": "global-local"}, 0.32),
    ],
)
def test_regret_of_the_large_problem(options, bound):
    X, f = recipe(5000)
    ours = policy(T=2000, **options)
    picks = play(ours, X, f, 2000)
    assert relative_regret(picks, f) < bound
    if bound == 0.26:
        sizes = np.array(ours.batch_sizes_)
        assert len(sizes) < 260
        assert (sizes[19:30] == 1).all()
        assert sizes[-11:-1].mean() >= 30
        best = np.argsort(f)[-250:]
        assert np.isin(picks[-sizes[-11:].sum() :], best).mean() >= 0.5
