"""The channel through a reflecting surface: its sparse form, its noise, its symbols."""

import numpy as np
import pytest
import reference_channel as reference
from numpy.testing import assert_allclose, assert_array_equal

from sparseprob._arrays import to_numpy
from sparseprob.channel import (
    IRSMIMOLink,
    angle_grid,
    channel_nmse,
    qpsk_symbols,
    steering_vectors,
    transmit,
)
from sparseprob.metrics import symbol_error_rate
from sparseprob.recovery import KroneckerSBL

SMALL = {"n_bs": 5, "n_ms": 4, "n_irs": 12, "resolution": 7, "pilots": 3, "patterns": 6}
EXACT = 1e-12  # identities in double precision, relative to the largest entry


def assert_same(actual, desired):
    assert_allclose(actual, desired, rtol=0, atol=EXACT * np.abs(desired).max())


def drawn(sizes, seed=0):
    link = IRSMIMOLink(**sizes, random_state=seed)
    return link, link.sample_channel(random_state=seed + 1)


# ---------------------------------------------------------------- arrays of antennas
def test_steering_vectors_have_unit_length_and_the_phases_of_the_formula():
    psi = angle_grid(18)
    assert_allclose(psi, [-1 + i / 9 for i in range(18)], atol=1e-15)
    A = steering_vectors(16, psi)
    assert_allclose(np.linalg.norm(A, axis=0), 1, rtol=EXACT)
    assert_same(A, np.column_stack([reference.response(16, p) for p in psi]))


def test_differences_of_grid_angles_are_the_columns_of_one_dictionary():
    R, d = 18, 256
    A = steering_vectors(d, angle_grid(R))
    single = A[:, :1] * A.conj()
    for i in range(R):
        for j in range(R):
            assert_same(A[:, i] * A[:, j].conj(), single[:, (j - i) % R])
    all_pairs = (A[:, :, None] * A.conj()[:, None]).reshape(d, -1)
    assert np.unique(np.round(all_pairs * d, 6) + 0, axis=1).shape[1] == R


def test_steering_vectors_follow_the_angles(xp):
    psi = np.linspace(-1, 1, 5)
    for dtype, wanted, tol in (
        (np.float64, np.complex128, EXACT),
        (np.float32, np.complex64, 1e-6),
    ):
        given = xp.asarray(psi.astype(dtype))
        A = steering_vectors(8, given)
        assert type(A) is type(given)
        assert to_numpy(A).dtype == wanted
        assert_allclose(to_numpy(A), steering_vectors(8, psi), atol=tol)


# ---------------------------------------------------------------- the sparse form
@pytest.mark.parametrize("sizes", [SMALL, {}, {**SMALL, "n_bs": 1, "n_irs": 11, "resolution": 3}])
@pytest.mark.parametrize("seed", range(3))
def test_received_slabs_are_the_kronecker_dictionary_times_the_coefficients(sizes, seed):
    link, channel = drawn(sizes, seed)
    slabs, noise_var = link.measure(channel)
    assert noise_var == 0
    assert_same(slabs, reference.received(*channel[:2], link.patterns, link.pilots))
    factors = link.dictionaries()
    assert [len(D) for D in factors] == list(slabs.shape)
    nonzero = np.flatnonzero(channel.coef)
    columns = np.stack(
        [
            reference.dense_dictionary([D[:, i] for D, i in zip(factors, index, strict=True)])
            for index in np.argwhere(channel.coef)
        ]
    )
    assert_same(slabs.ravel(), channel.coef.ravel()[nonzero] @ columns)


def test_vectors_follow_c_order():
    link, channel = drawn(SMALL)
    A = reference.dense_dictionary(link.dictionaries())
    assert_same(link.measure(channel).slabs.ravel(), A @ channel.coef.ravel())


