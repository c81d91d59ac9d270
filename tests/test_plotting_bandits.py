"""Pictures of bandits: what is drawn, not how it looks."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.gaussian_process.kernels import RBF

from sparseprob.bandits import RandomPolicy
from sparseprob.plotting import BatchDisplay, RegretDisplay

plt = pytest.importorskip("matplotlib.pyplot")
X = np.linspace(0, 1, 30)[::-1, None].copy()
F = np.sin(6 * X[:, 0])


@pytest.fixture
def policy():
    policy = RandomPolicy(RBF(0.2), n_initial=2, random_state=0).initialize(X)
    for _ in range(6):
        batch = policy.ask()
        policy.tell(batch, F[batch.indices])
    yield policy
    plt.close("all")


@pytest.mark.parametrize("kind", ["cumulative", "simple", "inference", "relative"])
def test_regret_is_drawn_for_each_policy(policy, kind):
    display = RegretDisplay.from_policies({"one": policy, "two": policy}, F, kind)
    first, second = display.ax_.lines[:2]
    assert_allclose(first.get_ydata(), policy.regret(F, kind))
    assert_array_equal(first.get_xdata(), np.arange(1, 6))
    assert (first.get_label(), second.get_label()) == ("one", "two")
    assert first.get_color() != second.get_color()
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["one", "two"]


def test_regret_over_rounds_of_feedback_and_over_time(policy):
    history = policy.history_[2:]
    over_rounds = RegretDisplay.from_policies({"one": policy}, F, against="batches")
    assert_array_equal(over_rounds.ax_.lines[0].get_xdata(), history["batch"])
    over_time = RegretDisplay.from_policies({"one": policy}, F, against="seconds")
    assert_array_equal(over_time.ax_.lines[0].get_xdata(), history["wall"])


def test_given_axes_are_used_and_choices_are_checked(policy):
    _, axes = plt.subplots(2)
    assert RegretDisplay.from_policies({"one": policy}, F, ax=axes[0], n_legend=0).ax_ is axes[0]
    assert axes[0].get_legend() is None
    assert BatchDisplay.from_policy(policy, axes=axes).axes_[1] is axes[1]
    with pytest.raises(ValueError, match=r"against must be one of .*, got 'hours'"):
        RegretDisplay.from_policies({"one": policy}, F, against="hours")
    with pytest.raises(ValueError, match=r"kind must be one of .*, got 'total'"):
        RegretDisplay({"one": [1.0]}, kind="total").plot()


@pytest.mark.parametrize("maximize", [True, False])
def test_pending_evaluations_are_drawn_in_their_order(policy, maximize):
    policy.set_params(maximize=maximize).initialize(X)
    policy.tell(policy.ask(), [0.5, -0.5])
    batch, log = policy.ask(1), policy._ledger.log
    log["mu_at_pick"][batch.ids], log["s_at_pick"][batch.ids] = 0.3, 4.0
    log["beta"][batch.ids] = policy._beta = 0.25
    display = BatchDisplay.from_policy(policy, label="now")
    order = np.argsort(X[:, 0])
    mean, std = policy.predict(X, return_std=True)
    line = display.ax_.lines[0]
    assert_allclose(line.get_xdata(), X[order, 0])
    assert_allclose(line.get_ydata(), mean[order], atol=1e-12)
    assert_allclose(display.width, 0.25 * std / np.sqrt(1e-2), atol=1e-12)
    assert_allclose(display.picks, X[batch.indices, 0])
    assert_allclose(display.bounds, 0.8 if maximize else -0.2)
    assert_array_equal(display.axes_[1].lines[0].get_ydata(), [1])
    assert_allclose(np.sort(display.evaluated[1]), [-0.5, 0.5])
    assert display.ax_.get_title() == "now"


def test_without_pending_evaluations_the_last_batch_is_drawn(policy):
    display = BatchDisplay.from_policy(policy)
    assert_allclose(display.picks, X[policy.history_["index"][-1:], 0])


def test_only_one_feature_can_be_drawn():
    policy = RandomPolicy(RBF(0.2), random_state=0).initialize(np.eye(4))
    with pytest.raises(ValueError, match="must have one feature to be drawn, got 4"):
        BatchDisplay.from_policy(policy)
