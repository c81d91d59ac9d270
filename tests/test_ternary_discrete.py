"""Ternary and discrete sparse coding against brute force, each other, and bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import (
    all_states,
    discrete_step,
    joint_candidates,
    linear_posterior,
    truncated_states,
)

from sparseprob.callbacks import Checkpoint
from sparseprob.datasets import make_bars, match_components
from sparseprob.dictionary import (
    BSC,
    DSC,
    TSC,
    DiscreteSparseCoding,
    LinearSchedule,
    TernarySparseCoding,
)

VALUES, PRIOR = (-2.0, 0.0, 1.0), (0.1, 0.75, 0.15)  # neither sorted from zero nor symmetric
ACTIVE, ACTIVE_PRIOR = (-2.0, 1.0), (0.1, 0.15)
EXACT = {"n_candidates": 4, "max_active": 4}


def planted(N=60, H=4, D=7, values=VALUES, prior=PRIOR, noise=0.7):
    rng = np.random.default_rng(0)
    W = rng.normal(size=(H, D)) * 1.5
    S = rng.choice(values, p=prior, size=(N, H))
    return S @ W + noise * rng.normal(size=(N, D)), W


def start(W, prior=PRIOR, noise_scale=1.0):
    return {"components": W + 0.2, "prior": prior, "noise_scale": noise_scale}


def discrete(**options):
    options = {"values": VALUES, "max_iter": 1, "tol": 0, "random_state": 0, **EXACT, **options}
    return DiscreteSparseCoding(4, **options)


def ternary(**options):
    options = {"max_iter": 1, "tol": 0, "random_state": 0, **EXACT, **options}
    return TernarySparseCoding(4, **options)


def assert_is_the_step(fitted, step):
    assert_allclose(fitted.components_, step["components"], rtol=1e-10, atol=1e-12)
    assert_allclose(fitted.noise_scale_, step["noise_scale"], rtol=1e-10)
    assert_allclose(fitted.lower_bound_, step["lower_bound"], rtol=1e-10)


def hot(temperature):
    return LinearSchedule({"T": [(0, temperature)]})


# ---------------------------------------------------------------- oracles
@pytest.mark.parametrize(("n_candidates", "max_active"), [(4, 4), (3, 2), (2, 1)])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_one_discrete_step_equals_brute_force(n_candidates, max_active, temperature):
    X, W = planted()
    sizes = {"n_candidates": n_candidates, "max_active": max_active}
    fitted = discrete(init=start(W), schedule=hot(temperature), **sizes).fit(X)
    step = discrete_step(X, W + 0.2, ACTIVE_PRIOR, 1.0, ACTIVE, **sizes, temperature=temperature)
    assert_is_the_step(fitted, step)
    assert_allclose(fitted.prior_[[0, 2]], step["prior"], rtol=1e-10)
    assert_allclose(fitted.prior_.sum(), 1, rtol=1e-14)


@pytest.mark.parametrize(("n_candidates", "max_active"), [(4, 4), (3, 2)])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_one_ternary_step_equals_brute_force(n_candidates, max_active, temperature):
    X, W = planted(values=(-1, 0, 1))
    sizes = {"n_candidates": n_candidates, "max_active": max_active}
    fitted = ternary(init=start(W, 0.3), schedule=hot(temperature), **sizes).fit(X)
    step = discrete_step(
        X, W + 0.2, (0.15, 0.15), 1.0, (-1, 1), **sizes, temperature=temperature, tied=True
    )
    assert_is_the_step(fitted, step)
    assert_allclose(fitted.prior_, step["prior"].sum(), rtol=1e-10)


def test_a_tempered_prior_is_tempered():
    X, W = planted()
    schedule = LinearSchedule({"T": [(0, 2.5)], "anneal_prior": [(0, 1)]})
    fitted = discrete(init=start(W), schedule=schedule).fit(X)
    options = {"values": ACTIVE, "temperature": 2.5, "anneal_prior": True}
    free_energies = [
        linear_posterior(y, all_states(4, ACTIVE), W + 0.2, ACTIVE_PRIOR, 1.0, **options)[1]
        for y in X
    ]
    assert_allclose(fitted.lower_bound_, np.mean(free_energies), rtol=1e-10)


def test_inference_equals_enumeration():
    X, W = planted(N=20)
    fitted = discrete(init=start(W), learn=(), n_candidates=3, max_active=2).fit(X)
    result = fitted.infer(X, top_k=5)
    assert result.marginals.shape == (20, 4, 3)
    for i, y in enumerate(X):
        candidates = joint_candidates(y, W + 0.2, ACTIVE_PRIOR, 1.0, 3, ACTIVE)
        states = truncated_states(candidates, 4, 2, ACTIVE)
        q, F = linear_posterior(y, states, W + 0.2, ACTIVE_PRIOR, 1.0, values=ACTIVE)
        assert_allclose(result.prob[i], np.sort(q)[::-1][:5], rtol=1e-9, atol=1e-14)
        assert_array_equal(result.states[i, 0], states[q.argmax()])
        marginals = np.stack([q @ (states == value) for value in VALUES], axis=1)
        assert_allclose(result.marginals[i], marginals, atol=1e-10)
        assert_allclose(result.abs_marginals[i], q @ abs(states), atol=1e-10)
        assert_allclose(fitted.transform(X[i : i + 1])[0], q @ states, atol=1e-10)
        assert_allclose(fitted.score_samples(X[i : i + 1])[0], F, rtol=1e-10)


def test_ternary_marginals_are_those_of_being_active():
    X, W = planted(N=20, values=(-1, 0, 1))
    fitted = ternary(init=start(W, 0.3), learn=()).fit(X)
    states = all_states(4, (-1, 1))
    q = [linear_posterior(y, states, W + 0.2, (0.15, 0.15), 1.0, values=(-1, 1))[0] for y in X]
    assert_allclose(fitted.infer(X).marginals, q @ abs(states), atol=1e-10)
    assert_allclose(fitted.transform(X), q @ states, atol=1e-10)


@pytest.mark.parametrize("kind", ["sample", "evo"])
def test_learned_states_that_hold_every_state_are_exact(kind):
    X, W = planted(N=20)
    options = {"init": start(W, (0.3, 0.4, 0.3), 3.0), "learn": ()}  # no state is improbable
    options |= {"n_candidates": 3, "max_active": 2, "state_search": kind, "n_states": 81}
    fitted = discrete(max_iter=150, **options).fit(X)
    free_energies = [
        linear_posterior(y, all_states(4, ACTIVE), W + 0.2, (0.3, 0.3), 3.0, values=ACTIVE)[1]
        for y in X
    ]
    assert_allclose(fitted.lower_bound_, np.mean(free_energies), rtol=1e-10)


def test_prior_correction_equals_the_formula():
    from scipy.stats import binom

    X, W = planted()
    options = {"init": start(W), "max_active": 2}
    corrected, plain = discrete(prior_correction="et", **options).fit(X), discrete(**options).fit(X)
    p, g = binom.pmf(np.arange(3), 4, 0.25), np.arange(3)
    active = plain.prior_[[0, 2]]
    total = 0.25 * p.sum() / (g @ p) * 4 * active.sum()
    assert_allclose(corrected.prior_[[0, 2]], total * active / active.sum(), rtol=1e-10)


# ---------------------------------------------------------------- reductions and invariances
def test_two_values_make_binary_sparse_coding():
    X, W = planted(values=(0, 1, 1), prior=(0.7, 0.15, 0.15))
    options = {"max_iter": 8, "tol": 0, "random_state": 0, **EXACT}
    for init in ("mean", {"components": W + 0.2, "prior": 0.3}):
        a = DSC(4, values=(0, 1), init=init, **options).fit(X)
        b = BSC(4, init=init, **options).fit(X)
        assert_allclose(a.components_, b.components_, rtol=1e-10, atol=1e-12)
        assert_allclose(a.prior_, [1 - b.prior_, b.prior_], rtol=1e-10)
        assert_allclose(a.history_["lower_bound"], b.history_["lower_bound"], rtol=1e-12)


def test_three_values_of_equal_probability_make_ternary_sparse_coding():
    X, W = planted(values=(-1, 0, 1))
    a = discrete(values=(-1, 0, 1), init=start(W, (0.1, 0.8, 0.1))).fit(X)
    b = ternary(init=start(W, 0.2)).fit(X)
    assert_allclose(a.lower_bound_, b.lower_bound_, rtol=1e-12)
    assert_allclose(a.components_, b.components_, rtol=1e-10, atol=1e-12)
    assert_allclose(a.prior_[[0, 2]].sum(), b.prior_, rtol=1e-12)


def test_the_alphabet_may_be_permuted():
    X, W = planted()
    order = [1, 2, 0]
    a = discrete(init=start(W), max_iter=8).fit(X)
    values, prior = np.array(VALUES)[order], np.array(PRIOR)[order]
    b = discrete(init=start(W, prior), values=values, max_iter=8).fit(X)
    assert_allclose(b.components_, a.components_, rtol=1e-9, atol=1e-11)
    assert_allclose(b.prior_, a.prior_[order], rtol=1e-10)
    marginals = a.infer(X).marginals[:, :, order]
    assert_allclose(b.infer(X).marginals, marginals, atol=1e-9)


def test_an_alphabet_times_c_makes_atoms_over_c():
    X, W = planted()
    a = discrete(init=start(W), max_iter=5).fit(X)
    smaller = {**start(W), "components": (W + 0.2) / 3}
    b = discrete(values=tuple(3 * v for v in VALUES), init=smaller, max_iter=5).fit(X)
    assert_allclose(3 * b.components_, a.components_, rtol=1e-9, atol=1e-11)
    assert_allclose(b.lower_bound_, a.lower_bound_, rtol=1e-10)


@pytest.mark.parametrize("estimator", [discrete, ternary])
@pytest.mark.parametrize("fit_offset", [False, True])
def test_free_energy_never_falls(estimator, fit_offset):
    X, _ = planted(N=200)
    bound = estimator(max_iter=50, fit_offset=fit_offset).fit(X).history_["lower_bound"]
    assert len(bound) == 50
    assert (np.diff(bound) >= -1e-9 * np.abs(bound[1:])).all()
    assert bound[-1] > bound[0]


# ---------------------------------------------------------------- missing entries
def with_holes(X, share=0.3):
    holes = np.random.default_rng(1).random(X.shape) < share
    holes[holes.all(axis=1), 0] = False
    return np.where(holes, np.nan, X)


@pytest.mark.parametrize(("n_candidates", "max_active"), [(4, 4), (3, 2)])
@pytest.mark.parametrize("estimator", ["discrete", "ternary"])
def test_missing_entries_are_left_out(estimator, n_candidates, max_active):
    X, W = planted()
    X = with_holes(X)
    sizes = {"n_candidates": n_candidates, "max_active": max_active}
    if estimator == "discrete":
        fitted, values, prior = discrete, ACTIVE, ACTIVE_PRIOR
        options = {"init": start(W)}
    else:
        fitted, values, prior = ternary, (-1, 1), (0.15, 0.15)
        options = {"init": start(W, 0.3)}
    fitted = fitted(missing="nan", learn=(), **sizes, **options).fit(X)
    step = discrete_step(X, W + 0.2, prior, 1.0, values, **sizes)
    assert_allclose(fitted.lower_bound_, step["lower_bound"], rtol=1e-10)
    assert_allclose(fitted.transform(X), step["codes"], atol=1e-10)


@pytest.mark.parametrize("estimator", [discrete, ternary])
def test_learning_from_holes_never_falls_and_without_holes_changes_nothing(estimator):
    X, _ = planted(N=100)
    bound = estimator(max_iter=30, missing="nan").fit(with_holes(X)).history_["lower_bound"]
    assert (np.diff(bound) >= -1e-9 * np.abs(bound[1:])).all()
    whole, observed = estimator(max_iter=3).fit(X), estimator(max_iter=3, missing="nan").fit(X)
    assert_allclose(observed.components_, whole.components_, rtol=1e-9, atol=1e-11)
    assert_allclose(observed.prior_, whole.prior_, rtol=1e-10)


# ---------------------------------------------------------------- other uses
def test_initial_prior_leaves_most_to_zero():
    X, _ = planted()
    fitted = discrete(learn=()).fit(X)
    assert_allclose(fitted.prior_[1], 0.75, rtol=1e-12)  # 1 - 1/H
    assert fitted.prior_[0] != fitted.prior_[2]
    assert (fitted.prior_ > 0).all()


def test_samples_follow_the_model():
    X, W = planted()
    fitted = discrete(init=start(W), learn=()).fit(X)
    samples, states = fitted.sample(20_000)
    for value, p in zip(VALUES, PRIOR, strict=True):
        share = (states == value).mean()
        assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / states.size)
    assert abs((samples - states @ (W + 0.2)).std() - 1) < 4 / np.sqrt(2 * samples.size)


def test_a_fitted_model_is_a_starting_point_and_learns_online():
    X, _ = planted(N=300)
    fitted = discrete(max_iter=20).fit(X)
    names = ("components", "prior", "noise_scale", "offset")
    again = {name: getattr(fitted, f"{name}_") for name in names}
    assert_allclose(discrete(init=again, learn=()).fit(X).score(X), fitted.score(X), rtol=1e-10)
    before = fitted.score(X)
    fitted.partial_fit(X[:200])
    assert abs(fitted.score(X) - before) < 0.5


def test_everything_follows_x(xp):
    X, _ = planted(N=40)
    expected, fitted = discrete().fit(X), discrete().fit(xp.asarray(X))
    A = xp.asarray(X)
    for array in (fitted.prior_, fitted.transform(A), fitted.infer(A).marginals):
        assert type(array) is type(A)
    assert fitted.score(A) == pytest.approx(expected.score(X), abs=1e-9)


def test_resumed_fit_has_the_same_bits(tmp_path):
    X, _ = planted(N=100)
    whole = discrete(max_iter=6, schedule="anneal").fit(X)
    path = tmp_path / "fit.npz"

    class Stop(Checkpoint):
        def on_fit_task_end(self, estimator, context):
            super().on_fit_task_end(estimator, context)
            if self._seen == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        discrete(max_iter=6, schedule="anneal").set_callbacks(Stop(path)).fit(X)
    resumed = discrete(max_iter=6, schedule="anneal").fit(X, resume_from=path)
    assert_array_equal(resumed.components_, whole.components_)
    with pytest.raises(ValueError, match="does not fit the parameters: values"):
        discrete(values=(0, 1), max_iter=6, schedule="anneal").fit(X, resume_from=path)


@pytest.mark.parametrize(
    "values",
    [(1.0, 2.0), (0.0,), (0.0, 1.0, 1.0), (0.0, np.nan), (0.0, np.inf), ((0.0, 1.0),), ("0", "1")],
)
def test_bad_alphabets_are_refused_in_a_sentence(values):
    X, _ = planted()
    with pytest.raises(ValueError, match="at least two different finite numbers with 0 among them"):
        DSC(4, values=values).fit(X)


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        ((0.5, 0.5), "one probability for each of the 3 values"),
        ((0.5, 0.5, 0.5), "sum to 1"),
        ((0.5, 0.5, 0.0), "strictly between 0 and 1"),
        (1.5, "strictly between 0 and 1"),
    ],
)
def test_bad_priors_are_refused_in_a_sentence(prior, message):
    X, W = planted()
    with pytest.raises(ValueError, match=message):
        discrete(init=start(W, prior)).fit(X)


def test_too_many_states_are_refused():
    X, _ = planted()
    with pytest.raises(ValueError, match="S=72 states"):  # 6 * 4 + 4 * 8 + 16
        discrete(max_states=71).fit(X)


# ---------------------------------------------------------------- the papers' bars
def unequal_bars(seed, values, prior):
    bars, rng = make_bars(1, random_state=seed), np.random.default_rng(seed)
    S = rng.choice(values, p=prior, size=(1000, 10))
    return S @ bars.components + 2 * rng.normal(size=(1000, 25)), bars.components


def test_bars_of_two_intensities_are_found():
    X, W = unequal_bars(0, (0, 1, 2), (0.8, 0.15, 0.05))
    fitted = DSC(
        10, n_candidates=7, max_active=5, schedule="anneal", tol=0, n_init=3, random_state=0
    ).fit(X)
    assert match_components(fitted.components_, W).errors.max() < 0.5  # an absent bar costs 2
    assert_allclose(fitted.prior_, (0.8, 0.15, 0.05), atol=0.015)
    assert abs(fitted.noise_scale_ - 2) < 0.1


def test_bars_of_both_signs_are_found():
    X, W = unequal_bars(0, (-1, 0, 1), (0.1, 0.8, 0.1))
    noise = [(0, 3.0), (0.5, 3.0), (0.8, 0.0)]
    schedule = LinearSchedule({"T": [(0, 2.0), (0.7, 1.0)], "components_noise": noise})
    fitted = TSC(
        10, n_candidates=7, max_active=5, schedule=schedule, tol=0, n_init=3, random_state=0
    ).fit(X)
    assert match_components(fitted.components_, W, signed=True).errors.max() < 0.5
    assert abs(fitted.prior_ - 0.2) < 0.015
    assert abs(fitted.noise_scale_ - 2) < 0.1
