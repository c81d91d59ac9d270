"""Policies with an exact posterior: GPUCB, GPBUCB, and the posterior they share."""

import numpy as np
import pytest
import reference_bandits_exact as reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Matern
from threadpoolctl import threadpool_limits

from sparseprob.bandits import BPE, GPBUCB, GPTS, GPUCB, MiniGPUCB
from sparseprob.bandits._candidates import Candidates
from sparseprob.bandits._dense_posterior import posterior_from_counts
from sparseprob.bandits._exact_posterior import ExactPosterior
from sparseprob.bandits._kernel import KernelFunction
from sparseprob.bandits._ledger import Ledger


@pytest.fixture(autouse=True)
def one_thread():
    """Small dense matrices: threads of BLAS would only wait for each other."""
    with threadpool_limits(1, user_api="blas"):
        yield


LAM = 0.01
X = np.random.default_rng(0).random((150, 2))
NOISE = 0.1 * np.random.default_rng(1).normal(size=400)
KERNELS = [RBF(0.3), ConstantKernel(2.0) * Matern([0.4, 0.3], nu=2.5), DotProduct(0.7)]


def value(x):
    return np.sin(5 * x[..., 0]) * np.cos(3 * x[..., 1])


def feedback(t, index):
    """Value of evaluation t: the noise belongs to the time, not to the candidate."""
    return float(value(X[index]) + NOISE[t])


def told(policy, candidates=X, most=np.inf):
    """Run a policy until it asks for nothing more; return its picks."""
    policy.initialize(candidates)
    while len(batch := policy.ask()) and policy.n_evals_ < most:
        policy.tell(batch, [feedback(t, i) for t, i in zip(batch.ids, batch.indices, strict=True)])
    return policy.history_["index"]


def exact(kernel, candidates=X, lam=LAM):
    return ExactPosterior(Candidates(candidates), KernelFunction(kernel, candidates.shape[1]), lam)


