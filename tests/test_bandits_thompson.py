"""Policies that draw at random, and elimination: GPTS, EpsilonGreedy, RandomPolicy, BPE."""

import numpy as np
import pytest
import reference_bandits_exact as reference
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import chi2
from sklearn.gaussian_process.kernels import RBF, DotProduct, Matern
from test_bandits_exact import LAM, X, feedback, told, value
from threadpoolctl import threadpool_limits

from sparseprob.bandits import BPE, GPTS, EpsilonGreedy, RandomPolicy
from sparseprob.bandits._bpe import planned_sizes
from sparseprob.bandits._candidates import Candidates
from sparseprob.bandits._kernel import KernelFunction
from sparseprob.bandits._prior_root import PriorRoot


@pytest.fixture(autouse=True)
def one_thread():
    """Small dense matrices: threads of BLAS would only wait for each other."""
    with threadpool_limits(1, user_api="blas"):
        yield


KERNEL = RBF(0.3)


def root_of(kernel, candidates=X, max_bytes=np.inf):
    return PriorRoot(Candidates(candidates), KernelFunction(kernel, candidates.shape[1]), max_bytes)


def rows_of(root):
    return np.concatenate(root._blocks)[: root.rank]


@pytest.mark.parametrize("kernel", [RBF(0.3), DotProduct(0.5), Matern(0.2, nu=0.5)], ids=str)
def test_the_root_of_the_prior_is_exact(kernel):
    root = root_of(kernel)
    F = rows_of(root)
    assert root.is_exact
    assert_allclose(F.T @ F, kernel(X), atol=2e-9)
    assert root.rank == 3 if isinstance(kernel, DotProduct) else root.rank <= 150


def test_a_rough_prior_of_few_candidates_has_a_dense_root():
    many = np.random.default_rng(1).random((700, 2))
    root = root_of(Matern(0.2, nu=0.5), many)
    assert root.rank == 700
    assert_allclose(rows_of(root).T @ rows_of(root), Matern(0.2, nu=0.5)(many), atol=1e-9)
    again = root_of(RBF(0.5), np.concatenate([many, many]))  # singular, and yet no jitter
    assert again.rank < 100


def test_a_rough_prior_of_many_candidates_keeps_its_variances(monkeypatch):
    monkeypatch.setattr("sparseprob.bandits._prior_root.EXACT", 100)
    kernel = Matern(0.2, nu=0.5)
    root = root_of(kernel, max_bytes=8 * 150 * 60)
    assert not root.is_exact
    assert root.rank == 60
    F = rows_of(root)
    assert_allclose((F**2).sum(axis=0) + root._left, 1.0, rtol=1e-12)
    rng = np.random.default_rng(2)
    draws = np.array([root.draw(rng) for _ in range(2000)])
    # variance of a mean of squares of n normal variables: 2 / n
    assert (np.abs((draws**2).mean(axis=0) - 1) < 4.5 * (2 / 2000) ** 0.5).all()


def standard_errors(covariance, n):
    """Standard errors of the entries of the second moments of n normal vectors."""
    variances = np.diag(covariance)
    return np.sqrt((np.outer(variances, variances) + covariance**2) / n)


def test_draws_have_the_moments_of_the_posterior():
    policy = GPTS(KERNEL, batch_size=4, beta=0.3, noise_variance=LAM, max_evals=30, random_state=0)
    indices = told(policy)
    y = policy.history_["y"]
    n = 3000
    draws = np.array([policy._draw(number) for number in range(100, 100 + n)])
    P = X[indices]
    solved = np.linalg.solve(KERNEL(P) + LAM * np.eye(len(P)), KERNEL(P, X))
    mean, covariance = solved.T @ y, KERNEL(X) - KERNEL(X, P) @ solved
    covariance *= 0.3**2 / LAM  # the width is on the root of the leverage
    some = np.arange(0, 150, 10)
    z = (draws.mean(axis=0) - mean) / np.sqrt(np.diag(covariance) / n)
    assert (np.abs(z[some]) < 4).all()
    centered = (draws - mean)[:, some]
    found, expected = centered.T @ centered / n, covariance[np.ix_(some, some)]
    assert (np.abs(found - expected) < 4 * standard_errors(expected, n)).all()


@pytest.mark.parametrize("beta", ["igp", "posterior"])
def test_widths_of_draws(beta):
    policy = GPTS(KERNEL, beta=beta, noise_variance=LAM, max_evals=30, random_state=0)
    information = reference.logdet(KERNEL, LAM, X, told(policy))
    expected = LAM**0.5
    if beta == "igp":  # v = F + xi / sqrt(lam) sqrt(2 (gamma + 1 + log(2 / delta)))
        expected *= 1 + np.sqrt(2 * (information / 2 + 1 + np.log(2 * 30)))
    assert_allclose(policy.beta_, expected, rtol=1e-10)