@pytest.mark.parametrize("seed", range(20))
def test_the_support_is_a_product_of_three_one_and_three_neighbors(seed):
    link, channel = drawn({}, seed)
    supports = [np.flatnonzero(channel.coef.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    assert [len(s) for s in supports] == [3, 1, 3]
    assert np.count_nonzero(channel.coef) == 9
    assert_array_equal(np.diff(supports[2]), 1)
    gaps = np.sort(np.diff(np.append(supports[0], supports[0][0] + link.resolution)))
    assert_array_equal(gaps, [1, 1, link.resolution - 2])  # neighbors on the circle
    assert np.linalg.matrix_rank(channel.ms_to_irs) == 1
    assert np.linalg.matrix_rank(channel.irs_to_bs) == 1


def test_channels_have_the_power_of_their_antennas():
    """E ||H1||^2 = n_ms n_irs and E ||H2||^2 = n_bs n_irs: gains are independent CN(0, 1)."""
    link, rng = IRSMIMOLink(**SMALL, random_state=0), np.random.RandomState(0)
    draws = [link.sample_channel(random_state=rng) for _ in range(600)]
    for part, expected in ((0, 4 * 12), (1, 5 * 12)):
        powers = [np.linalg.norm(channel[part]) ** 2 for channel in draws]
        assert abs(np.mean(powers) - expected) < 4 * np.std(powers) / np.sqrt(len(powers))
        assert np.std(powers) > 0.2 * expected


def test_coefficients_give_the_channels_of_any_patterns():
    link, channel = drawn({})
    others = np.exp(2j * np.pi * np.random.default_rng(0).random((256, 4))) / 16
    for patterns in (None, others):
        used = link.patterns if patterns is None else others
        H = link.channel_from_coef(channel.coef, patterns)
        expected = [
            channel.irs_to_bs @ np.diag(theta) @ channel.ms_to_irs for theta in used.T
        ]  # fmt: skip
        assert_same(H, np.array(expected))
        assert_same(channel.cascaded(used), np.array(expected))
    assert_same(channel.cascaded(others[:, 1]), expected[1])


def test_channels_follow_the_coefficients(xp):
    link, channel = drawn(SMALL)
    expected = channel.cascaded(link.patterns)
    for dtype, tol in ((np.complex128, EXACT), (np.complex64, 1e-5)):
        given = xp.asarray(channel.coef.astype(dtype))
        H = link.channel_from_coef(given)
        assert type(H) is type(given)
        assert to_numpy(H).dtype == dtype
        assert_allclose(to_numpy(H), expected, rtol=0, atol=tol * np.abs(expected).max())
        assert channel_nmse(H, expected) < tol**2
    assert link.channel_from_coef(channel.coef.real.astype(np.float32)).dtype == np.complex64


# ---------------------------------------------------------------- pilots, patterns, noise
def test_drawn_pilots_and_patterns_are_as_the_study_has_them():
    link = IRSMIMOLink(pilots=5, patterns=4, random_state=0)
    assert link.pilots.shape == (6, 5)
    assert link.patterns.shape == (256, 4)
    assert_allclose(np.linalg.norm(link.pilots, axis=0), 1, rtol=EXACT)
    assert_allclose(np.abs(link.pilots.real), np.abs(link.pilots.imag), rtol=EXACT)
    assert len(np.unique(np.round(link.pilots, 9))) == 4
    assert set(np.unique(link.patterns)) == {-1 / 16, 1 / 16}


def test_seeds_repeat_and_given_arrays_are_kept():
    first, second = drawn(SMALL, 3), drawn(SMALL, 3)
    assert_array_equal(first[0].pilots, second[0].pilots)
    assert_array_equal(first[0].patterns, second[0].patterns)
    assert_array_equal(first[1].coef, second[1].coef)
    assert np.any(drawn(SMALL, 4)[1].coef != first[1].coef)
    again = IRSMIMOLink(**SMALL | {"pilots": first[0].pilots, "patterns": first[0].patterns})
    for A, B in zip(again.dictionaries(), first[0].dictionaries(), strict=True):
        assert_array_equal(A, B)
    noisy = [first[0].measure(first[1], 5, random_state=0).slabs for _ in range(2)]
    assert_array_equal(*noisy)


def test_noise_has_the_variance_the_ratio_says():
    link = IRSMIMOLink(n_bs=64, pilots=40, patterns=30, random_state=0)
    channel = link.sample_channel(random_state=1)
    clean = link.measure(channel).slabs
    for snr_db in (-3, 17):
        slabs, noise_var = link.measure(channel, snr_db, random_state=2)
        assert_allclose(10 * np.log10(np.mean(np.abs(clean) ** 2) / noise_var), snr_db, atol=1e-9)
        noise = (slabs - clean).ravel() / np.sqrt(noise_var)
        # |n|^2 is exponential: its mean has standard error 1/sqrt(n); so have n^2 and n, about.
        bound = 4 / np.sqrt(noise.size)
        assert abs(np.mean(np.abs(noise) ** 2) - 1) < bound
        assert abs(np.mean(noise**2)) < 1.5 * bound
        assert abs(np.mean(noise)) < bound


# ---------------------------------------------------------------- scores and symbols
def test_error_is_that_of_the_loop_over_patterns():
    rng = np.random.default_rng(0)
    H, E = (rng.normal(size=(4, 3, 5)) + 1j * rng.normal(size=(4, 3, 5)) for _ in range(2))
    H *= np.array([1, 10, 100, 1e3])[:, None, None]
    assert_allclose(channel_nmse(H + E, H), reference.mean_error(H + E, H, 2), rtol=EXACT)
    plain = channel_nmse(H + E, H, squared=False)
    assert_allclose(plain, reference.mean_error(H + E, H, 1), rtol=EXACT)
    assert channel_nmse(0 * H, H) == channel_nmse(0 * H, H, squared=False) == 1
    assert_allclose(channel_nmse(3j * (H + E), 3j * H), channel_nmse(H + E, H), rtol=EXACT)


def test_symbols_are_equally_likely():
    symbols = qpsk_symbols((40, 100), random_state=0)
    assert_allclose(np.abs(symbols), 1, rtol=EXACT)
    values, counts = np.unique(symbols, return_counts=True)
    assert_allclose(values, np.sqrt(0.5) * np.array([-1 - 1j, -1 + 1j, 1 - 1j, 1 + 1j]), rtol=EXACT)
    assert np.abs(counts - 1000).max() < 4 * np.sqrt(4000 * 0.25 * 0.75)


@pytest.mark.parametrize("turn", [0.0, 0.5, -0.9])
def test_error_rate_of_a_turned_estimate_is_that_of_the_formula(turn):
    """An estimate off by a phase and a factor: the gain is turned, its size is kept."""
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=5) + 1j * rng.normal(size=5), rng.normal(size=3)
    H = 0.3 * np.outer(u, v)
    noise_var = 0.2 * np.linalg.norm(H) ** 2
    sent = qpsk_symbols(100_000, random_state=0)
    received = transmit(sent, H, 7 * H * np.exp(1j * turn), noise_var, random_state=1)
    rate = symbol_error_rate(received, sent)
    expected = reference.qpsk_error_rate(np.linalg.norm(H) * np.exp(-1j * turn), noise_var)
    assert 0.01 < expected < 0.7
    assert abs(rate - expected) < 4 * np.sqrt(expected * (1 - expected) / len(sent))


def test_every_pattern_carries_all_symbols_over_its_own_channel(xp):
    rng = np.random.default_rng(0)
    H = rng.normal(size=(3, 4, 2)) + 1j * rng.normal(size=(3, 4, 2))
    sent = xp.asarray(qpsk_symbols(500, random_state=0))
    received = transmit(sent, xp.asarray(H), xp.asarray(H), 0.0)
    assert type(received) is type(sent)
    assert_allclose(to_numpy(received), np.tile(to_numpy(sent), (3, 1)), rtol=EXACT)
    scales = np.array([2, 1j, -1])[:, None, None]  # half the gain, a quarter and half a turn
    received = to_numpy(transmit(sent, H, H * scales, 0.0))
    assert_allclose(received * scales[:, 0], np.tile(to_numpy(sent), (3, 1)), rtol=EXACT)


def test_symbols_through_an_estimate_of_zero_are_lost_but_finite():
    sent, H = qpsk_symbols(400, random_state=0), np.diag([0.0, 1.0])
    received = transmit(sent, H, 0 * H, 0.1, random_state=0)
    assert 0.5 < symbol_error_rate(received, sent) < 0.9  # a guess is right in one of four


# ---------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n_bs": 0}, ValueError, "n_bs must be at least 1, got 0"),
        ({"n_irs": 2.5}, TypeError, "n_irs must be an int, got 2.5"),
        ({"resolution": 2}, ValueError, "resolution must be at least 3, got 2"),
        ({"pilots": 0}, ValueError, "pilots must be at least 1"),
        ({"pilots": np.ones((5, 2))}, ValueError, r"pilots must .*n_ms=6 rows.*got shape \(5, 2\)"),
        ({"patterns": np.ones(256)}, ValueError, "patterns must .*n_irs=256 rows"),
        ({"patterns": np.full((256, 2), np.nan)}, ValueError, "patterns must be finite"),
    ],
)
def test_links_refuse_what_cannot_be(options, error, message):
    with pytest.raises(error, match=message):
        IRSMIMOLink(**options)


