"""Dictionaries, sparse posteriors and the scores of candidates, against dense formulas."""

import numpy as np
import pytest
import reference_bandits as reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    DotProduct,
    ExpSineSquared,
    Matern,
    RationalQuadratic,
)

from sparseprob._kernels import _candidates_numba as loops
from sparseprob.bandits._candidate_scores import CandidateScores
from sparseprob.bandits._cross_covariance import CrossCovariance
from sparseprob.bandits._dictionary import draw, embedding, philox, uniform_by_number
from sparseprob.bandits._kernel import KernelFunction
from sparseprob.bandits._sparse_posterior import SparsePosterior

KERNELS = [
    RBF([0.2, 0.4]),
    Matern(0.3, nu=0.5),
    2.0 * Matern(0.3, nu=1.5) + 0.5 * RBF(0.1),
    Matern([0.5, 0.2], nu=2.5),
    RationalQuadratic(0.3, 1.5),
    DotProduct(0.5),
    ConstantKernel(0.7) * ExpSineSquared(0.8, 2.0),
]
LAM = 0.01


def problem(n=60, q=12, m=7, seed=0, kernel=KERNELS[0]):
    """Candidates, evaluated ones with counts and sums, and a model with a dictionary of them."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, 2))
    evaluated = np.sort(rng.choice(n, q, replace=False))
    counts, sums = rng.integers(1, 5, q), rng.normal(size=q)
    model = SparsePosterior(KernelFunction(kernel, 2), LAM)
    model.build(evaluated[:m], X[evaluated[:m]], X[evaluated], counts, sums)
    return X, evaluated, counts, sums, model


def scores_of(X, model, storage="dense", max_bytes=2**30):
    scores = CandidateScores(X, model.kernel.diag(X) / LAM, storage, max_bytes)
    scores.build(model)
    return scores


# ---- dictionaries -------------------------------------------------------------------------------


def test_philox_gives_the_published_words():
    """Known answers of Random123 for philox4x32-10."""
    zeros = philox(np.zeros((4, 1), dtype=np.uint64), (0, 0))[:, 0]
    assert zeros.tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    ones = philox(np.full((4, 1), 2**32 - 1, dtype=np.uint64), (2**32 - 1, 2**32 - 1))[:, 0]
    assert ones.tolist() == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def test_a_draw_depends_on_numbers_not_on_their_order():
    numbers = np.array([5, 1, 2**40, 77])
    drawn = uniform_by_number(numbers, 3, 9)
    assert_array_equal(uniform_by_number(numbers[::-1], 3, 9), drawn[::-1])
    assert not np.isin(uniform_by_number(numbers, 3, 10), drawn).any()
    assert ((drawn >= 0) & (drawn < 1)).all()


def test_size_of_dictionaries():
    """Mean over 200 draws within 3 standard errors of the sum of the probabilities."""
    rng = np.random.default_rng(0)
    counts, leverages = rng.integers(1, 9, 50), rng.random(50) ** 3
    p = np.minimum(1.0, 2.0 * counts * leverages)
    sizes = [draw(np.arange(50), counts, leverages, 2.0, 7, b)[0].sum() for b in range(200)]
    assert abs(np.mean(sizes) - p.sum()) < 3 * np.sqrt((p * (1 - p)).sum() / 200)
    assert p.sum() <= 2.0 * (counts * leverages).sum()


def test_an_empty_draw_keeps_the_heaviest():
    kept, fallback = draw(np.arange(3), [1, 5, 2], [1e-9, 1e-9, 2e-9], 1.0, 0, 1)
    assert fallback
    assert_array_equal(kept, [False, True, False])


def test_an_embedding_reproduces_the_kernel_of_the_dictionary():
    D = np.random.default_rng(0).random((9, 2))
    D = np.concatenate([D, D[:2]])  # rank is lost
    K = RBF(0.3)(D)
    E = embedding(K)
    assert E.shape == (11, 9)
    assert_allclose(K @ E @ E.T @ K, K, atol=1e-10)


# ---- posterior ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: type(k).__name__)
def test_posterior_is_that_of_the_formula(kernel):
    X, evaluated, counts, sums, model = problem(kernel=kernel)
    D, P = X[evaluated[:7]], X[evaluated]
    mean, s = reference.posterior(kernel, D, X, P, counts, sums, LAM)
    got = model.at(X, model.mean_weights(X[:0]))
    assert_allclose(got[0], mean, atol=1e-8)  # sums of terms 1 / sqrt(eigenvalue)
    assert_allclose(got[1], s, rtol=1e-7)
    for storage in ("dense", "stream"):
        scores = scores_of(X, model, storage)
        assert_allclose(scores.leverage, s, rtol=1e-7)
        scores.set_means(model, model.mean_weights(X[:0]), 0.3)
        assert_allclose(scores.mean, mean, atol=1e-8)
        assert_allclose(scores.bounds, mean + 0.3 * np.sqrt(s), rtol=1e-8)
        assert_allclose(scores.leverages(model), s, rtol=1e-7)


def test_with_all_evaluated_points_it_is_exact():
    """The peer is fitted on the list of all evaluations; ours holds counts and sums."""
    X, evaluated, counts, _, model = problem(kernel=Matern(0.3, nu=2.5))
    rng = np.random.default_rng(1)
    listed = np.repeat(evaluated, counts)
    y = rng.normal(size=len(listed))
    sums = np.array([y[listed == i].sum() for i in evaluated])
    model.build(evaluated, X[evaluated], X[evaluated], counts, sums)
    peer = GaussianProcessRegressor(Matern(0.3, nu=2.5), alpha=LAM, optimizer=None)
    mean, std = peer.fit(X[listed], y).predict(X, return_std=True)
    got_mean, got_s = model.at(X, model.mean_weights(X[:0]))
    assert_allclose(got_mean, mean, atol=1e-9)
    assert_allclose(np.sqrt(LAM * got_s), std, rtol=1e-9)


def test_linear_kernel_gives_ridge_regression_and_its_ellipsoids():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    P, y = X[:10], rng.normal(size=10)
    model = SparsePosterior(KernelFunction(DotProduct(0.0), 3), LAM)
    model.build(np.arange(4), P[:4], P, np.ones(10), y)
    A = P.T @ P + LAM * np.eye(3)  # LinUCB's
    mean, s = model.at(X, model.mean_weights(X[:0]))
    assert_allclose(mean, X @ np.linalg.solve(A, P.T @ y), rtol=1e-9)
    assert_allclose(s, np.einsum("ia,ab,ib->i", X, np.linalg.inv(A), X), rtol=1e-9)


@pytest.mark.parametrize("storage", ["dense", "stream"])
def test_the_chain_is_a_recomputation(storage):
    X, evaluated, counts, sums, model = problem(seed=2)
    scores, rng = scores_of(X, model, storage), np.random.default_rng(0)
    scores.set_means(model, model.mean_weights(X[:0]), 0.5)
    now = dict(zip(evaluated.tolist(), counts.tolist(), strict=True))
    for _ in range(200):
        index = int(rng.choice(evaluated))
        model.pick(model.rows(X[index : index + 1])[0])
        now[index] += 1
        scores._refresh(model, rng.choice(60, 5, replace=False), 0.5)
    _, s = reference.posterior(
        model.kernel.kernel, X[evaluated[:7]], X, X[evaluated], list(now.values()), sums, LAM
    )
    scores._refresh(model, np.arange(60), 0.5)
    assert_allclose(scores.leverage, s, rtol=1e-8)
    assert_allclose(model.leverages_at(X), s, rtol=1e-8)
    assert_allclose(model.inverse @ model.B, np.eye(model.n_components), atol=1e-9)


def test_long_lags_are_brought_up_to_date_by_the_inverse():
    X, _, _, _, model = problem(seed=3)
    scores = scores_of(X, model)
    for index in np.random.default_rng(0).choice(60, 40):
        model.pick(model.rows(X[index : index + 1])[0])
    assert model.n_chain > model.n_components
    scores._refresh(model, np.arange(30), 0.0)
    assert_allclose(scores.leverage[:30], model.leverages_at(X[:30]), rtol=1e-9)
    again = scores_of(X, model)
    loops.refresh_together(
        np.arange(30), np.arange(30), again.W, model.chain, model.n_chain, model.inverse,
        again.origin, again.mean, 0.0, again.applied, again.leverage, again.bounds,
    )  # fmt: skip
    assert_array_equal(again.leverage, scores.leverage)


def test_pending_evaluations_count_in_variances_not_in_means():
    X, evaluated, counts, sums, model = problem(seed=4)
    mean = model.at(X, model.mean_weights(X[:0]))[0]
    pending = X[[3, 50, 3]]
    for w in model.rows(pending):
        model.pick(w)
    got, s = model.at(X, model.mean_weights(pending))
    assert_allclose(got, mean, atol=1e-9)
    P = np.concatenate([X[evaluated], pending])
    n = np.concatenate([counts, np.ones(3)])
    expected = reference.posterior(
        model.kernel.kernel, X[evaluated[:7]], X, P, n, np.append(sums, [0, 0, 0]), LAM
    )
    assert_allclose(s, expected[1], rtol=1e-8)


@pytest.mark.parametrize("storage", ["dense", "stream"])
def test_an_extended_dictionary_is_a_new_one(storage):
    X, evaluated, counts, sums, model = problem(kernel=RBF(0.25), m=12)
    scores = scores_of(X, model, storage)
    kernel, new = model.kernel.kernel, [i for i in range(60) if i not in evaluated][:70:7]
    for index in new:  # more columns than were allocated at first would do
        column = model.extend(index, X[index : index + 1])
        assert column is not None
        scores.add_column(model, X[index : index + 1], column)
    for index in new:
        model.pick(model.rows(X[index : index + 1])[0])
    model.learn(X[new], np.arange(len(new), dtype=float))
    order = np.concatenate([evaluated, new]).astype(int)
    n, S = np.append(counts, np.ones(len(new))), np.append(sums, np.arange(len(new)))
    mean, s = reference.posterior(kernel, X[order], X, X[order], n, S, LAM)
    got = model.at(X, model.mean_weights(X[:0]))
    assert_allclose(got[0], mean, atol=1e-7)
    assert_allclose(got[1], s, rtol=1e-7)
    scores._refresh(model, np.arange(60), 0.0)
    assert_allclose(scores.leverage, s, rtol=1e-7)
    assert_array_equal(model.indices, order)


def test_points_that_hardly_differ_do_not_extend():
    X, _, _, _, model = problem()
    G = model.G.copy()
    assert model.extend(99, model.cross.points[:1] + 1e-9) is None
    assert_array_equal(model.G, G)


def test_coordinates_are_allocated_anew_when_columns_run_out():
    rng = np.random.default_rng(0)
    X = rng.random((300, 2))
    model = SparsePosterior(KernelFunction(Matern(0.05, nu=0.5), 2), LAM)
    model.build(np.arange(60), X[:60], X[:60], np.ones(60), np.zeros(60))
    scores = scores_of(X, model, "auto", max_bytes=8 * 300 * 128)
    for index in range(60, 140):
        scores.add_column(model, X[[index]], model.extend(index, X[[index]]))
        assert scores.is_dense == (index < 128)
        if index in (100, 139):
            scores.set_means(model, model.mean_weights(X[:0]), 0.0)
            assert_allclose(scores.mean, 0.0, atol=1e-12)
            assert_allclose(scores.leverages(model), model.leverages_at(X), rtol=1e-9)
            if scores.is_dense:
                assert_allclose(scores.W[:, : index + 1], model.rows(X), atol=1e-9)


# ---- picks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["dense", "stream"])
def test_lazy_picks_are_those_of_all_bounds(storage):
    X, _, _, _, model = problem(n=400, seed=5)
    X = np.concatenate([X, X[:100]])  # repeated candidates: the first of them is taken
    scores = scores_of(X, model, storage)
    scores.set_means(model, model.mean_weights(X[:0]), 0.2)
    for _ in range(60):
        bounds = np.empty(len(X))
        loops.upper_bounds(scores.mean, model.leverages_at(X), 0.2, bounds)
        row, _ = scores.top(model, 0.2)
        assert row == np.argmax(bounds)
        scores.push(model, model.pick(model.rows(X[row : row + 1])[0]), 0.2)
    assert (scores.applied < model.n_chain).sum() > 100  # many were left alone


def test_a_small_pool_of_coordinates_is_emptied(monkeypatch):
    monkeypatch.setattr("sparseprob.bandits._candidate_scores._FEWEST", 8)
    X, _, _, _, model = problem(n=300, seed=5)
    scores, kept = scores_of(X, model, "stream", 1.0), scores_of(X, model)
    for s in (scores, kept):
        s.set_means(model, model.mean_weights(X[:0]), 0.2)
    for _ in range(40):
        row, bound = kept.top(model, 0.2)
        assert scores.top(model, 0.2) == (row, pytest.approx(bound, rel=1e-9))
        model.pick(model.rows(X[row : row + 1])[0])
        scores.best = kept.best = None


def test_local_ratios():
    """Ratios of variances <= the bound of each candidate <= the bound of all.

    The ratios are those under the covariances at the start of the batch, what lies beyond the
    dictionary included. With the dictionary frozen, variances keep that part whole: their ratios
    are below the bound of all, but can exceed the candidate's own.
    """
    X, evaluated, counts, sums, model = problem(n=80, q=20, m=10, seed=6, kernel=RBF(0.3))
    picks = np.array([3, 70, 3, 41, 22])
    kernel, D, P = model.kernel.kernel, X[evaluated[:10]], X[evaluated]
    start = reference.posterior(kernel, D, X, P, counts, sums, LAM)[1]
    cov = reference.start_covariance(kernel, D, X, P, counts, LAM)
    expected = 1 + (cov[:, picks] ** 2).sum(axis=1) / start
    for storage in ("dense", "stream"):
        scores = scores_of(X, model, storage)
        ratios, s0 = scores.local_ratios(model, X[picks[:3]])
        for pick in picks[3:]:
            scores.add_local_ratio(model, X[[pick]], ratios, s0)
        assert_allclose(s0, start, rtol=1e-8)
        assert_allclose(ratios, expected, rtol=1e-8)
    to_batch, of_batch = cov[:, picks], cov[np.ix_(picks, picks)] + np.eye(5)
    true = start / (start - (to_batch * np.linalg.solve(of_batch, to_batch.T).T).sum(axis=1))
    assert (true <= expected * (1 + 1e-9)).all()
    assert true.max() > 1.5
    total = 1 + start[picks].sum()
    assert (expected <= total * (1 + 1e-9)).all()
    for w in model.rows(X[picks]):
        model.pick(w)
    frozen = start / model.leverages_at(X)
    assert (frozen <= total).all()
    assert frozen.max() > 1.5


def test_candidates_that_round_alike_are_equal():
    out = np.empty(3)
    loops.upper_bounds(np.array([0.3, 0.3 * (1 + 1e-12), 0.3 * (1 + 1e-8)]), np.zeros(3), 1.0, out)
    assert out[0] == out[1] < out[2]
    assert_allclose(out, 0.3, rtol=2e-8)


@pytest.mark.parametrize("kernel", KERNELS[:5], ids=lambda k: type(k).__name__)
def test_compiled_covariances(kernel):
    rng = np.random.default_rng(0)
    X, D, V = rng.random((33, 2)), rng.random((9, 2)), rng.normal(size=(9, 2))
    cross = CrossCovariance(KernelFunction(kernel, 2), D)
    assert_allclose(cross.rows(X), kernel(X, D), rtol=1e-12)
    assert_allclose(cross.times(X, V), kernel(X, D) @ V, rtol=1e-11)
    assert_allclose(cross.rows(X.astype(np.float32)), kernel(X, D), atol=2e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("storage", ["dense", "stream"])
def test_scores_on_a_gpu(dtype, storage):
    import cupy

    X, evaluated, counts, sums, model = problem(n=3000, seed=5, kernel=KERNELS[2])
    on_gpu = SparsePosterior(model.kernel, LAM)
    on_gpu.build(
        evaluated[:7], cupy.asarray(X[evaluated[:7]]), cupy.asarray(X[evaluated]), counts, sums
    )
    scores = scores_of(X, model)
    theirs = scores_of(cupy.asarray(X.astype(dtype)), on_gpu, storage)
    tolerance = {"rtol": 1e-7 if dtype == np.float64 else 1e-3, "atol": 1e-9}
    tolerance["atol"] = tolerance["atol"] if dtype == np.float64 else 1e-4
    for s, m in ((scores, model), (theirs, on_gpu)):
        s.set_means(m, m.mean_weights(m.cross.points[:0]), 0.2)
    for _ in range(20):
        row, bound = scores.top(model, 0.2)
        found = theirs.top(on_gpu, 0.2)
        if dtype == np.float64:
            assert found == (row, pytest.approx(bound, rel=1e-7))
        scores.push(model, model.pick(model.rows(X[row : row + 1])[0]), 0.2)
        point = cupy.asarray(X[row : row + 1])
        theirs.push(on_gpu, on_gpu.pick(on_gpu.rows(point)[0]), 0.2)
    scores._refresh(model, np.arange(3000), 0.2)
    assert_allclose(theirs.leverage.get(), scores.leverage, **tolerance)
    assert_allclose(theirs.bounds.get(), scores.bounds, **tolerance)
    ratios = [s.local_ratios(m, p)[0] for s, m, p in (
        (scores, model, X[:3]), (theirs, on_gpu, cupy.asarray(X[:3])))]  # fmt: skip
    assert_allclose(ratios[1].get(), ratios[0], **tolerance)
