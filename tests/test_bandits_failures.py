"""Policies turn away from candidates that fail each time, and forget a single failure."""

import numpy as np
import pytest
from instances import POLICIES
from numpy.testing import assert_allclose
from sklearn.base import clone

from sparseprob.bandits import GPUCB

X = np.random.default_rng(0).random((300, 2))


@pytest.mark.filterwarnings("ignore:A batch was cut off at max_batch_size")
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_run_goes_on_though_the_best_candidates_always_fail(policy):
    def f(x):
        if x[0] < 0.3:
            raise OSError("diverged")
        return float(-((x[0] - 0.2) ** 2) - (x[1] - 0.5) ** 2)  # best where it fails

    model = clone(policy)
    cells = type(model).__name__ == "AdaBKB"
    model = model.initialize(bounds=[(0, 1)] * 2) if cells else model.initialize(X)
    model.run(f, 60)
    history = model.history_
    assert len(history) == 60
    assert 0 < history["failed"].sum() < 45
    assert np.isfinite(model.predict(X)).all()
    assert model.n_evals_ == (~history["failed"]).sum()


def test_one_failure_is_left_out_and_the_second_is_the_worst_value():
    model = GPUCB(n_initial=3, random_state=0).initialize(X)
    model.tell(model.ask(), [1.0, -2.0, 3.0])
    first = model.ask()
    before = model.predict(X)
    model.tell(first, None, failed="drop")
    assert_allclose(model.predict(X), before, atol=1e-12)
    again = model.ask()
    assert again.indices[0] == first.indices[0]
    model.tell(again, None, failed="drop")
    told = GPUCB(n_initial=3, random_state=0).initialize(X)
    told.tell(told.ask(), [1.0, -2.0, 3.0]).observe(first.indices, [-2.0])
    assert_allclose(model.predict(X), told.predict(X), atol=1e-9)
    assert model.counts_.sum() == 3
