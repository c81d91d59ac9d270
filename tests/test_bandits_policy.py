"""The ask/tell surface that all policies share: batches, feedback, failures, budget, bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    DotProduct,
    ExpSineSquared,
    Matern,
    WhiteKernel,
)

from sparseprob._arrays import to_numpy
from sparseprob.bandits import Batch, RandomPolicy
from sparseprob.bandits._kernel import KernelFunction

X = np.random.default_rng(0).random((40, 2))
F = np.sin(5 * X[:, 0]) + X[:, 1]


def policy(**parameters):
    settings = {"batch_size": 4, "random_state": 0, "n_initial": 3} | parameters
    return RandomPolicy(RBF(0.3), **settings).initialize(X)


def after_start(**parameters):
    opt = policy(**parameters)
    start = opt.ask()
    return opt.tell(start, F[start.indices])


# ---- batches -------------------------------------------------------------------------------------


def test_the_first_batch_is_the_initial_design():
    opt = policy()
    batch = opt.ask()
    assert len(batch) == len(set(batch.indices.tolist())) == 3
    assert_array_equal(batch.X, X[batch.indices])
    assert opt.batch_closed_
    assert len(opt.ask()) == 0
    assert_array_equal(opt.pending_.ids, batch.ids)
    opt.tell(batch, F[batch.indices])
    assert not opt.batch_closed_
    assert opt.n_evals_ == 3
    assert opt.n_batches_ == 0


def test_partial_asks_make_the_same_batch_as_one():
    whole = after_start().ask()
    opt = after_start()
    parts = [opt.ask(3), opt.ask(7), opt.ask(2)]
    assert [len(part) for part in parts] == [3, 1, 0]
    assert_array_equal(np.concatenate([part.indices for part in parts]), whole.indices)


def test_a_batch_ends_when_its_last_result_comes():
    opt = after_start()
    batch = opt.ask()
    opt.tell(batch[[2, 0]], F[batch.indices[[2, 0]]])
    assert opt.batch_closed_
    assert opt.n_batches_ == 0
    assert opt.n_evals_ == 5
    assert_array_equal(opt.pending_.ids, batch.ids[[1, 3]])
    opt.tell(batch[[3, 1]], F[batch.indices[[3, 1]]])
    assert not opt.batch_closed_
    assert opt.n_batches_ == 1
    assert_array_equal(opt.batch_sizes_, [4])


def test_the_order_of_results_changes_no_bit():
    order = np.array([3, 1, 0, 2])
    results = []
    for rows in (np.arange(4), order):
        opt = after_start()
        batch = opt.ask()
        opt.tell(batch[rows], F[batch.indices[rows]])
        results.append(opt.predict(X))
    assert_array_equal(*results)


def test_results_can_be_told_by_candidate():
    opt = after_start()
    batch = opt.ask()
    opt.tell(batch.indices[::-1], F[batch.indices[::-1]])
    assert opt.n_batches_ == 1
    assert_allclose(opt.history_["y"], F[opt.history_["index"]], rtol=0)


def test_flush_learns_before_the_batch_is_complete():
    opt = after_start()
    batch = opt.ask()
    before = opt.predict(X)
    opt.tell(batch[:2], F[batch.indices[:2]])
    assert_array_equal(opt.predict(X), before)
    opt.flush()
    assert np.abs(opt.predict(X) - before).max() > 1e-6
    opt.tell(batch[2:], F[batch.indices[2:]])
    assert opt.n_batches_ == 1
    other = after_start()
    other.tell(other.ask(), F[batch.indices])
    assert_allclose(opt.predict(X), other.predict(X), rtol=1e-12)


def test_flush_ends_a_batch_of_which_nothing_is_pending():
    opt = after_start()
    part = opt.ask(2)
    opt.tell(part, F[part.indices]).flush()
    assert_array_equal(opt.batch_sizes_, [2])
    assert len(opt.ask()) == 4


def test_outside_data_take_the_place_of_the_initial_design():
    opt = policy().observe([5, 5, 7], [1.0, 2.0, 0.5])
    assert_array_equal(opt.counts_[[5, 7, 8]], [2, 1, 0])
    assert opt.feedback_sums_[5] == 3.0
    assert len(opt.ask()) == 4
    assert opt.n_batches_ == 0
    assert_array_equal(opt.history_["batch"], [-1, -1, -1, 1, 1, 1, 1])


def test_the_budget_ends_the_run_in_the_middle_of_a_batch():
    opt = after_start(max_evals=9)
    sizes = []
    while len(batch := opt.ask()):
        sizes.append(len(batch))
        opt.tell(batch, F[batch.indices])
    assert sizes == [4, 2]
    assert opt.n_evals_ == 9
    assert_array_equal(opt.batch_sizes_, [4, 2])


# ---- failures ------------------------------------------------------------------------------------


def test_failed_evaluations_are_logged_and_count_for_nothing():
    opt = after_start()
    batch = opt.ask()
    y = F[batch.indices]
    y[1] = np.nan
    opt.tell(batch, y, failed="drop")
    assert opt.n_batches_ == 1
    assert opt.n_evals_ == 6
    assert_array_equal(np.flatnonzero(opt.history_["failed"]), batch.ids[[1]])
    other = after_start()
    told = other.ask()[[0, 2, 3]]
    other.tell(told, F[told.indices]).flush()
    assert_allclose(opt.predict(X), other.predict(X), rtol=1e-12)


def test_an_initial_design_that_failed_is_drawn_again():
    opt = policy()
    first = opt.ask()
    opt.tell(first, None, failed="drop")
    second = opt.ask()
    assert len(second) == 3
    assert opt.n_evals_ == 0
    with pytest.raises(NotFittedError, match="no feedback yet"):
        opt.predict(X)
    opt.tell(second, F[second.indices])
    assert opt.n_evals_ == 3
    assert len(opt.ask()) == 4


# ---- answers -------------------------------------------------------------------------------------


def test_the_posterior_is_that_of_a_gaussian_process_on_the_full_list():
    opt = after_start(noise_variance=0.04)
    batch = opt.ask()
    opt.tell(batch, F[batch.indices])
    opt.observe([3, 3, 3], [0.1, 0.4, -0.2])
    listed, y = opt.history_["index"], opt.history_["y"]
    peer = GaussianProcessRegressor(RBF(0.3), alpha=0.04, optimizer=None).fit(X[listed], y)
    mean, std = peer.predict(X, return_std=True)
    ours = opt.predict(X, return_std=True)
    assert_allclose(ours[0], mean, rtol=1e-9, atol=1e-11)
    assert_allclose(ours[1], std, rtol=1e-7)
    assert_allclose(opt.mean_, mean, rtol=1e-9, atol=1e-11)
    assert_allclose(opt.posterior_std_, std, rtol=1e-7)
    assert_allclose(opt.leverage_, std**2 / 0.04, rtol=1e-7)
    best = opt.best_
    assert best.index == listed[np.argmax(mean[listed])]
    assert_allclose(best.mean, mean[best.index], rtol=1e-9)
    assert_allclose(opt.effective_dimension_, (std[listed] ** 2).sum() / 0.04, rtol=1e-7)


def test_minimizing_is_maximizing_the_negative():
    up, down = policy(), policy(maximize=False)
    for opt, sign in ((up, 1), (down, -1)):
        for _ in range(2):
            batch = opt.ask()
            opt.tell(batch, sign * F[batch.indices])
    assert_array_equal(up.history_["index"], down.history_["index"])
    assert_array_equal(up.mean_, -down.mean_)
    assert up.best_.index == down.best_.index
    assert up.best_.mean == -down.best_.mean


def test_scaling_by_the_initial_design_stays_as_it_is():
    opt, plain = policy(normalize_y="initial"), policy()
    for p, scale, shift in ((opt, 100.0, 7.0), (plain, 1.0, 0.0)):
        for _ in range(3):
            batch = p.ask()
            p.tell(batch, scale * F[batch.indices] + shift)
    first = 100.0 * F[opt.history_["index"][:3]] + 7.0
    mean, scale = first.mean(), first.std()
    y = (opt.history_["y"] - mean) / scale
    peer = GaussianProcessRegressor(RBF(0.3), alpha=0.01, optimizer=None)
    peer.fit(X[opt.history_["index"]], y)
    expected, std = peer.predict(X, return_std=True)
    assert_allclose(opt.predict(X), mean + scale * expected, rtol=1e-8)
    assert_allclose(opt.predict(X, return_std=True)[1], scale * std, rtol=1e-7)


def test_everything_follows_the_candidates(xp):
    opt = RandomPolicy(RBF(0.3), batch_size=2, random_state=0).initialize(xp.asarray(X))
    batch = opt.ask()
    opt.tell(batch, xp.asarray(F[batch.indices]))
    assert type(opt.mean_) is type(xp.asarray(X))
    queries = xp.asarray(X[:5])
    assert type(opt.predict(queries)) is type(queries)
    expected = RandomPolicy(RBF(0.3), batch_size=2, random_state=0).initialize(X)
    expected.tell(expected.ask(), F[batch.indices])
    assert_allclose(to_numpy(opt.predict(queries)), expected.predict(X[:5]), rtol=1e-12)


def test_candidates_are_not_copied():
    Z = np.ascontiguousarray(X)
    assert RandomPolicy(RBF(0.3)).initialize(Z)._candidates.X is Z


def test_a_box_is_filled_with_sobol_points():
    opt = RandomPolicy(random_state=0).initialize(bounds=[(-1, 1), (10, 30)], n_candidates=100)
    points = opt._candidates.X
    assert points.shape == (100, 2)
    assert_allclose(points.mean(axis=0), [0.0, 20.0], atol=0.3)
    assert (points.min(axis=0) >= [-1, 10]).all()
    assert (points.max(axis=0) <= [1, 30]).all()


def test_the_initial_design_is_spread_or_given():
    opt = policy(initial="sobol", n_initial=8)
    batch = opt.ask()
    assert len(set(batch.indices.tolist())) == 8
    assert np.ptp(batch.X, axis=0).min() > 0.5
    assert_array_equal(policy(initial=[4, 2]).ask().indices, [4, 2])


def test_a_policy_clones_and_keeps_its_parameters():
    opt = policy()
    copy = clone(opt)
    assert copy.get_params().keys() == opt.get_params().keys()
    with pytest.raises(NotFittedError, match="initialize"):
        copy.ask()


@pytest.mark.mpi
def test_ranks_hold_blocks_of_candidates_and_pick_the_same(mpiexec):
    program = """