def check(model, kernel, indices, y=None, rtol=1e-8):
    """Compare with the dense formulas; leverages are differences of numbers of about 1 / lam."""
    mean, leverage = reference.posterior(kernel, model.lam, X, indices, y)
    assert_allclose(model.leverage, leverage, rtol=rtol, atol=1e-10)
    assert_allclose(model.at(X)[1], leverage, rtol=rtol, atol=1e-10)
    if y is not None:
        assert_allclose(model.mean, mean, atol=1e-9)
        assert_allclose(model.at(X)[0], mean, atol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_posterior_is_that_of_the_dense_formulas(kernel):
    """With repeats, one after another and several at once, whether or not a mean is asked for."""
    rng, model, indices, y = np.random.default_rng(2), exact(kernel), [], []
    for step in range(60):
        index, times = int(rng.integers(25)), int(rng.integers(1, 4))
        assert_allclose(
            model.take(index, times),
            reference.posterior(kernel, LAM, X, indices)[1][index],
            rtol=1e-8,
        )
        indices += [index] * times
        if step % 3:
            new = rng.normal(size=len(indices) - len(y))
            model.learn(np.array(indices[len(y) :]), new)
            y += new.tolist()
        check(model, kernel, indices, y if step % 3 else None)
        if step % 3:
            assert_allclose(model.logdet, reference.logdet(kernel, LAM, X, indices), rtol=1e-10)
    assert len(model.indices) <= 25
    assert model.counts.sum() == len(indices)


def test_more_distinct_candidates_than_a_block_of_rows_holds():
    kernel, rng = Matern(0.2, nu=1.5), np.random.default_rng(3)
    indices, y = rng.permutation(150)[:140], rng.normal(size=140)
    model = exact(kernel)
    for index in indices.tolist():
        model.take(index)
    model.learn(indices, y)
    check(model, kernel, indices, y)
    again = exact(kernel)
    again.rebuild(indices, X[indices], np.ones(140, dtype=int), y)
    check(again, kernel, indices, y)
    for later in (model, again):
        later.take(149)
        later.take(int(indices[0]), 3)
    check(again, kernel, [*indices, 149, *[indices[0]] * 3])
    assert_allclose(again.leverage, model.leverage, rtol=1e-9)


def test_means_moved_in_place_are_those_summed_anew(monkeypatch):
    """For longer than the means are moved in place at a stretch."""
    monkeypatch.setattr("sparseprob.bandits._exact_posterior._REFRESH", 20)
    kernel, rng, model = RBF(0.3), np.random.default_rng(4), exact(RBF(0.3))
    indices = rng.integers(15, size=50)
    y = rng.normal(size=50)
    for index, new in zip(indices.tolist(), y, strict=True):
        model.take(index)
        model.learn(np.array([index]), np.array([new]))
    check(model, kernel, indices, y)


def test_pending_evaluations_count_in_the_variances_only():
    kernel, model = RBF(0.3), exact(RBF(0.3))
    for index in (3, 3, 8, 20):
        model.take(index)
    model.learn(np.array([8, 3]), np.array([1.0, 2.0]))
    check(model, kernel, [3, 3, 8, 20])
    expected, _ = reference.posterior(kernel, LAM, X, [8, 3], [1.0, 2.0])
    assert_allclose(model.mean, expected, atol=1e-10)
    model.learn(np.array([3]), np.array([-1.0]))
    model.learn(np.array([20]), np.array([0.5]))
    check(model, kernel, [8, 3, 3, 20], [1.0, 2.0, -1.0, 0.5])
    model.rebuild(
        np.array([8, 3]), X[[8, 3]], np.array([1, 1]), np.array([1.0, 2.0]), pending=[20, 3, 20, 5]
    )
    check(model, kernel, [8, 3, 20, 3, 20, 5])
    assert_allclose(model.mean, expected, atol=1e-10)


def test_a_posterior_after_more_evaluations_leaves_the_one_of_now():
    model = exact(RBF(0.3))
    model.take(4)
    model.learn(np.array([4]), np.array([1.0]))
    before = model.leverage.copy(), model.at(X)[1]
    later = model.after(4, 5)
    assert_allclose(later.leverage, reference.posterior(RBF(0.3), LAM, X, [4] * 6)[1], rtol=1e-9)
    assert_allclose(later.at(X)[1], later.leverage, rtol=1e-9)
    assert_array_equal(model.leverage, before[0])
    assert_array_equal(model.at(X)[1], before[1])


def test_posterior_is_scikit_learns():
    rng = np.random.default_rng(5)
    indices, y = rng.integers(40, size=60), rng.normal(size=60)
    peer = GaussianProcessRegressor(RBF(0.3), alpha=LAM, optimizer=None).fit(X[indices], y)
    mean, std = peer.predict(X, return_std=True)
    model = exact(RBF(0.3))
    for index in indices.tolist():
        model.take(index)
    model.learn(indices, y)
    ledger = Ledger(2)
    ledger.absorb(indices, X[indices], y)
    for found in (model.at(X), posterior_from_counts(model.kernel, LAM, ledger, X)):
        assert_allclose(found[0], mean, atol=1e-9)
        assert_allclose(np.sqrt(LAM * found[1]), std, rtol=1e-7)


def test_a_linear_kernel_is_ridge_regression():
    """And the bound is that of LinUCB: its ellipsoid of parameters."""
    rng = np.random.default_rng(6)
    indices, y = rng.integers(150, size=80), rng.normal(size=80)
    model = exact(DotProduct(0.0, sigma_0_bounds="fixed"))
    for index in indices.tolist():
        model.take(index)
    model.learn(indices, y)
    V = X[indices].T @ X[indices] + LAM * np.eye(2)
    assert_allclose(model.mean, X @ np.linalg.solve(V, X[indices].T @ y), atol=1e-10)
    assert_allclose(model.leverage, np.sum(X * np.linalg.solve(V, X.T).T, axis=1), rtol=1e-7)


@pytest.mark.parametrize("rule", ["self-normalized", "srinivas", "igp"])
def test_gpucb_picks_what_the_dense_posterior_picks(rule):
    policy = GPUCB(RBF(0.3), beta=rule, noise_variance=LAM, max_evals=60, initial=[0, 1])
    picks = told(policy)
    expected, _ = reference.upper_bound_run(
        RBF(0.3), X, feedback, 60, lam=LAM, delta=1 / 60, initial=[0, 1], rule=rule,
        end=lambda leverages: True, factor=lambda leverages: 1.0,
    )  # fmt: skip
    assert_array_equal(picks, expected)
    assert (policy.batch_sizes_ == 1).all()
    assert len(set(expected)) > 5


@pytest.mark.parametrize("inflate", [False, True])
def test_gpbucb_picks_what_the_dense_posterior_picks(inflate):
    policy = GPBUCB(
        RBF(0.3), batch_size=5, inflate=inflate, noise_variance=LAM, max_evals=48, initial=[0, 1]
    )
    picks = told(policy)
    expected, sizes = reference.upper_bound_run(
        RBF(0.3), X, feedback, 48, lam=LAM, delta=1 / 48, initial=[0, 1],
        end=lambda leverages: len(leverages) == 5,
        factor=lambda leverages: np.exp(reference.gain(leverages)) if inflate else 1.0,
    )  # fmt: skip
    assert_array_equal(picks, expected)
    assert_array_equal(policy.batch_sizes_, sizes)
    assert sizes[-1] == 1  # the budget ends the last batch


def test_gpaucb_ends_batches_by_their_information():
    policy = GPBUCB(
        RBF(0.3), batch_size=None, info_threshold=0.7, noise_variance=LAM, max_evals=110,
        initial=[0, 1],
    )  # fmt: skip
    picks = told(policy)
    expected, sizes = reference.upper_bound_run(
        RBF(0.3), X, feedback, 110, lam=LAM, delta=1 / 110, initial=[0, 1],
        end=lambda leverages: reference.gain(leverages) > 0.7,
        factor=lambda leverages: np.exp(0.7),
    )  # fmt: skip
    assert_array_equal(picks, expected)
    assert_array_equal(policy.batch_sizes_, sizes)
    assert max(sizes) >= 5
    assert min(sizes[:5]) == 1


def test_widths_given_as_a_number_and_as_a_function():
    by_number = GPUCB(RBF(0.3), beta=0.2, beta_scale=0.5, noise_variance=LAM, max_evals=25)
    calls = []

    def beta(t, policy):
        calls.append((t, policy.n_evals_))
        return 0.1

    by_function = GPUCB(RBF(0.3), beta=beta, noise_variance=LAM, max_evals=25)
    for policy in (by_number, by_function):
        policy.set_params(random_state=0)
    assert_array_equal(told(by_number), told(by_function))
    assert by_number.beta_ == by_function.beta_ == 0.1
    assert calls[0] == (3, 2)
    assert [t for t, n in calls] == [n + 1 for t, n in calls]


def test_bounds_hold_for_a_function_of_the_assumed_norm():
    """The self-normalized bound: all candidates, at every time, in all of 20 runs."""
    kernel, centers = RBF(0.3), np.random.default_rng(7).random((10, 2))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        weights = rng.normal(size=10)
        f = kernel(X, centers) @ weights / np.sqrt(weights @ kernel(centers) @ weights)
        policy = GPUCB(kernel, noise_variance=LAM, delta=0.05, max_evals=40, random_state=seed)
        policy.initialize(X)
        while len(batch := policy.ask()):
            policy.tell(batch, f[batch.indices] + 0.1 * rng.normal(size=len(batch)))
            if policy.n_evals_ > 2 or policy.batch_closed_:
                radius = policy.beta_ * np.sqrt(policy.leverage_)
                assert (np.abs(f - policy.mean_) <= radius).all()


def test_batches_asked_for_in_parts_and_told_in_any_order_are_the_same():
    def policy():
        return GPBUCB(
            RBF(0.3), batch_size=6, noise_variance=LAM, max_evals=38, initial=[0, 1]
        ).initialize(X)

    whole = policy()
    expected = told(whole)
    parts, rng = policy(), np.random.default_rng(8)
    while parts.n_evals_ < 38:
        batches = [parts.ask(2), parts.ask(1), parts.ask()]
        ids = np.concatenate([batch.ids for batch in batches])
        indices = np.concatenate([batch.indices for batch in batches])
        for place in rng.permutation(len(ids)):
            one = next(b[b.ids == ids[place]] for b in batches if ids[place] in b.ids)
            parts.tell(one, [feedback(ids[place], indices[place])])
    assert_array_equal(parts.history_["index"], expected)
    assert_allclose(parts.mean_, whole.mean_, atol=1e-10)


def as_learned(history):
    """Candidates and values: a first failure is left out, others are the worst value so far."""
    indices, values, failed = [], [], set()
    for step in history:
        so_far = history[(history["batch"] <= step["batch"]) & ~history["failed"]]
        if not step["failed"]:
            indices.append(step["index"])
            values.append(step["y"])
        elif step["index"] in failed:
            indices.append(step["index"])
            values.append(so_far["y"].min())
        else:
            failed.add(step["index"])
    return indices, values


@pytest.mark.parametrize("batch_size", [1, 4])
def test_failed_evaluations_leave_mean_and_variances(batch_size):
    policy = GPBUCB(RBF(0.3), batch_size=batch_size, noise_variance=LAM, max_evals=42)
    policy.set_params(random_state=0).initialize(X)
    rng = np.random.default_rng(9)
    while len(batch := policy.ask()):
        y = value(X[batch.indices]) + 0.1 * rng.normal(size=len(batch))
        policy.tell(batch, np.where(rng.random(len(y)) < 0.3, np.nan, y), failed="drop")
    failed = policy.history_["failed"]
    assert 20 < (~failed).sum() < 42
    indices, values = as_learned(policy.history_)
    assert len(indices) > (~failed).sum()  # some candidate failed twice
    mean, leverage = reference.posterior(RBF(0.3), LAM, X, indices, values)
    assert_allclose(policy.mean_, mean, atol=1e-9)
    assert_allclose(policy.leverage_, leverage, rtol=1e-8)


def test_flush_learns_what_was_told_and_outside_data_count():
    policy = GPBUCB(RBF(0.3), batch_size=4, noise_variance=LAM, initial=[0, 1]).initialize(X)
    policy.tell(policy.ask(), [0.1, 0.2])
    batch = policy.ask()
    policy.tell(batch[:2], [0.3, 0.4])
    policy.flush()
    known = [0, 1, *batch.indices[:2]]
    mean, _ = reference.posterior(RBF(0.3), LAM, X, known, [0.1, 0.2, 0.3, 0.4])
    _, leverage = reference.posterior(RBF(0.3), LAM, X, [0, 1, *batch.indices])
    assert_allclose(policy.mean_, mean, atol=1e-9)
    assert_allclose(policy.leverage_, leverage, rtol=1e-8)
    policy.observe([7, 7], [1.0, 1.2])
    policy.tell(batch[2:], [0.5, 0.6])
    indices, y = [*known, *batch.indices[2:], 7, 7], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0, 1.2]
    mean, leverage = reference.posterior(RBF(0.3), LAM, X, indices, y)
    assert_allclose(policy.mean_, mean, atol=1e-9)
    assert_allclose(policy.leverage_, leverage, rtol=1e-8)
    assert len(policy.ask()) == 4


