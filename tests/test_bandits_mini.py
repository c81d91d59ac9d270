"""MiniGPUCB and MiniGPEI: few distinct candidates, evaluated many times."""

import numpy as np
import pytest
import reference_bandits_exact as reference
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.stats import norm
from sklearn.gaussian_process.kernels import RBF
from test_bandits_exact import LAM, NOISE, X, feedback, told
from threadpoolctl import threadpool_limits

from sparseprob.bandits import MiniGPEI, MiniGPUCB
from sparseprob.bandits._mini import expected_improvement


@pytest.fixture(autouse=True)
def one_thread():
    """Small dense matrices: threads of BLAS would only wait for each other."""
    with threadpool_limits(1, user_api="blas"):
        yield


KERNEL = RBF(0.3)


def upper_bound(mean, deviation):
    return mean + deviation


def improvement(mean, deviation):
    z = (mean - mean.max()) / deviation
    return deviation * (z * norm.cdf(z) + norm.pdf(z))


def dense_run(n_evals, ratio, acquisition):
    """Blocks of one candidate each, from the dense posterior of the list of evaluations."""
    indices, sizes = [0, 1], []
    y = [feedback(t, index) for t, index in enumerate(indices)]
    while len(indices) < n_evals:
        mean, leverage = reference.posterior(KERNEL, LAM, X, indices, y)
        information = reference.logdet(KERNEL, LAM, X, indices)
        width = reference.widths(
            "self-normalized", LAM, LAM, 1.0, 1 / n_evals, len(X), information, len(y)
        )
        pick = int(np.argmax(acquisition(mean, ratio**0.5 * width * np.sqrt(leverage))))
        times = max(1, int((ratio - 1) / leverage[pick]))
        times = min(times, n_evals - len(indices))
        y += [feedback(t, pick) for t in range(len(y), len(y) + times)]
        indices += [pick] * times
        sizes.append(times)
    return indices, sizes


@pytest.mark.parametrize(
    ("policy", "acquisition"), [(MiniGPUCB, upper_bound), (MiniGPEI, improvement)]
)
@pytest.mark.parametrize("ratio", [1.5, 3.0])
def test_blocks_are_those_of_the_dense_posterior(policy, acquisition, ratio):
    policy = policy(
        KERNEL, ratio_threshold=ratio, noise_variance=LAM, max_evals=200, initial=[0, 1]
    )
    picks = told(policy)
    expected, sizes = dense_run(200, ratio, acquisition)
    assert_array_equal(picks, expected)
    assert_array_equal(policy.batch_sizes_, sizes)
    assert max(sizes) > 10
    history = policy.history_
    assert_allclose(
        policy.mean_, reference.posterior(KERNEL, LAM, X, picks, history["y"])[0], atol=1e-8
    )
    assert_allclose(policy.leverage_, reference.posterior(KERNEL, LAM, X, picks)[1], rtol=1e-6)
    for t in (2, 100, 199):  # every pick is logged with its own leverage
        at_pick = reference.posterior(KERNEL, LAM, X, picks[:t])[1][picks[t]]
        assert_allclose(history["s_at_pick"][t], at_pick, rtol=1e-6)


def test_no_variance_shrinks_by_more_than_the_threshold():
    """Unless a single evaluation does that already."""
    policy = MiniGPUCB(KERNEL, ratio_threshold=2.0, noise_variance=LAM, max_evals=300)
    picks = told(policy.set_params(random_state=0))
    edges = 2 + np.cumsum([0, *policy.batch_sizes_])
    longer = 0
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        if stop - start > 1:
            before, after = (
                reference.posterior(KERNEL, LAM, X, picks[:t])[1] for t in (start, stop)
            )
            assert (before / after).max() <= 2.0 * (1 + 1e-9)
            assert len(set(picks[start:stop])) == 1
            longer += 1
    assert longer > 5