def test_functions_refuse_what_cannot_be():
    link, channel = drawn(SMALL)
    H = channel.cascaded(link.patterns)
    with pytest.raises(ValueError, match=r"coef must have shape \(7, 7, 7\), got \(7, 7\)"):
        link.channel_from_coef(channel.coef[0])
    with pytest.raises(ValueError, match="patterns must .*n_irs=12 rows"):
        link.channel_from_coef(channel.coef, np.ones((3, 2)))
    with pytest.raises(ValueError, match="snr_db must be a number of decibels"):
        link.measure(channel, np.nan)
    with pytest.raises(ValueError, match="same three-dimensional shape"):
        channel_nmse(H[:2], H)
    with pytest.raises(ValueError, match="true channel of pattern 0 is zero"):
        channel_nmse(H, 0 * H)
    with pytest.raises(ValueError, match="noise_var must be non-negative, got -1"):
        transmit(qpsk_symbols(3), H, H, -1)
    with pytest.raises(ValueError, match="channel and estimate must have the same shape"):
        transmit(qpsk_symbols(3), H, H[0], 1)
    with pytest.raises(ValueError, match="angles must be one-dimensional"):
        steering_vectors(3, np.ones((2, 2)))
    with pytest.raises(ValueError, match="angles must be finite"):
        steering_vectors(3, np.array([np.inf]))