def test_candidates_that_repeat_are_arms_of_their_own():
    twice = np.concatenate([X[:40], X[:40]])
    policy = GPUCB(RBF(0.3), noise_variance=LAM, max_evals=60, random_state=0)
    indices = told(policy, twice)
    history = policy.history_
    mean, _ = reference.posterior(RBF(0.3), LAM, twice, indices, history["y"])
    assert_allclose(policy.mean_, mean, atol=1e-8)
    assert_allclose(policy.mean_[:40], policy.mean_[40:], atol=1e-8)


def test_minimizing_mirrors_maximizing():
    options = {"noise_variance": LAM, "max_evals": 30, "initial": [0, 1]}
    up = told(GPUCB(RBF(0.3), **options))
    down = GPUCB(RBF(0.3), maximize=False, **options).initialize(X)
    while len(batch := down.ask()):
        down.tell(batch, [-feedback(t, i) for t, i in zip(batch.ids, batch.indices, strict=True)])
    assert_array_equal(down.history_["index"], up)


@pytest.mark.parametrize(
    "policy",
    [
        GPUCB(RBF(0.3), noise_variance=LAM, max_evals=40, random_state=0),
        GPBUCB(RBF(0.3), batch_size=5, noise_variance=LAM, max_evals=40, random_state=0),
        GPTS(RBF(0.3), batch_size=5, noise_variance=LAM, max_evals=40, random_state=0),
        MiniGPUCB(RBF(0.3), noise_variance=LAM, max_evals=80, random_state=0),
        BPE(RBF(0.3), noise_variance=LAM, max_evals=40, random_state=0),
    ],
    ids=lambda policy: type(policy).__name__,
)
def test_every_array_library_gives_the_same_picks(policy, xp):
    expected = told(policy)
    mean, std = policy.predict(X[:9], return_std=True)
    assert_array_equal(told(policy, xp.asarray(X)), expected)
    found = policy.predict(xp.asarray(X[:9]), return_std=True)
    assert type(found[0]) is type(xp.asarray(X))
    assert_allclose(np.asarray([float(v) for v in found[0]]), mean, atol=1e-10)
    assert_allclose(np.asarray([float(v) for v in found[1]]), std, rtol=1e-7)


