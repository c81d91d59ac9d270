"""Regret: computed by hand, invariances, the recommended candidate against dense algebra."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.gaussian_process.kernels import RBF

from sparseprob.bandits import RandomPolicy
from sparseprob.bandits._regret import recommended_indices, regret_of_picks

F = np.array([1.0, 4.0, 2.0, 0.0])  # mean 1.75, so that a uniform choice loses 2.25


def test_kinds_computed_by_hand():
    picks = [0, 2, 2, 1, 3]
    assert_allclose(regret_of_picks(F, picks, "cumulative"), [3, 5, 7, 7, 11], rtol=1e-15)
    assert_allclose(regret_of_picks(F, picks, "simple"), [3, 2, 2, 0, 0], rtol=1e-15)
    relative = np.array([3, 5, 7, 7, 11]) / (2.25 * np.arange(1, 6))
    assert_allclose(regret_of_picks(F, picks, "relative"), relative, rtol=1e-15)
    found = regret_of_picks(F, picks, "inference", recommended=[0, 2, 2, 1, 1])
    assert_allclose(found, [3, 2, 2, 0, 0], rtol=1e-15)


def test_minimizing_is_maximizing_the_opposite():
    for kind in ("cumulative", "simple", "relative"):
        found = regret_of_picks(F, [0, 2, 3], kind, maximize=False)
        assert_allclose(found, regret_of_picks(-F, [0, 2, 3], kind), rtol=1e-15)


def test_regret_grows_with_scale_and_ignores_a_shift():
    for kind, factor in (("cumulative", 3.0), ("simple", 3.0), ("relative", 1.0)):
        expected = factor * regret_of_picks(F, [3, 0, 1], kind)
        assert_allclose(regret_of_picks(3 * F + 5, [3, 0, 1], kind), expected, rtol=1e-14)


def test_uniform_choice_has_a_relative_regret_of_one():
    assert_allclose(regret_of_picks(F, [3, 2, 1, 0], "relative")[-1], 1.0, rtol=1e-15)


def played(maximize=True, n_evals=12, **options):
    """A policy that has run on twenty points, with one evaluation that failed."""
    rng = np.random.default_rng(0)
    X = rng.random((20, 1))
    policy = RandomPolicy(RBF(0.3), n_initial=3, maximize=maximize, random_state=1, **options)
    policy.initialize(X)
    while len(policy.history_) < n_evals:
        batch = policy.ask(n_evals - len(policy.history_))
        y = np.sin(6 * X[batch.indices, 0]) + 0.1 * rng.normal(size=len(batch))
        y = np.where(batch.ids == 7, np.nan, y)
        policy.tell(batch, y, failed="drop")
    return policy, np.sin(6 * X[:, 0])


def test_initial_design_outside_data_and_pending_ones_are_not_counted():
    policy, f = played()
    picks = policy.history_["index"][3:]
    assert_allclose(policy.regret(f), np.cumsum(f.max() - f[picks]), rtol=1e-14)
    policy.observe([4, 5], [0.0, 0.0])
    policy.ask(1)
    assert len(policy.regret(f)) == len(picks)
    untouched = RandomPolicy(RBF(0.3), random_state=1).initialize(np.eye(20, 1))
    assert untouched.regret(f).shape == (0,)
    assert untouched.regret(f, "inference").shape == (0,)


@pytest.mark.parametrize("maximize", [True, False])
@pytest.mark.parametrize("normalize_y", [False, "initial"])
def test_recommended_candidate_is_the_best_of_the_exact_posterior(maximize, normalize_y):
    policy, f = played(maximize, normalize_y=normalize_y)
    X, history = policy._candidates.X, policy.history_
    start = history["y"][:3]
    shift, scale = (start.mean(), start.std()) if normalize_y else (0.0, 1.0)
    expected = []
    for t in range(3, len(history) + 1):
        seen = history[:t][~history["failed"][:t]]
        P, y = X[seen["index"]], (seen["y"] - shift) / scale
        weights = np.linalg.solve(RBF(0.3)(P) + 1e-2 * np.eye(len(P)), y)
        mean = RBF(0.3)(P) @ weights
        expected.append(seen["index"][np.argmax(mean if maximize else -mean)])
    assert_array_equal(recommended_indices(policy)[2:], expected)
    gaps = f.max() - f if maximize else f - f.min()
    assert_allclose(policy.regret(f, "inference"), gaps[expected[1:]], rtol=1e-14)
    assert policy.best_.index == expected[-1]


def test_bad_input():
    with pytest.raises(ValueError, match="kind must be one of .*got 'total'"):
        regret_of_picks(F, [0], "total")
    with pytest.raises(ValueError, match=r"got shape \(4,\) and an evaluation of candidate 4"):
        regret_of_picks(F, [0, 4])
    with pytest.raises(ValueError, match="f_values must be finite"):
        regret_of_picks([1.0, np.nan], [0])
    with pytest.raises(ValueError, match="not defined where all f_values are equal"):
        regret_of_picks(np.ones(3), [0], "relative")
    with pytest.raises(ValueError, match="needs the candidate recommended"):
        regret_of_picks(F, [0], "inference")
    policy, _ = played(n_evals=5)
    with pytest.raises(ValueError, match="one value for each of 20 candidates, got 21"):
        policy.regret(np.zeros(21))


def test_values_of_any_array_library(xp):
    assert_allclose(regret_of_picks(xp.asarray(F), [0, 2]), [3, 5], rtol=1e-15)