def test_the_number_of_switches_grows_with_information_only():
    """Ten times the evaluations take far less than ten times the batches."""
    counts = []
    for n_evals in (200, 2000):
        policy = MiniGPUCB(KERNEL, noise_variance=LAM, max_evals=n_evals, random_state=0)
        policy.initialize(X)
        while len(batch := policy.ask()):
            policy.tell(batch, feedback(0, batch.indices[0]) + NOISE[batch.ids % len(NOISE)])
        # each full batch of more than one has an information of about half of log 2, or more
        assert policy.n_batches_ <= policy._logdet() / np.log(1.5) + 1
        counts.append(policy.n_batches_)
    assert counts[1] < 2.5 * counts[0]


def test_an_open_batch_counts_what_was_asked_for():
    policy = MiniGPUCB(KERNEL, noise_variance=LAM, random_state=0, max_evals=150).initialize(X)
    whole = MiniGPUCB(KERNEL, noise_variance=LAM, random_state=0, max_evals=150).initialize(X)
    seen = 0
    while len(batch := policy.ask(3)):
        indices = policy.history_["index"]
        if policy.n_evals_ >= 2:
            _, leverage = reference.posterior(KERNEL, LAM, X, indices)
            if len(batch) == 3 and not policy.batch_closed_ and seen < 20:
                assert_allclose(policy.leverage_, leverage, rtol=1e-6)
                assert_allclose(policy.predict(X[:5], return_std=True)[1],
                                np.sqrt(LAM * leverage[:5]), rtol=1e-6)  # fmt: skip
                seen += 1
        policy.tell(batch, [feedback(t, i) for t, i in zip(batch.ids, batch.indices, strict=True)])
    assert seen > 3
    told(whole)
    assert_array_equal(policy.history_["index"], whole.history_["index"])


def test_a_part_of_a_batch_is_learned_by_flush():
    policy = MiniGPUCB(KERNEL, ratio_threshold=20.0, noise_variance=LAM, initial=[0]).initialize(X)
    policy.tell(policy.ask(), [0.3])
    policy.tell(first := policy.ask(), np.zeros(len(first)))
    while len(batch := policy.ask(6)) < 6 or policy.batch_closed_:
        policy.tell(batch, np.zeros(len(batch)))
    policy.tell(batch[:4], [1.0, 2.0, 3.0, 4.0])
    policy.flush()
    history = policy.history_
    known = np.isfinite(history["y"])
    mean, _ = reference.posterior(KERNEL, LAM, X, history["index"][known], history["y"][known])
    _, leverage = reference.posterior(KERNEL, LAM, X, history["index"])
    assert_allclose(policy.mean_, mean, atol=1e-9)
    assert_allclose(policy.leverage_, leverage, rtol=1e-6)


def test_batches_have_a_largest_size():
    policy = MiniGPUCB(KERNEL, max_batch_size=7, noise_variance=LAM, max_evals=200, random_state=0)
    told(policy)
    assert policy.batch_sizes_.max() == 7


def test_expected_improvement_is_the_integral():
    for gap, deviation in ((0.0, 1.0), (-0.7, 0.5), (-2.0, 0.4), (0.5, 2.0)):
        integral, _ = quad(
            lambda x, m=gap, s=deviation: x * norm.pdf(x, m, s), 0, gap + 12 * deviation
        )
        found = expected_improvement(np.array([gap]), np.array([deviation]), np)
        assert_allclose(found, integral, rtol=1e-7)
    nothing = expected_improvement(np.array([-1.0, 0.0]), np.zeros(2), np)
    assert_allclose(nothing, 0.0, atol=1e-99)
    assert nothing[1] > nothing[0]  # without a width, the best mean is picked


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio_threshold": 1.0}, "'ratio_threshold' parameter"),
        ({"max_batch_size": 0}, "'max_batch_size' parameter"),
    ],
)
def test_bad_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        MiniGPUCB(**options).initialize(X)