def test_single_precision_candidates_are_computed_in_double():
    single = X.astype(np.float32)
    policy = GPUCB(RBF(0.3), noise_variance=LAM, max_evals=40, initial=[0, 1])
    picks = told(policy, single)
    assert_array_equal(picks, told(policy, single.astype(np.float64)))


PROGRAM = """
import numpy as np
from sklearn.gaussian_process.kernels import RBF, Matern
from sparseprob import distributed, row_slice
from sparseprob.bandits import BPE, GPBUCB, GPTS, GPUCB, EpsilonGreedy, MiniGPUCB, RandomPolicy

X = np.random.default_rng(0).random((150, 2))
noise = 0.1 * np.random.default_rng(1).normal(size=400)
options = {"noise_variance": 0.01, "random_state": 0}
policies = [
    GPUCB(RBF(0.3), max_evals=40, **options),
    GPBUCB(RBF(0.3), batch_size=5, max_evals=40, **options),
    MiniGPUCB(RBF(0.3), max_evals=100, **options),
    GPTS(Matern(0.3, nu=1.5), batch_size=4, max_evals=40, **options),
    BPE(RBF(0.3), max_evals=40, **options),
    EpsilonGreedy(RBF(0.3), max_evals=40, **options),
    RandomPolicy(RBF(0.3), max_evals=40, **options),
]
lines = []
with distributed() as comm:
    for policy in policies:
        policy.initialize(X[row_slice(len(X))])
        while len(batch := policy.ask()):
            f = np.sin(5 * batch.X[:, 0]) * np.cos(3 * batch.X[:, 1])
            policy.tell(batch, f + noise[batch.ids])
        mean = np.concatenate(comm.allgather(policy.mean_))
        std = np.concatenate(comm.allgather(policy.posterior_std_))
        lines.append(" ".join(map(str, policy.history_["index"])))
        lines.append(f"{np.linalg.norm(mean):.8f} {np.linalg.norm(std):.8f}")
    everyone = comm.gather(lines)
    if comm.rank == 0:
        assert all(other == lines for other in everyone), everyone
        print("|".join(lines))
"""