import numpy as np
from sklearn.gaussian_process.kernels import RBF
from sparseprob import distributed, mpi
from sparseprob.bandits import RandomPolicy
X = np.random.default_rng(0).random((40, 2))
F = np.sin(5 * X[:, 0]) + X[:, 1]
with distributed():
    opt = RandomPolicy(RBF(0.3), batch_size=4, random_state=None if mpi.rank() else 0)
    opt.set_params(random_state=0, initial="sobol").initialize(X[mpi.row_slice(40)])
    assert len(opt._candidates.X) < 40 or mpi.n_ranks() == 1
    for _ in range(3):
        batch = opt.ask()
        np.testing.assert_array_equal(batch.X, X[batch.indices])
        opt.tell(batch, F[batch.indices])
    mean = np.concatenate(mpi.all_gather(opt.mean_))
    if mpi.rank() == 0:
        print(opt.history_["index"].tolist(), opt.best_.index, repr(float(mean.sum())))
"""
    lines = {mpiexec(n, program).stdout for n in (1, 2, 3)}
    assert len(lines) == 1


# ---- kernels -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kernel",
    [
        RBF([0.2, 0.5]),
        2.0 * Matern(0.4, nu=1.5) + RBF(0.1),
        DotProduct(0.7),
        ConstantKernel(2.0) * ExpSineSquared(1.0, 2.0),
    ],
    ids=str,
)
def test_kernels_are_those_of_scikit_learn(kernel):
    function = KernelFunction(kernel, 2)
    assert_allclose(function(X, X[:7]), kernel(X, X[:7]), rtol=1e-13)
    assert_allclose(function.diag(X), kernel.diag(X), rtol=1e-13)


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise_variance": 0.0}, "noise_variance"),
        ({"lam": -1.0}, "lam"),
        ({"fnorm": -0.1}, "fnorm"),
        ({"delta": 1.0}, "delta"),
        ({"delta": "1/T"}, "needs max_evals"),
        ({"maximize": "yes"}, "maximize"),
        ({"normalize_y": True}, "normalize_y"),
        ({"n_initial": 41}, "more than the 40 candidates"),
        ({"initial": [3, 40]}, "numbered 0 to 39; got index 40"),
        ({"initial": [0.5]}, "list of candidate numbers"),
        ({"kernel": WhiteKernel() + RBF()}, "noise_variance"),
        ({"kernel": RBF([1.0, 1.0, 1.0])}, "dimension|length"),
    ],
)
def test_parameters_out_of_range_are_refused(change, message):
    opt = RandomPolicy(RBF(0.3)).set_params(**change)
    with pytest.raises(ValueError, match=message):
        opt.initialize(X)


def test_a_kernel_must_be_a_kernel():
    with pytest.raises(TypeError, match="kernel object of sklearn"):
        RandomPolicy("rbf").initialize(X)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.ones(3), "must have shape"),
        (np.ones((0, 2)), "at least one candidate"),
        (np.array([[0.0, np.nan]]), "candidate 0 holds NaN"),
        (np.array([[0.0], [np.inf]]), "candidate 1 holds NaN or infinity"),
        (np.array([["a"]]), "numeric"),
    ],
)
def test_candidates_must_be_finite_rows(rows, message):
    with pytest.raises(ValueError, match=message):
        RandomPolicy(RBF(), n_initial=1).initialize(rows)


@pytest.mark.parametrize("bounds", [[(1, 1)], [(2, 1)], [(0, np.inf)], [1, 2], []])
def test_bounds_must_be_a_box(bounds):
    with pytest.raises(ValueError, match="bounds must be"):
        RandomPolicy(RBF()).initialize(bounds=bounds)


def test_candidates_or_bounds_not_both():
    with pytest.raises(ValueError, match="not both"):
        RandomPolicy(RBF()).initialize(X, bounds=[(0, 1)])


def test_feedback_must_fit_what_was_asked():
    opt = after_start()
    batch = opt.ask()
    with pytest.raises(ValueError, match="one value for each of 4"):
        opt.tell(batch, [1.0, 2.0])
    with pytest.raises(ValueError, match=r"y\[2\] is nan; pass failed='drop'"):
        opt.tell(batch, [1.0, 2.0, np.nan, 0.0])
    with pytest.raises(ValueError, match="failed must be"):
        opt.tell(batch, np.ones(4), failed="ignore")
    with pytest.raises(ValueError, match="numeric"):
        opt.tell(batch, ["a"] * 4)
    with pytest.raises(ValueError, match="twice"):
        opt.tell(batch[[0, 0]], [1.0, 1.0])
    never = next(i for i in range(40) if i not in batch.indices)
    with pytest.raises(ValueError, match=f"Candidate {never} is not pending"):
        opt.tell([never], [1.0])
    with pytest.raises(ValueError, match="got index 40"):
        opt.tell([40], [1.0])
    with pytest.raises(ValueError, match="Evaluation 99 is not pending"):
        opt.tell(Batch(np.array([99]), np.array([1]), X[:1]), [1.0])
    assert len(opt.pending_) == 4  # nothing was lost or taken
    opt.tell(batch, F[batch.indices])
    with pytest.raises(ValueError, match="told before"):
        opt.tell(batch, F[batch.indices])
    with pytest.raises(ValueError, match="positive whole number"):
        opt.ask(0)
    with pytest.raises(ValueError, match=r"shape \(n_queries, 2\)"):
        opt.predict(np.ones((3, 5)))
