"""Mixture of Poissons against scipy's probabilities, its own invariances, and bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import gammaln, logsumexp
from scipy.stats import poisson

from sparseprob.callbacks import Checkpoint
from sparseprob.datasets import match_components
from sparseprob.dictionary import MOP, LinearSchedule, MixtureOfPoissons


def planted(N=200, H=4, D=6, seed=0):
    rng = np.random.default_rng(seed)
    W = rng.gamma(1.0, 4.0, size=(H, D)) + 0.1
    causes = rng.integers(H, size=N)
    return rng.poisson(W[causes]).astype(float), W, causes


def start(H=4, D=6):
    rng = np.random.default_rng(1)
    return {"components": rng.gamma(4.0, 1.0, size=(H, D)), "prior": np.array([0.1, 0.2, 0.3, 0.4])}


def model(H=4, **options):
    options = {"max_iter": 10, "tol": 0, "random_state": 0, **options}
    return MixtureOfPoissons(H, **options)


def log_joints(X, W, prior):
    return np.log(prior) + poisson.logpmf(X[:, None, :], W).sum(axis=2)


def tempered(X, W, prior, temperature, anneal_prior=False):
    """Responsibilities and free energy per row."""
    joint = log_joints(X, W, prior)
    likelihood = joint - np.log(prior)
    exponent = likelihood / temperature + np.log(prior) / (temperature if anneal_prior else 1)
    log_r = exponent - logsumexp(exponent, axis=1, keepdims=True)
    return np.exp(log_r), (np.exp(log_r) * (joint - log_r)).sum(axis=1)


# ---------------------------------------------------------------- oracles
@pytest.mark.parametrize(("temperature", "anneal_prior"), [(1.0, 0), (3.0, 0), (3.0, 1)])
def test_one_step_equals_the_formulas(temperature, anneal_prior):
    X, _, _ = planted()
    points = {"T": [(0, temperature)], "anneal_prior": [(0, anneal_prior)]}
    fitted = model(max_iter=1, init=start(), schedule=LinearSchedule(points)).fit(X)
    r, F = tempered(X, *start().values(), temperature, anneal_prior)
    assert_allclose(fitted.components_, r.T @ X / r.sum(axis=0)[:, None], rtol=1e-10)
    assert_allclose(fitted.prior_, r.mean(axis=0), rtol=1e-10)
    assert_allclose(fitted.lower_bound_, F.mean(), rtol=1e-10)


def test_inference_equals_scipy():
    X, _, _ = planted()
    fitted = model().fit(X)
    joint = log_joints(X, fitted.components_, fitted.prior_)
    evidence = logsumexp(joint, axis=1)
    r = np.exp(joint - evidence[:, None])
    assert_allclose(fitted.score_samples(X), evidence, rtol=1e-10)
    assert_allclose(fitted.score(X), evidence.mean(), rtol=1e-12)
    assert_allclose(fitted.transform(X), r, atol=1e-10)
    assert_allclose(fitted.reconstruct(X), r @ fitted.components_, rtol=1e-10)
    assert_allclose(fitted.inverse_transform(r), r @ fitted.components_, rtol=1e-10)
    result = fitted.infer(X, top_k=3)
    assert_allclose(result.prob, np.sort(r, axis=1)[:, :0:-1], rtol=1e-8, atol=1e-14)
    assert_allclose(result.marginals, r, atol=1e-10)
    assert_array_equal(result.states[:, 0], np.eye(4)[r.argmax(axis=1)])
    assert_array_equal(fitted.transform(X, method="map"), result.states[:, 0])
    everything = fitted.infer(X, top_k=100, log=True)
    assert everything.states.shape == (200, 4, 4)  # no state without a cause
    assert_allclose(logsumexp(everything.prob, axis=1), 0, atol=1e-12)


def test_scaled_counts_use_the_gamma_function():
    X, _, _ = planted()
    X = X / 3
    fitted = model(counts="any").fit(X)
    W = fitted.components_
    joint = np.log(fitted.prior_) + X @ np.log(W).T - W.sum(axis=1)
    expected = logsumexp(joint, axis=1) - gammaln(X + 1).sum(axis=1)
    assert_allclose(fitted.score_samples(X), expected, rtol=1e-10)
    assert_allclose(model(counts="any", learn=(), max_iter=1, init={
        "components": W, "prior": fitted.prior_
    }).fit(X).lower_bound_, expected.mean(), rtol=1e-10)  # fmt: skip


# ---------------------------------------------------------------- invariances
@pytest.mark.parametrize("init", ["mean", "data"])
def test_likelihood_never_falls(init):
    X, _, _ = planted()
    X[:, 2] = 0  # a feature without counts stays at the floor of the rates
    fitted = model(6, max_iter=50, init=init).fit(X)
    bound = fitted.history_["lower_bound"]
    assert len(bound) == 50
    assert (np.diff(bound) >= -1e-9 * np.abs(bound[1:])).all()
    assert bound[-1] > bound[0]
    assert_allclose(fitted.components_[:, 2], 1e-6, rtol=1e-6)


def test_planted_clusters_are_found():
    X, W, causes = planted(N=1000, D=12)
    fitted = model(max_iter=200, tol=1e-9, n_init=3).fit(X)
    match = match_components(fitted.components_, W)
    assert match.errors.max() < 0.3  # of rates around 4, from 250 rows each
    labels = fitted.transform(X)[:, match.order].argmax(axis=1)
    assert (labels == causes).mean() > 0.97
    shares = np.bincount(causes) / 1000
    assert_allclose(fitted.prior_[match.order], shares, atol=0.02)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_chunks_and_schedules_of_rows_do_not_matter(batch_size):
    X, _, _ = planted()
    a, b = model().fit(X), model(batch_size=batch_size).fit(X)
    assert_allclose(b.components_, a.components_, rtol=1e-9)
    assert_allclose(b.lower_bound_, a.lower_bound_, rtol=1e-12)
    cut = LinearSchedule({"data_cut": [(0, 1.0)]})  # all rows have one cause: none is cut
    assert_allclose(model(schedule=cut).fit(X).lower_bound_, a.lower_bound_, rtol=1e-12)


def test_parts_of_the_rows_have_their_own_likelihood():
    X, _, _ = planted()
    half = LinearSchedule({"partial": [(0, 0.5)]})
    fitted = model(schedule=half, max_iter=1, learn=(), init=start()).fit(X)
    bound = logsumexp(log_joints(X, *start().values()), axis=1)
    assert 60 < fitted.n_used_ < 140
    assert abs(fitted.lower_bound_ - bound.mean()) < 4 * bound.std() / np.sqrt(fitted.n_used_)
    assert fitted.lower_bound_ != bound.mean()


def test_components_and_rows_may_be_permuted():
    X, _, _ = planted()
    order, rows = [2, 0, 3, 1], np.random.default_rng(1).permutation(200)
    a = model(init=start()).fit(X)
    b = model(init={name: value[order] for name, value in start().items()}).fit(X[rows])
    assert_allclose(b.components_, a.components_[order], rtol=1e-9)
    assert_allclose(b.prior_, a.prior_[order], rtol=1e-9)


def test_single_precision_and_integers_are_close_to_double():
    X, _, _ = planted()
    X[:, 0] += 10_000  # large counts are where single precision shows
    a = model(init=start()).fit(X)
    b = model(init=start()).fit(X.astype(np.float32))
    assert b.components_.dtype == b.prior_.dtype == np.float32
    assert abs(b.lower_bound_ - a.lower_bound_) < 1e-2
    c = model(init=start()).fit(X.astype(int))
    assert_array_equal(c.components_, a.components_)


def test_everything_follows_x(xp):
    X, _, _ = planted(N=50)
    expected, A = model().fit(X), xp.asarray(X)
    fitted = model().fit(A)
    arrays = (fitted.components_, fitted.prior_, fitted.transform(A), fitted.infer(A).prob,
              fitted.reconstruct(A), fitted.inverse_transform(fitted.transform(A)))  # fmt: skip
    for array in arrays:
        assert type(array) is type(A)
    assert fitted.score(A) == pytest.approx(expected.score(X), abs=1e-9)


# ---------------------------------------------------------------- options
def test_samples_follow_the_model():
    X, _, _ = planted()
    fitted = model(init=start(), learn=(), max_iter=1).fit(X)
    counts, states = fitted.sample(20_000)
    assert_array_equal(states.sum(axis=1), 1)
    assert_allclose(states.mean(axis=0), start()["prior"], atol=4 * 0.5 / np.sqrt(20_000))
    assert_array_equal(counts, np.floor(counts))
    for h, rates in enumerate(start()["components"]):
        mine = counts[states[:, h] == 1]
        assert (abs(mine.mean(axis=0) - rates) < 4 * np.sqrt(rates / len(mine))).all()
        assert_allclose(mine.var(axis=0), rates, rtol=0.15)


def test_restarts_learn_and_annealing():
    X, _, _ = planted()
    several = model(n_init=4, max_iter=30, schedule="anneal").fit(X)
    assert several.lower_bound_ >= model(max_iter=30, schedule="anneal").fit(X).lower_bound_
    assert several.history_["temperature"][0] == 4
    assert set(several.history_) == {
        "lower_bound", "temperature", "n_used", "n_effective", "seconds"
    }  # fmt: skip
    assert 1 <= several.history_["n_effective"][-1] <= 4
    fixed = model(init=start(), learn=("prior",)).fit(X)
    assert_allclose(fixed.components_, start()["components"], rtol=1e-12)
    assert np.abs(fixed.prior_ - start()["prior"]).max() > 0.01
    with pytest.raises(ValueError, match="learn must be chosen from"):
        model(learn=("noise",)).fit(X)


def test_online_learning_approaches_the_batch_fit():
    X, _, _ = planted(N=1000)
    batch, online = model(init=start(), max_iter=100).fit(X), model(init=start())
    for _ in range(10):
        for rows in np.split(X, 10):
            online.partial_fit(rows)
    assert online.score(X) == pytest.approx(batch.score(X), abs=0.05)


def test_resumed_fit_has_the_same_bits(tmp_path):
    X, _, _ = planted()
    path = tmp_path / "fit.npz"

    class Stop(Checkpoint):
        def on_fit_task_end(self, estimator, context):
            super().on_fit_task_end(estimator, context)
            if self._seen == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model(schedule="anneal").set_callbacks(Stop(path)).fit(X)
    resumed = model(schedule="anneal").fit(X, resume_from=path)
    assert_array_equal(resumed.components_, model(schedule="anneal").fit(X).components_)


def test_progress_is_logged(caplog):
    X, _, _ = planted()
    with caplog.at_level("INFO", logger="sparseprob.dictionary"):
        model(max_iter=2, verbose=1).fit(X)
    assert len(caplog.messages) == 2
    assert "n_effective" in caplog.messages[0]


# ---------------------------------------------------------------- bad input
def test_what_are_no_counts_names_its_row():
    X, _, _ = planted()
    good = model().fit(X)
    for value, message in (
        (-1.0, "Negative values in data: got -1 in row 133 of X; pass counts"),
        (0.5, "Counts must be integers, got 0.5 in row 133 of X; pass counts, or counts='any'"),
        (np.nan, "NaN in row 133"),
        (np.inf, "infinity in row 133"),
    ):
        bad = X.copy()
        bad[133, 3] = bad[150, 0] = value
        with pytest.raises(ValueError, match=message):
            model(batch_size=30).fit(bad)
        for method in ("transform", "score_samples", "infer", "reconstruct", "partial_fit"):
            with pytest.raises(ValueError, match=message):
                getattr(good, method)(bad)
    with pytest.raises(ValueError, match="Negative values in data"):
        model(counts="any").fit(X - 1)
    assert MOP is MixtureOfPoissons


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": {"components": -np.ones((4, 6))}}, "rates and must not be negative, got -1"),
        ({"init": {"prior": [0.5, 0.5, 0.5, 0.5]}}, "must be positive and sum to 1"),
        ({"init": {"prior": [0.5, 0.5, 0.0, 0.0]}}, "must be positive and sum to 1"),
        ({"init": {"noise_scale": 1.0}}, r"unknown entries \['noise_scale'\]"),
        ({"init": np.ones((4, 5))}, r"must have shape \(4, 6\), got \(4, 5\)"),
        ({"counts": "some"}, "'counts' parameter"),
    ],
)
def test_bad_parameters_are_refused_in_a_sentence(options, message):
    X, _, _ = planted()
    with pytest.raises(ValueError, match=message):
        model(**options).fit(X)


def test_rows_that_are_all_equal_are_refused():
    with pytest.raises(ValueError, match="zero variance"):
        model().fit(np.ones((20, 3)))


@pytest.mark.mpi
def test_ranks_end_with_the_same_mixture_and_name_global_rows(tmp_path, mpiexec):
    program = """
import sys, numpy as np
from sparseprob import distributed, row_slice
from sparseprob.dictionary import MixtureOfPoissons
X = np.random.default_rng(0).poisson(3.0, size=(101, 6)).astype(float)
X[60:] *= 3
with distributed() as comm:
    part = X[row_slice(101)]
    fitted = MixtureOfPoissons(3, max_iter=6, tol=0, random_state=0).fit(part)
    X[70, 1] = 0.5
    try:
        MixtureOfPoissons(3).fit(X[row_slice(101)])
    except ValueError as error:
        assert "row 70" in str(error), error
    else:
        raise AssertionError("half a count was taken")
    if comm.rank == 0:
        np.save(sys.argv[1], np.append(fitted.components_.ravel(), fitted.lower_bound_))
"""
    for n_ranks in (1, 3):
        mpiexec(n_ranks, program, f"{n_ranks}.npy")
    one, three = (np.load(tmp_path / f"{k}.npy") for k in (1, 3))
    assert_allclose(three, one, rtol=1e-9)