@pytest.mark.mpi
def test_all_numbers_of_ranks_give_the_same_picks(mpiexec):
    alone, two, three = (mpiexec(n, PROGRAM).stdout.strip().split("|") for n in (1, 2, 3))
    assert two == alone
    assert three == alone
    policy = GPUCB(RBF(0.3), noise_variance=LAM, max_evals=40, random_state=0)
    assert alone[0] == " ".join(map(str, told(policy)))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (GPUCB(max_evals=10**6, max_memory_mb=0.1), "GPUCB would keep 256 rows over 150.*use BBKB"),
        (GPUCB(beta="theory"), "'beta' parameter of GPUCB"),
        (GPUCB(beta=-1.0), "'beta' parameter of GPUCB"),
        (GPUCB(max_memory_mb=0), "'max_memory_mb' parameter"),
        (GPBUCB(batch_size=None), "give batch_size or info_threshold"),
        (GPBUCB(batch_size=0), "'batch_size' parameter of GPBUCB"),
        (GPBUCB(info_threshold=0.0), "'info_threshold' parameter"),
        (GPBUCB(inflate="yes"), "'inflate' parameter"),
    ],
)
def test_bad_parameters(policy, message):
    with pytest.raises(ValueError, match=message):
        policy.initialize(X)


def test_memory_that_runs_out_loses_nothing():
    policy = GPUCB(RBF(0.02), max_memory_mb=0.2, noise_variance=LAM, random_state=0)
    with pytest.raises(ValueError, match="max_memory_mb=0; use BBKB"):
        told(policy)
    assert policy.n_evals_ == 128
    assert np.isfinite(policy.best_.mean)


def test_a_width_that_is_not_a_number():
    policy = GPUCB(RBF(0.3), beta=lambda t, policy: np.nan, random_state=0).initialize(X)
    with pytest.raises(ValueError, match="beta must give widths .* got nan at t=3"):
        policy.tell(policy.ask(), [0.0, 1.0])


def p1(n_candidates):
    rng = np.random.RandomState(0)
    candidates, centers, weights = rng.rand(n_candidates, 2), rng.rand(30, 2), rng.randn(30)
    kernel = RBF(0.2)
    f = kernel(candidates, centers) @ weights / np.sqrt(weights @ kernel(centers) @ weights)
    return candidates, f, kernel


@pytest.mark.parametrize(
    ("policy", "ratio"),
    [
        (GPUCB(), 0.31),
        (GPBUCB(batch_size=10, inflate=False), 0.31),
        (GPBUCB(batch_size=None, info_threshold=np.log(2)), 0.68),
    ],
    ids=["GPUCB", "GP-BUCB", "GP-AUCB"],
)
def test_regret_on_the_small_reference_problem(policy, ratio):
    """Shares of the regret of random picks, 500 evaluations; measured: 0.275, 0.274, 0.615."""
    candidates, f, kernel = p1(1000)
    policy.set_params(kernel=kernel, noise_variance=0.0025, delta="1/T", max_evals=502)
    policy.set_params(initial=[0, 1]).initialize(candidates)
    rng = np.random.default_rng(0)
    while len(batch := policy.ask()):
        policy.tell(batch, f[batch.indices] + 0.05 * rng.normal(size=len(batch)))
    assert policy.regret(f, "relative")[-1] < ratio
