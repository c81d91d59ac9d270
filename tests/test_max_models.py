"""Maximal and maximum magnitude causes: brute force, reductions, invariances, bars, bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import (
    all_states,
    max_candidates,
    max_posterior,
    max_rows,
    max_shares,
    max_step,
    truncated_states,
)

from sparseprob.callbacks import Checkpoint
from sparseprob.datasets import make_bars, match_components
from sparseprob.dictionary import (
    MCA,
    MMCA,
    BinarySparseCoding,
    LinearSchedule,
    MaximalCausesAnalysis,
    MaximumMagnitudeCausesAnalysis,
)

BOTH = pytest.mark.parametrize("estimator", [MCA, MMCA])
RHO = {MCA: 1 / (1 - 1 / 1.05), MMCA: 1 / (1 - 1 / 1.2)}  # at temperature 1


def planted(estimator=MCA, N=60, H=5, D=7, seed=0, noise=0.7):
    rng = np.random.default_rng(seed)
    W = rng.gamma(1.5, 2.0, size=(H, D))
    if estimator is MMCA:
        W *= rng.choice([-1.0, 1.0], size=(H, D))
    S = (rng.random((N, H)) < 0.3).astype(float)
    rows = max_rows(S, W, magnitude=estimator is MMCA)
    return rows + noise * rng.normal(size=(N, D)), W


def initial(W, prior=0.2, noise_scale=1.0):
    return {"components": W, "prior": prior, "noise_scale": noise_scale}


def model(estimator=MCA, H=5, **options):
    options = {"n_candidates": H, "max_active": H, "max_iter": 10, "tol": 0, **options}
    return estimator(H, random_state=0, **options)


def at(temperature):
    return LinearSchedule({"T": [(0, temperature)]})


def gappy(X, share=0.3, seed=1):
    X = X.copy()
    X[np.random.default_rng(seed).random(X.shape) < share] = np.nan
    X[:, 0] = np.nan_to_num(X[:, 0])  # every row has an entry
    return X


def assert_step(fitted, step):
    for name in ("components", "prior", "noise_scale"):
        assert_allclose(getattr(fitted, f"{name}_"), step[name], rtol=1e-10, atol=1e-12)
    assert_allclose(fitted.lower_bound_, step["lower_bound"], rtol=1e-10)


# ---------------------------------------------------------------- oracles
@BOTH
@pytest.mark.parametrize(("n_candidates", "max_active"), [(5, 5), (4, 2), (3, 1)])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize(
    ("temperature", "combination"),
    [(1.0, "auto"), (1.0, "soft"), (1.1, "auto"), (3.0, "auto"), (3.0, "hard")],
)
def test_one_step_equals_brute_force(
    estimator, n_candidates, max_active, temperature, combination, missing
):
    X, W = planted(estimator)
    X, W = gappy(X) if missing else X, W + 0.3
    fitted = model(
        estimator, n_candidates=n_candidates, max_active=max_active, max_iter=1, init=initial(W),
        schedule=at(temperature), combination=combination, missing="nan" if missing else None,
    ).fit(X)  # fmt: skip
    smallest = 1.05 if estimator is MCA else 1.2
    rho = 1 / (1 - 1 / max(temperature, smallest))
    if combination == "hard" or (combination == "auto" and temperature == 1):
        rho = None
    step = max_step(
        X, W, 0.2, 1.0, n_candidates, max_active, magnitude=estimator is MMCA, rho=rho,
        temperature=temperature,
    )  # fmt: skip
    assert_step(fitted, step)


@BOTH
def test_tempered_prior_is_tempered(estimator):
    X, W = planted(estimator)
    schedule = LinearSchedule({"T": [(0, 2.5)], "anneal_prior": [(0, 1)]})
    fitted = model(estimator, max_iter=1, init=initial(W), schedule=schedule).fit(X)
    step = max_step(
        X, W, 0.2, 1.0, 5, 5, magnitude=estimator is MMCA, rho=2.5 / 1.5, temperature=2.5,
        anneal_prior=True,
    )  # fmt: skip
    assert_step(fitted, step)


@BOTH
@pytest.mark.parametrize("combination", ["auto", "soft"])
@pytest.mark.parametrize("missing", [False, True])
def test_codes_bounds_and_rows_equal_enumeration(estimator, combination, missing):
    X, W = planted(estimator)
    X = gappy(X) if missing else X
    options = {"combination": combination, "missing": "nan" if missing else None}
    fitted = model(estimator, max_iter=1, learn=(), init=initial(W), **options).fit(X)
    step = max_step(
        X, W, 0.2, 1.0, 5, 5, magnitude=estimator is MMCA,
        rho=RHO[estimator] if combination == "soft" else None,
    )  # fmt: skip
    assert_allclose(fitted.transform(X), step["codes"], atol=1e-10)
    assert_allclose(fitted.score(X), step["lower_bound"], rtol=1e-10)
    assert_allclose(fitted.reconstruct(X), step["rows"], rtol=1e-9, atol=1e-10)


@BOTH
@pytest.mark.parametrize("combination", ["hard", "soft"])
def test_inferred_states_and_probabilities_equal_enumeration(estimator, combination):
    X, W = planted(estimator, N=20)
    options = {"n_candidates": 4, "max_active": 3, "combination": combination}
    fitted = model(estimator, max_iter=1, learn=(), init=initial(W), **options).fit(X)
    result = fitted.infer(X, top_k=6)
    soft = {"rho": RHO[estimator] if combination == "soft" else None}
    for i, y in enumerate(X):
        candidates = max_candidates(y, W, 4, magnitude=estimator is MMCA)
        states = truncated_states(candidates, 5, 3)
        q, _ = max_posterior(y, states, W, 0.2, 1.0, magnitude=estimator is MMCA, **soft)
        order = np.argsort(-q, kind="stable")[:6]
        assert_allclose(result.prob[i], q[order], rtol=1e-9, atol=1e-14)
        assert_array_equal(result.states[i, 0], states[order[0]])
        assert_allclose(result.marginals[i], q @ states, atol=1e-10)
    wide = fitted.infer(X, top_k=10**6, adaptive=True)
    assert_allclose(wide.prob.sum(axis=1), 1, rtol=1e-12)


@BOTH
@pytest.mark.parametrize("rho", [1.3, 6.0, 21.0])
def test_shares_are_derivatives_of_the_rows(estimator, rho):
    _, W = planted(estimator)
    W = np.abs(W) + 0.1  # where signs cancel, the share is cut off at 1 on purpose
    states = all_states(5)[1:]
    shares = max_shares(states, W, rho=rho)
    for h, d in [(0, 0), (2, 3), (4, 6)]:
        step = np.zeros(W.shape)
        step[h, d] = 1e-5 * W[h, d]
        up, down = (max_rows(states, W + s, rho=rho)[:, d] for s in (step, -step))
        slope = (up - down) / (2e-5 * W[h, d])
        assert_allclose(slope, shares[:, h, d], rtol=1e-6, atol=1e-9)


# ---------------------------------------------------------------- reductions
@pytest.mark.parametrize("combination", ["hard", "soft"])
def test_single_causes_are_those_of_binary_sparse_coding(combination):
    X, W = planted()
    options = {"max_active": 1, "init": initial(W), "learn": (), "max_iter": 1}
    ours = model(combination=combination, **options).fit(X)
    linear = BinarySparseCoding(5, n_candidates=5, tol=0, **options).fit(X)
    assert_allclose(ours.score_samples(X), linear.score_samples(X), rtol=1e-12)
    assert_allclose(ours.transform(X), linear.transform(X), atol=1e-12)
    assert_allclose(ours.reconstruct(X), linear.reconstruct(X), rtol=1e-10, atol=1e-12)


def test_magnitudes_of_positive_causes_are_maxima():
    X, W = planted()
    options = {"init": initial(W), "learn": (), "max_iter": 1, "combination": "hard"}
    a, b = model(MCA, **options).fit(X), model(MMCA, **options).fit(X)
    assert_allclose(a.score_samples(X), b.score_samples(X), rtol=1e-13)
    assert_allclose(a.transform(X), b.transform(X), atol=1e-13)
    assert_allclose(a.reconstruct(X), b.reconstruct(X), rtol=1e-12)


# ---------------------------------------------------------------- invariances
@BOTH
def test_monotone_option_never_falls(estimator):
    X, _ = planted(estimator, N=200, noise=2.0)
    options = {"max_iter": 40, "n_candidates": 4, "max_active": 3}
    bound = model(estimator, monotone=True, **options).fit(X).history_["lower_bound"]
    assert (np.diff(bound) >= -1e-12 * np.abs(bound[1:])).all()
    assert bound[-1] > bound[0] + 0.1


def test_monotone_option_mends_a_fall():
    X, _ = planted(MMCA, N=200, noise=2.0)
    found = {}
    for monotone in (False, True):
        rng = np.random.default_rng(0)
        start = initial(rng.normal(size=(5, 7)) * 4, 0.5, 0.5)
        options = {"init": start, "learn": ("components",), "max_iter": 15}
        found[monotone] = model(MMCA, monotone=monotone, **options).fit(X).history_["lower_bound"]
    assert np.diff(found[False]).min() < -1e-6
    assert np.diff(found[True]).min() >= -1e-12 * np.abs(found[True]).max()


@BOTH
def test_free_energy_grows_with_the_state_set(estimator):
    X, W = planted(estimator)
    magnitude = estimator is MMCA
    exact = np.array(
        [max_posterior(y, all_states(5), W, 0.2, 1.0, magnitude=magnitude)[1] for y in X]
    )

    def bound(n_candidates, max_active):
        sizes = {"n_candidates": n_candidates, "max_active": max_active}
        fitted = model(estimator, max_iter=1, init=initial(W), learn=(), **sizes).fit(X)
        return fitted.score_samples(X)

    for smaller, larger in (((3, 1), (3, 2)), ((3, 2), (4, 2)), ((4, 2), (4, 4)), ((4, 4), (5, 5))):
        assert (bound(*smaller) <= bound(*larger) + 1e-10).all()
    assert (bound(4, 3) <= exact + 1e-10).all()
    assert_allclose(bound(5, 5), exact, rtol=1e-10)


@BOTH
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_chunk_size_does_not_matter(estimator, batch_size):
    X, _ = planted(estimator, N=100)
    options = {"max_active": 2, "schedule": "anneal"}
    a = model(estimator, **options).fit(X)
    b = model(estimator, batch_size=batch_size, **options).fit(X)
    assert_allclose(a.components_, b.components_, rtol=1e-9, atol=1e-10)
    assert_allclose(a.reconstruct(X), b.reconstruct(X), rtol=1e-9, atol=1e-10)


@BOTH
def test_atoms_features_and_rows_may_be_permuted(estimator):
    X, W = planted(estimator, N=100)
    rng = np.random.default_rng(1)
    atoms, rows, features = rng.permutation(5), rng.permutation(100), rng.permutation(7)
    options = {"n_candidates": 4, "max_active": 3, "schedule": "anneal"}
    a = model(estimator, init=initial(W), **options).fit(X)
    b = model(estimator, init=initial(W[atoms][:, features]), **options).fit(X[rows][:, features])
    assert_allclose(a.components_[atoms][:, features], b.components_, rtol=1e-8, atol=1e-9)
    assert_allclose(a.lower_bound_, b.lower_bound_, rtol=1e-10)


def test_signs_of_features_may_be_flipped():
    X, W = planted(MMCA, N=100)
    signs = np.array([1, -1, 1, 1, -1, -1, 1.0])
    options = {"n_candidates": 4, "max_active": 3, "schedule": "anneal"}
    a = model(MMCA, init=initial(W), **options).fit(X)
    b = model(MMCA, init=initial(W * signs), **options).fit(X * signs)
    assert_allclose(a.components_ * signs, b.components_, rtol=1e-8, atol=1e-9)


@BOTH
@pytest.mark.parametrize("schedule", [None, "anneal"])
def test_single_precision_is_close_to_double(estimator, schedule):
    X, W = planted(estimator, N=500)
    options = {"init": initial(W), "schedule": schedule}
    a = model(estimator, **options).fit(X)
    b = model(estimator, **options).fit(X.astype(np.float32))
    assert b.components_.dtype == b.reconstruct(X.astype(np.float32)).dtype == np.float32
    assert_allclose(a.components_, b.components_, atol=2e-3)
    assert abs(a.lower_bound_ - b.lower_bound_) < 1e-4


@BOTH
def test_resumed_fit_has_the_same_bits(estimator, tmp_path):
    X, _ = planted(estimator, N=200)
    options = {"n_init": 2, "schedule": "anneal", "max_active": 2, "monotone": True}
    whole = model(estimator, **options).fit(X)
    path = tmp_path / "fit.npz"

    class Stop(Checkpoint):
        def on_fit_task_end(self, estimator, context):
            super().on_fit_task_end(estimator, context)
            if self._seen == 13:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model(estimator, **options).set_callbacks(Stop(path)).fit(X)
    resumed = model(estimator, **options).fit(X, resume_from=path)
    assert_array_equal(resumed.components_, whole.components_)
    assert_array_equal(resumed.history_["lower_bound"], whole.history_["lower_bound"])


def test_everything_follows_x(xp):
    X, _ = planted(N=100)
    expected = model(schedule="anneal").fit(X)
    A = xp.asarray(X)
    fitted = model(schedule="anneal").fit(A)
    S = fitted.transform(A)
    for array in (fitted.components_, S, fitted.reconstruct(A), fitted.inverse_transform(S)):
        assert type(array) is type(A)
    for name in ("transform", "score_samples", "reconstruct"):
        ours = getattr(fitted, name)(A)
        ours = ours.get() if xp.name == "cupy" else np.from_dlpack(ours)
        assert_allclose(ours, getattr(expected, name)(X), atol=1e-8)


# ---------------------------------------------------------------- learned states
@BOTH
@pytest.mark.parametrize("kind", ["sample", "evo"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_search_is_exact_where_every_state_fits(estimator, kind, temperature):
    X, W = planted(estimator, N=30, H=4)
    fitted = model(
        estimator, 4, n_candidates=3, max_active=2, state_search=kind, n_states=16, max_iter=60,
        learn=(), init=initial(W, 0.4), schedule=at(temperature),
    ).fit(X)  # fmt: skip
    tempering = {"temperature": temperature} if temperature > 1 else {}
    rho = temperature / (temperature - 1) if temperature > 1 else None
    step = max_step(
        X, W, 0.4, 1.0, 4, 4, magnitude=estimator is MMCA, rho=rho,
        states_of=lambda y: all_states(4), **tempering,
    )  # fmt: skip
    assert_allclose(fitted.lower_bound_, step["lower_bound"], rtol=1e-10)


@BOTH
def test_codes_and_rows_of_searched_states_equal_enumeration(estimator):
    """The states of four candidates are all states, and are always proposed."""
    X, W = planted(estimator, N=30, H=4)
    options = {"state_search": "evo", "n_states": 16, "learn": (), "init": initial(W)}
    fitted = model(estimator, 4, max_iter=1, **options).fit(X)
    step = max_step(X, W, 0.2, 1.0, 4, 4, magnitude=estimator is MMCA)
    assert_allclose(fitted.transform(X), step["codes"], atol=1e-10)
    assert_allclose(fitted.reconstruct(X), step["rows"], rtol=1e-9, atol=1e-10)
    assert_allclose(fitted.infer(X, top_k=16).marginals, step["codes"], atol=1e-10)


@BOTH
@pytest.mark.parametrize("combination", ["hard", "soft"])
def test_learning_from_searched_states_equals_brute_force(estimator, combination):
    """The states of three candidates are all states, and are always proposed."""
    X, W = planted(estimator, N=40, H=3)
    W = W + 0.2
    fitted = model(
        estimator, 3, state_search="evo", n_states=8, max_iter=1, init=initial(W),
        combination=combination,
    ).fit(X)  # fmt: skip
    rho = RHO[estimator] if combination == "soft" else None
    assert_step(fitted, max_step(X, W, 0.2, 1.0, 3, 3, magnitude=estimator is MMCA, rho=rho))


# ---------------------------------------------------------------- what rows and codes become
@BOTH
@pytest.mark.parametrize("combination", ["auto", "soft"])
def test_binary_codes_become_noise_free_rows(estimator, combination):
    X, W = planted(estimator)
    options = {"learn": (), "max_iter": 1, "init": initial(W), "combination": combination}
    fitted = model(estimator, **options).fit(X)
    rho = RHO[estimator] if combination == "soft" else None
    expected = max_rows(all_states(5), W, magnitude=estimator is MMCA, rho=rho)
    assert_allclose(fitted.inverse_transform(all_states(5)), expected, rtol=1e-12, atol=1e-12)


def test_real_codes_scale_the_causes():
    X, W = planted()
    fitted = model(learn=(), max_iter=1, init=initial(W)).fit(X)
    codes = np.array([[0.5, 0, 0, 0, 0], [0.5, 0.2, 0, 0, 0]])
    expected = [0.5 * W[0], np.maximum(0.5 * W[0], 0.2 * W[1])]
    assert_allclose(fitted.inverse_transform(codes), expected, rtol=1e-14)


@BOTH
def test_samples_follow_the_model(estimator):
    X, W = planted(estimator)
    fitted = model(estimator, init=initial(W, 0.3, 0.5), learn=(), max_iter=1).fit(X)
    samples, states = fitted.sample(20_000)
    assert abs(states.mean() - 0.3) < 4 * np.sqrt(0.21 / states.size)
    residual = samples - max_rows(states, W, magnitude=estimator is MMCA)
    assert abs(residual.std() - 0.5) < 4 * 0.5 / np.sqrt(2 * residual.size)
    assert abs(residual.mean()) < 4 * 0.5 / np.sqrt(residual.size)


@BOTH
def test_online_learning_improves(estimator):
    X, W = planted(estimator, N=1000)
    online = model(estimator, init=initial(W + 0.3), schedule=None)
    online.partial_fit(X[:100])
    first = online.score(X)
    for _ in range(5):
        for rows in np.split(X, 10):
            online.partial_fit(rows)
    assert online.score(X) > first + 0.05


@BOTH
def test_missing_entries_are_predicted(estimator):
    X, W = planted(estimator, N=300, D=12, noise=0.2)
    whole = X + 0.0
    X = gappy(X, 0.2)
    fitted = model(estimator, missing="nan", init=initial(W, 0.3, 0.3), max_iter=15).fit(X)
    absent = np.isnan(X)
    error = (fitted.reconstruct(X) - whole)[absent]
    spread = (whole - np.nanmean(X, axis=0))[absent]
    assert np.sqrt((error**2).mean()) < 0.5 * np.sqrt((spread**2).mean())
    assert np.isfinite(fitted.infer(X).prob).all()


@BOTH
def test_dead_atoms_are_replaced(estimator):
    X, W = planted(estimator, N=300)
    start = W.copy()
    start[2] = 1e3  # no row is anywhere near
    revived = model(estimator, init=initial(start), reinit_dead=True).fit(X)
    kept = model(estimator, init=initial(start)).fit(X)
    assert np.abs(revived.components_[2]).max() < 100
    assert revived.lower_bound_ > kept.lower_bound_


@BOTH
def test_data_cut_uses_the_best_explained_rows(estimator):
    X, W = planted(estimator, N=100)
    options = {"max_active": 1, "max_iter": 1, "init": initial(W)}
    fitted = model(estimator, data_cut=0.7, **options).fit(X)
    bound = model(estimator, learn=(), **options).fit(X).score_samples(X)
    best = np.argsort(-bound)[: fitted.n_used_]
    assert 50 < fitted.n_used_ < 100
    assert_step(fitted, max_step(X[best], W, 0.2, 1.0, 5, 1, magnitude=estimator is MMCA))


def test_entries_keep_their_bounds():
    X, _ = planted(MMCA, N=200)
    magnitude = model(MMCA, schedule="anneal").fit(X - X.mean(axis=0))
    assert np.abs(magnitude.components_).min() >= 1e-4
    positive = model(MCA, schedule="anneal").fit(np.abs(X))
    assert positive.components_.min() >= 1e-4


def test_preselection_may_be_joint_or_a_function():
    X, W = planted()
    options = {"n_candidates": 3, "max_active": 2, "init": initial(W), "max_iter": 1}

    def fewest_excesses(projections, context):
        excess = context.components - X[:, None]
        return -np.maximum(excess, 0).sum(axis=2)

    a, b = model(**options).fit(X), model(**options, preselect=fewest_excesses).fit(X)
    assert_array_equal(a.components_, b.components_)
    joint = model(**options, preselect="joint").fit(X)
    assert joint.lower_bound_ != a.lower_bound_
    magnitude = model(MMCA, **options).fit(X), model(MMCA, **options, preselect="joint").fit(X)
    assert_allclose(magnitude[0].components_, magnitude[1].components_, rtol=1e-12)


# ---------------------------------------------------------------- bars
def test_names_are_short_and_long():
    assert MCA is MaximalCausesAnalysis
    assert MMCA is MaximumMagnitudeCausesAnalysis


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2])
@BOTH
def test_bars_are_recovered(estimator, seed):
    signed = estimator is MMCA
    bars = make_bars(
        1000, 5, p_bar=0.2, model="absmax" if signed else "max", signed=signed, random_state=seed
    )
    hot = LinearSchedule({"T": [(0, 12.0), (0.8, 1.0)]})
    options = {"schedule": hot, "n_init": 3} if signed else {"combination": "hard"}
    fitted = estimator(
        10, n_candidates=7 if signed else 8, max_active=5, tol=0, random_state=seed,
        **{"schedule": "anneal", "max_iter": 80, **options},
    ).fit(bars.data)  # fmt: skip
    match = match_components(fitted.components_, bars.components, signed=signed)
    assert match.errors.max() < 1.5  # an absent bar costs 2
    assert 0.15 < fitted.prior_ < 0.23
    if not signed:
        assert 1.9 < fitted.noise_scale_ < 2.1


# ---------------------------------------------------------------- bad input
def test_negative_data_are_warned_of():
    X, W = planted(MMCA)
    with pytest.warns(UserWarning, match=r"\d\d% of the mass of X is negative"):
        model(max_iter=1).fit(X)
    model(max_iter=1).fit(planted(MCA)[0])  # a little noise below zero is expected
    model(MMCA, max_iter=1).fit(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"combination": "sum"}, "'combination' parameter"),
        ({"monotone": "yes"}, "'monotone' parameter"),
        ({"init": -np.ones((5, 7))}, "must not be negative where the largest cause wins, got -1;"),
        ({"init": {"offset": np.zeros(7)}}, r"unknown entries \['offset'\]"),
        ({"n_candidates": 6}, "n_candidates must not exceed n_components"),
        ({"missing": "nan", "state_search": "evo"}, "needs state_search='select'"),
    ],
)
def test_bad_parameters_are_refused_in_a_sentence(options, message):
    X, _ = planted()
    with pytest.raises(ValueError, match=message):
        model(**options).fit(X)


def test_there_is_no_offset():
    with pytest.raises(TypeError, match="fit_offset"):
        MCA(fit_offset=True)
    X, _ = planted()
    assert not hasattr(model(max_iter=1).fit(X), "offset_")
