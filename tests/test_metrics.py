"""Scores of reconstructions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from reference_torch_structured import cka_of_kernels

from sparseprob.metrics import linear_cka, nmse, support_recovery_rate, symbol_error_rate


def test_nmse_is_relative_and_takes_complex_numbers():
    rng = np.random.default_rng(0)
    x, e = (rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4)) for _ in range(2))
    expected = np.linalg.norm(e) ** 2 / np.linalg.norm(x) ** 2
    assert_allclose(nmse(x + e, x), expected, rtol=1e-12)
    assert_allclose(nmse(5j * (x + e), 5j * x), expected, rtol=1e-12)
    assert nmse(x, x) == 0
    assert_allclose(nmse(0 * x, x), 1, rtol=1e-15)


def test_supports_are_compared_by_moduli():
    truth = np.array([0, 2j, 0, -1, 0])
    assert support_recovery_rate(truth, truth) == 1
    assert support_recovery_rate(np.array([1, 1, 0, 1, 0]), truth) == 2 / 3
    assert support_recovery_rate(np.array([1, 0, 0, 0, 1]), truth) == 0
    assert support_recovery_rate(np.array([1e-4, 1, 0, 1, 0]), truth) == 1
    assert support_recovery_rate(np.array([1e-4, 1, 0, 1, 0]), truth, threshold=0) == 2 / 3
    assert support_recovery_rate(np.zeros(5), np.zeros(5)) == 1
    assert support_recovery_rate(np.zeros(5), truth) == 0


def test_symbols_are_decided_for_the_nearest():
    symbols = np.array([1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j])
    rng = np.random.default_rng(0)
    sent = rng.choice(symbols, size=200_000)
    noise = 0.7 * (rng.normal(size=sent.shape) + 1j * rng.normal(size=sent.shape))
    tail = 0.0765  # P(N(0, 1) > 1 / 0.7), for either part
    expected = 1 - (1 - tail) ** 2
    error = 4 * np.sqrt(expected / len(sent))  # four standard errors
    assert_allclose(symbol_error_rate(sent + noise, sent), expected, atol=error + 1e-4)
    assert symbol_error_rate(sent, sent) == 0
    # a decision for a symbol that was not sent
    assert symbol_error_rate([0.2, 0.9], [1, 1]) == 0
    assert symbol_error_rate([0.2, 0.9], [1, 1], constellation=[1, 0]) == 0.5


@pytest.mark.parametrize("widths", [(3, 5), (60, 40), (3, 100)])
def test_alignment_of_kernels(widths):
    rng = np.random.default_rng(0)
    X, Y = (rng.normal(size=(30, width)) + 1 for width in widths)
    Y[:, :3] += X[:, :3]
    found = linear_cka(X, Y)
    assert 0 < found < 1
    assert_allclose(found, cka_of_kernels(X, Y), rtol=1e-12)
    assert_allclose(linear_cka(X + 2j * X**2, Y), cka_of_kernels(X + 2j * X**2, Y), rtol=1e-12)
    Q = np.linalg.qr(rng.normal(size=(widths[0],) * 2))[0]
    assert_allclose(linear_cka(X, X @ Q), 1, rtol=1e-12)
    assert_allclose(linear_cka(X @ Q, 3 * Y - 5), found, rtol=1e-12)
    assert_allclose(linear_cka(X, X - X[:1]), 1, rtol=1e-12)


def test_arrays_of_any_library(xp):
    a, b = np.array([[3.0, 0.0]]), np.array([[3.0, 4.0]])
    assert_allclose(nmse(xp.asarray(a), xp.asarray(b)), 0.64, rtol=1e-15)
    assert support_recovery_rate(xp.asarray(a), xp.asarray(b)) == 0.5
    assert symbol_error_rate(xp.asarray(a), xp.asarray(b)) == 0.5
    X = np.random.default_rng(0).normal(size=(9, 2))
    assert_allclose(linear_cka(xp.asarray(X), xp.asarray(2 * X)), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nmse([1.0], [1.0, 2.0]), r"same shape, got \(1,\) and \(2,\)"),
        (lambda: nmse([1.0], [0.0]), "truth is zero everywhere"),
        (lambda: linear_cka(np.ones((3, 2)), np.ones((4, 2))), r"as many rows, got .*\(4, 2\)"),
        (lambda: linear_cka(np.ones(3), np.ones(3)), r"must be matrices .* got shapes \(3,\)"),
        (lambda: linear_cka(np.ones((3, 2)), np.eye(3)), "represented alike"),
        (
            lambda: support_recovery_rate([1.0], [1.0], threshold=1),
            r"threshold must be in \[0, 1\)",
        ),
        (lambda: symbol_error_rate([], []), "sent is empty"),
        (lambda: symbol_error_rate([1], [1], constellation=[2]), "not in the constellation"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