def test_picks_are_as_probable_as_they_are_best():
    """Shares of picks against shares of the largest values of exact draws."""
    few = X[:6]
    policy = GPTS(KERNEL, batch_size=3000, beta="posterior", noise_variance=0.5, initial=[0, 1])
    policy.set_params(random_state=0).initialize(few)
    policy.tell(policy.ask(), [0.5, -0.5])
    picks = policy.ask().indices
    P = few[:2]
    solved = np.linalg.solve(KERNEL(P) + 0.5 * np.eye(2), KERNEL(P, few))
    mean, covariance = solved.T @ [0.5, -0.5], KERNEL(few) - KERNEL(few, P) @ solved
    n = 300_000
    draws = np.random.default_rng(3).multivariate_normal(mean, covariance, n)
    expected = np.bincount(draws.argmax(axis=1), minlength=6) / n
    found = np.bincount(picks, minlength=6) / len(picks)
    error = np.sqrt(expected * (1 - expected) * (1 / len(picks) + 1 / n))
    assert (np.abs(found - expected) < 4 * error + 1e-12).all()
    assert (found > 0).sum() > 2


def test_asynchronous_sampling_never_waits():
    policy = GPTS(KERNEL, batch_size=None, beta="posterior", noise_variance=LAM, random_state=0)
    policy.initialize(X)
    start = policy.ask(2)
    policy.tell(start, value(X[start.indices]))
    busy, rng, order = [policy.ask() for _ in range(4)], np.random.default_rng(4), []
    before = policy.posterior_std_
    busy.append(policy.ask())
    assert_array_equal(policy.posterior_std_, before)  # pending ones count nowhere
    for _ in range(40):
        done = busy.pop(rng.integers(len(busy)))
        assert len(done) == 1
        policy.tell(done, value(X[done.indices]))
        order.append(int(done.indices[0]))
        known = np.array([*start.indices, *order])
        _, leverage = reference.posterior(KERNEL, LAM, X, known)
        assert_allclose(policy.leverage_, leverage, rtol=1e-6)
        busy.append(policy.ask())
    mean, _ = reference.posterior(KERNEL, LAM, X, known, value(X[known]))
    assert_allclose(policy.mean_, mean, atol=1e-9)
    assert len(policy.pending_) == 5


def test_picks_of_a_batch_do_not_depend_on_how_it_is_asked_for():
    options = {"batch_size": 6, "noise_variance": LAM, "max_evals": 32, "random_state": 0}
    expected = told(GPTS(KERNEL, **options))
    policy = GPTS(KERNEL, **options).initialize(X)
    while policy.n_evals_ < 32:
        batches = [policy.ask(n) for n in (1, 3, None)]
        for batch in batches[::-1]:
            y = [feedback(t, i) for t, i in zip(batch.ids, batch.indices, strict=True)]
            policy.tell(batch, y)
    assert_array_equal(policy.history_["index"], expected)
    assert policy._select() == policy._select()


def test_sizes_of_the_batches_of_elimination():
    """N_i = ceil(sqrt(T N_{i-1})), by hand for T = 100, until the budget is used up."""
    assert planned_sizes(100) == [10, 32, 57, 1]
    assert planned_sizes(1) == [1]
    for budget in (7, 500, 10_000):
        sizes = planned_sizes(budget)
        assert sum(sizes) == budget
        for before, size in zip([1, *sizes], sizes[:-1], strict=False):
            assert size == int(np.ceil(np.sqrt(budget * before)))
        assert len(sizes) <= 2 + np.log2(np.log2(max(budget, 4))) + 2
    policy = BPE(KERNEL, noise_variance=LAM, max_evals=102, random_state=0)
    told(policy)
    assert_array_equal(policy.batch_sizes_, [10, 32, 57, 1])


def test_elimination_is_that_of_the_dense_posterior():
    policy = BPE(KERNEL, beta=0.15, noise_variance=LAM, max_evals=102, initial=[0, 1])
    picks = told(policy)
    y = policy.history_["y"]
    active, start = np.ones(150, dtype=bool), 2
    remaining = []
    for size in (10, 32, 57, 1):
        mine: list[int] = []
        for _ in range(size):
            _, leverage = reference.posterior(KERNEL, LAM, X, mine)
            mine.append(int(np.argmax(np.where(active, leverage, -np.inf))))
        assert_array_equal(picks[start : start + size], mine)
        mean, leverage = reference.posterior(KERNEL, LAM, X, mine, y[start : start + size])
        radius = 0.15 * np.sqrt(leverage)
        active &= mean + radius >= (mean - radius)[active].max()
        remaining.append(active.sum())
        start += size
    assert 1 <= remaining[-1] < remaining[0] < 150
    assert policy.n_active_ == remaining[-1]
    mean, _ = reference.posterior(KERNEL, LAM, X, picks, y)  # the answers use all feedback
    assert_allclose(policy.mean_, mean, atol=1e-8)


