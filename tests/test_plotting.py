"""Pictures: what is drawn, not how it looks."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from sparseprob.dictionary import BinarySparseCoding, DiscreteSparseCoding
from sparseprob.plotting import DictionaryDisplay, HistoryDisplay, InferenceDisplay

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture
def fitted(bars):
    yield BinarySparseCoding(8, max_iter=12, schedule="anneal", tol=0, random_state=1).fit(
        bars.data
    )
    plt.close("all")


def test_every_atom_is_in_the_mosaic_scaled_around_zero(fitted):
    display = DictionaryDisplay.from_estimator(fitted, n_columns=4)
    canvas = display.ax_.images[0].get_array()
    assert canvas.shape == (2 * 5 + 1, 4 * 5 + 1)
    for i, atom in enumerate(fitted.components_.reshape(8, 4, 4)):
        top, left = (i // 4) * 5 + 1, (i % 4) * 5 + 1
        assert_allclose(canvas[top : top + 4, left : left + 4], atom / np.abs(atom).max())
    assert display.ax_.images[0].get_clim() == (-1, 1)


def test_given_axes_are_used_and_shapes_are_checked(fitted):
    _, ax = plt.subplots()
    assert DictionaryDisplay.from_estimator(fitted, ax=ax, image_shape=(2, 8)).ax_ is ax
    with pytest.raises(ValueError, match=r"image_shape must have 16 pixels, got \(3, 3\)"):
        DictionaryDisplay.from_estimator(fitted, image_shape=(3, 3))


def test_curves_show_what_changed(fitted):
    display = HistoryDisplay.from_estimator(fitted)
    assert len(display.axes_) == 4
    assert_allclose(display.axes_[0].lines[0].get_ydata(), fitted.history_["lower_bound"])
    still = BinarySparseCoding(3, max_iter=3, tol=0, learn=(), random_state=0)
    assert len(HistoryDisplay.from_estimator(still.fit(np.eye(9, 4) ** 2)).axes_) == 1


def test_causes_are_shown_with_their_probabilities(fitted, bars):
    X = bars.data[:9]
    display = InferenceDisplay.from_estimator(fitted, X, n_causes=3)
    assert display.axes_.shape == (5, 11)
    assert_allclose(display.axes_[0, 0].images[0].get_array(), X[0].reshape(4, 4))
    mean = fitted.reconstruct(X)[0].reshape(4, 4)
    assert_allclose(display.axes_[0, 1].images[0].get_array(), mean)
    largest = fitted.infer(X, 1).marginals[0].max()
    assert display.axes_[0, 2].get_xlabel() == f"{largest:.2f}"


def test_causes_of_any_alphabet_are_shown_with_the_probability_of_being_active(bars):
    fitted = DiscreteSparseCoding(3, values=(-1, 0, 2), max_iter=3, tol=0, random_state=0)
    display = InferenceDisplay.from_estimator(fitted.fit(bars.data), bars.data[:4])
    active = 1 - fitted.infer(bars.data[:4]).marginals[:, :, 1]
    assert_allclose(display.marginals, active, atol=1e-12)
    plt.close("all")
