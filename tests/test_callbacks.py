"""Checkpoints and histories."""

import numpy as np
import pytest

from sparseprob import _checkpoint
from sparseprob.callbacks import Checkpoint, History
from sparseprob.datasets import ZCAWhitening
from sparseprob.dictionary import BinarySparseCoding


def fit(bars, *callbacks, **options):
    options = {"max_iter": 7, "tol": 0, "random_state": 0, **options}
    return BinarySparseCoding(4, **options).set_callbacks(*callbacks).fit(bars.data)


def test_files_are_replaced_in_one_step(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def interrupted():
        with _checkpoint.atomic_path(path) as name:
            with open(name, "w") as file:
                file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with _checkpoint.atomic_path(path) as name, open(name, "w") as file:
        file.write("new")
    assert path.read_text() == "new"


def test_checkpoints_come_as_often_as_asked_and_at_the_end(tmp_path, bars, monkeypatch):
    saved = []
    monkeypatch.setattr(
        _checkpoint, "save", lambda path, state: saved.append(state["meta"]["n_steps"])
    )
    fit(bars, Checkpoint(tmp_path / "f.npz", every=3))
    assert saved == [3, 6, 7]


def test_a_checkpoint_holds_no_pickles_and_continues_restarts(tmp_path, bars):
    path = tmp_path / "f.npz"
    whole = fit(bars, Checkpoint(path, every=5), n_init=2)
    with np.load(path, allow_pickle=False) as content:
        assert {"params/components", "best/components"} <= set(content.files)
    resumed = BinarySparseCoding(4, max_iter=7, tol=0, n_init=2, random_state=0)
    resumed.fit(bars.data, resume_from=path)  # it was finished: nothing is left to do
    assert resumed.lower_bound_ == whole.lower_bound_


def test_histories_record_attributes(bars):
    history = History(("lower_bound_", "prior_"))
    fitted = fit(bars, history)
    np.testing.assert_array_equal(history.records["lower_bound_"], fitted.history_["lower_bound"])
    assert history.records["prior_"][-1] == fitted.prior_
    assert np.all(np.diff(history.records["seconds"]) > 0)


def test_mistakes_are_refused_in_a_sentence(tmp_path, bars):
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        Checkpoint("f.npz", every=0)
    with pytest.raises(TypeError, match="ZCAWhitening has no state to checkpoint"):
        Checkpoint(tmp_path / "f.npz").setup(ZCAWhitening(), None)


def test_a_callback_may_stop_the_fit(bars):
    class Stop:
        def setup(self, estimator, context):
            self.seen = 0

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            self.seen += context.task_name == "iteration"
            return self.seen == 4

        def teardown(self, estimator, context):
            pass

    assert fit(bars, Stop()).n_iter_ == 4