def test_width_of_elimination_and_failed_evaluations():
    policy = BPE(KERNEL, noise_variance=LAM, delta=0.1, max_evals=102, random_state=0).initialize(X)
    rng = np.random.default_rng(5)
    while len(batch := policy.ask()):
        y = value(X[batch.indices])
        policy.tell(batch, np.where(rng.random(len(y)) < 0.3, np.nan, y), failed="drop")
    assert_allclose(policy.beta_, 0.1 * (1 + np.sqrt(2 * np.log(150 * 4 / 0.1))), rtol=1e-12)
    assert_array_equal(policy.batch_sizes_, [10, 32, 57, 1])
    assert policy.n_active_ >= 1
    assert abs(policy.best_.mean - value(X).max()) < 0.1


def test_elimination_keeps_the_best_candidate():
    """At the theory's width, in all of 10 runs with noise."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        policy = BPE(KERNEL, noise_variance=LAM, fnorm=3.0, max_evals=302, random_state=seed)
        policy.initialize(X)
        while len(batch := policy.ask()):
            policy.tell(batch, value(X[batch.indices]) + 0.1 * rng.normal(size=len(batch)))
        assert policy._active[np.argmax(value(X))]
        assert policy.n_active_ < 150


def test_greedy_picks_maximize_the_mean():
    policy = EpsilonGreedy(KERNEL, epsilon=0.0, noise_variance=LAM, random_state=0).initialize(X)
    batch = policy.ask()
    for _ in range(40):
        y = [feedback(t, i) for t, i in zip(batch.ids, batch.indices, strict=True)]
        mean = policy.tell(batch, y).mean_
        batch = policy.ask()
        assert mean[batch.indices[0]] >= mean.max() - 1e-12


def test_a_share_of_epsilon_is_drawn_uniformly():
    policy = EpsilonGreedy(KERNEL, epsilon=0.3, batch_size=2000, noise_variance=LAM, initial=[0])
    policy.set_params(random_state=0).initialize(X)
    policy.tell(policy.ask(), [1.0])
    best = int(np.argmax(policy.mean_))
    picks = policy.ask().indices
    n_random = (picks != best).sum()
    share = 0.3 * 149 / 150
    assert abs(n_random - 2000 * share) < 4 * np.sqrt(2000 * share * (1 - share))
    counts = np.bincount(picks[picks != best], minlength=150)
    uniform = n_random / 149
    statistic = ((counts[np.arange(150) != best] - uniform) ** 2 / uniform).sum()
    assert statistic < chi2.isf(1e-4, 148)


def test_random_picks_are_uniform():
    policy = RandomPolicy(KERNEL, batch_size=3000, noise_variance=LAM, random_state=0).initialize(X)
    policy.tell(policy.ask(), [0.0, 1.0])
    batch = policy.ask()
    counts = np.bincount(batch.indices, minlength=150)
    assert ((counts - 20.0) ** 2 / 20.0).sum() < chi2.isf(1e-4, 149)
    policy.tell(batch, value(X[batch.indices]))
    history = policy.history_
    mean, leverage = reference.posterior(KERNEL, LAM, X, history["index"], history["y"])
    assert_allclose(policy.mean_, mean, atol=1e-7)
    assert_allclose(policy.leverage_, leverage, atol=1e-6)
    assert policy.batch_sizes_.tolist() == [3000]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (BPE(), "BPE plans its batches and needs max_evals"),
        (BPE(beta="igp", max_evals=10), "'beta' parameter of BPE"),
        (GPTS(batch_size=0), "'batch_size' parameter of GPTS"),
        (GPTS(beta="srinivas"), "'beta' parameter of GPTS"),
        (EpsilonGreedy(epsilon=1.5), "'epsilon' parameter of EpsilonGreedy"),
        (EpsilonGreedy(batch_size=0), "'batch_size' parameter of EpsilonGreedy"),
        (RandomPolicy(batch_size=0), "'batch_size' parameter of RandomPolicy"),
    ],
)
def test_bad_parameters(policy, message):
    with pytest.raises(ValueError, match=message):
        policy.initialize(X)