def test_patterns_that_reflect_nothing_are_named():
    patterns = np.ones((12, 2))
    patterns[:, 1] = 0
    link = IRSMIMOLink(**SMALL | {"patterns": patterns})
    with pytest.raises(ValueError, match="Pattern 1 reflected nothing"):
        link.sample_channel(random_state=0)


# ---------------------------------------------------------------- from pilots to symbols
def test_learned_coefficients_carry_symbols():
    """At 16 dB the median error is 0.0023 over 30 seeds; each of these is below six times that."""
    for seed in range(3):
        link, channel = drawn({}, 10 * seed)
        slabs, noise_var = link.measure(channel, 16, random_state=seed)
        model = KroneckerSBL(tol=1e-3).fit(link.dictionaries(), slabs)
        truth = channel.cascaded(link.patterns)
        estimate = link.channel_from_coef(model.coef_)
        assert channel_nmse(estimate, truth) < 0.015
        assert_allclose(model.noise_var_, noise_var, rtol=0.18)  # 288 squares: three errors of 6 %
        sent = qpsk_symbols(2000, random_state=seed)
        received = transmit(sent, truth, estimate, noise_var, random_state=seed)
        assert symbol_error_rate(received, np.broadcast_to(sent, received.shape)) < 1e-3


def test_patterns_that_were_never_shown_are_predicted():
    link, channel = drawn({}, 3)
    model = KroneckerSBL(tol=1e-3).fit(
        link.dictionaries(), link.measure(channel, 25, random_state=0).slabs
    )
    unseen = np.random.default_rng(0).choice([-1, 1], size=(256, 5)) / 16
    predicted = link.channel_from_coef(model.coef_, unseen)
    assert channel_nmse(predicted, channel.cascaded(unseen)) < 0.01
