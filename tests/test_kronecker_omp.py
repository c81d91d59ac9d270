"""Kronecker-structured greedy pursuit against the dense one."""

import warnings

import numpy as np
import pytest
import reference_kronecker as reference
from numpy.testing import assert_allclose, assert_array_equal
from test_kronecker_sbl import planted

from sparseprob._arrays import is_on_gpu, to_numpy
from sparseprob.callbacks import History
from sparseprob.linear_operators import KroneckerOperator
from sparseprob.metrics import nmse
from sparseprob.recovery import KroneckerOMP

SHAPES = [(6, 8), (5, 6), (3, 4)]


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("n_modes", [1, 2, 3])
@pytest.mark.parametrize("limits", [2, 3])
def test_it_is_the_pursuit_with_the_dense_dictionary(n_modes, limits, is_complex):
    factors, _, y, _ = planted(SHAPES[-n_modes:], 2, 20, is_complex=is_complex)
    scales = np.random.default_rng(1).uniform(0.1, 10, size=4)
    factors[-1] = factors[-1] * scales  # lengths of columns do not matter for the choice
    model = KroneckerOMP(limits, tol=0.05).fit(factors, y)
    supports, x = reference.greedy_pursuit(factors, y.ravel(), [limits] * n_modes, 0.05)
    for found, expected in zip(model.supports_, supports, strict=True):
        assert_array_equal(found, expected)
    assert_allclose(model.coef_.ravel(), x, atol=1e-10 * np.abs(x).max())
    residual = np.linalg.norm(y - model.predict(factors)) / np.linalg.norm(y)
    assert_allclose(model.residual_norms_[-1], residual, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
def test_noiseless_tensors_are_recovered_exactly(is_complex):
    shapes = ((20, 30), (22, 30), (25, 30))
    factors, x, y, _ = planted(shapes, 2, 300, is_complex=is_complex)
    model = KroneckerOMP().fit(factors, y)
    assert model.stop_reason_ == "tol"
    assert nmse(model.coef_, x) < 1e-20
    assert model.score(factors, y) > 1 - 1e-12


def test_the_residual_falls_and_is_orthogonal_to_what_was_chosen():
    factors, _, y, _ = planted(snr=10)
    model = KroneckerOMP([4, 4, 4], tol=0.0).fit(factors, y)
    assert model.stop_reason_ == "limits"
    assert [len(S) for S in model.supports_] == [4, 4, 4]
    assert (np.diff(model.residual_norms_) < 0).all()
    assert len(model.residual_norms_) == model.n_iter_ + 1
    chosen = [F[:, S] for F, S in zip(factors, model.supports_, strict=True)]
    residual = (y - model.predict(factors)).ravel()
    projected = KroneckerOperator(chosen).rmatvec(residual)
    assert (
        np.abs(projected).max() < 1e-10 * np.abs(KroneckerOperator(chosen).rmatvec(y.ravel())).max()
    )


def test_orthogonal_factors_choose_the_largest_coefficient_first():
    x = np.zeros((4, 5))
    x[[1, 3], [[2], [0]]] = [[3.0, 1.0], [2.0, 5.0]]
    model = KroneckerOMP(tol=0.0).fit([np.eye(4), np.eye(5)], x)
    largest = np.unravel_index(np.abs(x).argmax(), x.shape)
    assert tuple(int(S[0]) for S in model.supports_) == largest
    assert_allclose(model.coef_, x, atol=1e-14)


def test_it_stops_where_nothing_new_comes():
    """All of the best column's coordinates are in, or their supports are full."""
    y = np.array([[4.0, 0.0], [0.0, 3.0]])
    model = KroneckerOMP([1, 2], tol=0.0).fit([np.eye(2), np.eye(2)], y)
    assert model.stop_reason_ == "limits"
    assert [S.tolist() for S in model.supports_] == [[0], [0, 1]]  # only the second could grow
    x = np.zeros((3, 3))
    x[0, 0], x[1, 0] = 4.0, 3.0
    model = KroneckerOMP([1, 2], tol=0.0).fit([np.eye(3), np.eye(3)], x)
    assert model.stop_reason_ == "active_index"
    assert [S.tolist() for S in model.supports_] == [[0], [0]]
    assert model.n_iter_ == 1


def test_snapshots_share_their_supports():
    factors, x, y, _ = planted(snr=5, n_snapshots=30)
    model = KroneckerOMP(3).fit(factors, y)
    for found, axis in zip(model.supports_, range(3), strict=True):
        others = tuple(a for a in range(4) if a != axis)
        assert_array_equal(np.sort(found), np.flatnonzero((x != 0).any(axis=others)))
    assert model.coef_.shape == x.shape
    assert model.predict(factors).shape == y.shape


def test_single_precision_stays():
    factors, _, y, _ = planted(snr=20)
    double = KroneckerOMP(3).fit(factors, y)
    single = KroneckerOMP(3).fit([F.astype(np.float32) for F in factors], y)
    assert single.coef_.dtype == np.float32
    assert_allclose(single.coef_, double.coef_, atol=1e-4 * np.abs(double.coef_).max())


def test_answers_live_in_the_library_of_the_factors(xp):
    factors, _, y, _ = planted([(6, 8), (5, 6)], 2)
    expected = KroneckerOMP(2).fit(factors, y)
    model = KroneckerOMP(2).fit([xp.asarray(F) for F in factors], xp.asarray(y))
    assert type(model.coef_) is type(xp.asarray(y))
    assert_allclose(to_numpy(model.coef_), expected.coef_, rtol=1e-10)


@pytest.mark.gpu
def test_the_gpu_chooses_what_the_cpu_chooses():
    import cupy

    factors, _, y, _ = planted(snr=10, is_complex=True)
    host = KroneckerOMP(4).fit(factors, y)
    device = KroneckerOMP(4).fit([cupy.asarray(F) for F in factors], cupy.asarray(y))
    assert is_on_gpu(device.coef_)
    for found, expected in zip(device.supports_, host.supports_, strict=True):
        assert_array_equal(found, expected)
    assert_allclose(to_numpy(device.coef_), host.coef_, atol=1e-10)


def test_callbacks_see_every_step():
    factors, _, y, _ = planted(snr=300)
    history = History(("n_iter_",))
    model = KroneckerOMP().set_callbacks(history).fit(factors, y)
    assert history.records["n_iter_"] == list(range(1, model.n_iter_ + 1))


def test_nothing_measured_gives_zeros_without_a_warning():
    factors, _, y, _ = planted([(6, 8), (5, 6)], 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for X, Y in ((factors, 0 * y), ([factors[0], 0 * factors[1]], y)):
            model = KroneckerOMP().fit(X, Y)
            assert not model.coef_.any()
            assert model.stop_reason_ == "zero_target"
    factors[0][:, 2] = 0
    assert 2 not in KroneckerOMP(tol=0.0).fit(factors, y).supports_[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_nonzero_per_mode": 0}, "'n_nonzero_per_mode' parameter"),
        ({"n_nonzero_per_mode": 6}, r"from 1 to min\(M_k, N_k\), here \[6, 5\], got 6"),
        ({"n_nonzero_per_mode": [2, 2.5]}, r"must be integers"),
        ({"n_nonzero_per_mode": [2]}, "has 1 values for 2 factors"),
        ({"tol": -0.1}, "'tol' parameter"),
    ],
)
def test_bad_input(options, message):
    factors, _, y, _ = planted([(6, 8), (5, 6)], 2)
    with pytest.raises(ValueError, match=message):
        KroneckerOMP(**options).fit(factors, y)
    with pytest.raises(ValueError, match="need 30 measurements"):
        KroneckerOMP().fit(factors, y[:3])
