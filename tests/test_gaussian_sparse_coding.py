"""Spike-and-slab sparse coding against brute force in data space, its limits, and bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import (
    all_states,
    bsc_log_evidence,
    slab_candidates,
    slab_log_evidence,
    slab_posterior,
    slab_step,
    truncated_states,
)
from scipy.stats import binom, multivariate_normal, norm

from sparseprob.callbacks import Checkpoint
from sparseprob.datasets import make_bars, match_components
from sparseprob.dictionary import GSC, GaussianSparseCoding, LinearSchedule

KINDS = [(noise, slab) for noise in ("scalar", "diag", "full") for slab in ("diag", "full")]


def planted(N=40, H=4, D=6, seed=0, noise=0.5):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(H, D))
    codes = (rng.random((N, H)) < 0.35) * rng.normal(1.0, 1.0, size=(N, H))
    return codes @ W + noise * rng.normal(size=(N, D)), W


def start(W, noise="scalar", slab="diag", seed=1):
    """Parameters with nothing special about them."""
    rng, (H, D) = np.random.default_rng(seed), W.shape
    A, B = rng.normal(size=(H, H)), rng.normal(size=(D, D))
    diag = rng.uniform(0.3, 0.8, size=D)
    return {
        "components": W + 0.2, "prior": rng.uniform(0.1, 0.6, size=H),
        "noise_variance": {"scalar": 0.4, "diag": diag, "full": np.diag(diag) + 0.05 * B @ B.T}[
            noise
        ],
        "slab_mean": rng.normal(size=H),
        "slab_covariance": rng.uniform(0.2, 1.5, size=H) if slab == "diag" else A @ A.T + np.eye(H),
    }  # fmt: skip


def model(H=4, **options):
    options = {
        "n_candidates": H, "max_active": H, "max_iter": 10, "tol": 0, "random_state": 0,
        "normalize_components": False, **options,
    }  # fmt: skip
    return GaussianSparseCoding(H, **options)


def kinds(noise, slab):
    return {"noise": noise, "prior_covariance": slab}


def parameters(fitted):
    names = ("components", "prior", "noise_variance", "slab_mean", "slab_covariance")
    return {name: getattr(fitted, f"{name}_") for name in names}


def assert_same_parameters(fitted, expected, rtol=1e-9):
    for name, value in parameters(fitted).items():
        assert_allclose(value, expected[name], rtol=rtol, atol=1e-10, err_msg=name)


def with_holes(X, share=0.3, seed=5):
    mask = np.random.default_rng(seed).random(X.shape) < share
    mask[np.arange(len(X)), np.arange(len(X)) % X.shape[1]] = False  # something is left
    return np.where(mask, np.nan, X)


# ---------------------------------------------------------------- oracles
@pytest.mark.parametrize(("noise", "slab"), KINDS)
@pytest.mark.parametrize(("n_candidates", "max_active"), [(4, 4), (3, 2), (2, 1)])
def test_one_step_equals_brute_force(noise, slab, n_candidates, max_active):
    X, W = planted()
    begin = start(W, noise, slab)
    options = {"n_candidates": n_candidates, "max_active": max_active, **kinds(noise, slab)}
    fitted = model(max_iter=1, init=begin, **options).fit(X)
    variance = 1e-8 * X.var(axis=0).mean()
    step = slab_step(X, begin, n_candidates, max_active, variance=variance)
    assert_allclose(fitted.lower_bound_, step["lower_bound"], rtol=1e-10)
    assert_same_parameters(fitted, step)


@pytest.mark.parametrize("slab", ["diag", "full"])
@pytest.mark.parametrize("anneal_prior", [0, 1])
@pytest.mark.parametrize("noise", ["scalar", "full"])
def test_tempered_step_and_its_bound_equal_brute_force(noise, slab, anneal_prior):
    X, W = planted()
    begin, points = start(W, noise, slab), {"T": [(0, 2.0)], "anneal_prior": [(0, anneal_prior)]}
    fitted = model(
        max_iter=1, init=begin, schedule=LinearSchedule(points), n_candidates=3, max_active=3,
        **kinds(noise, slab),
    ).fit(X)  # fmt: skip
    step = slab_step(
        X, begin, 3, 3, variance=1e-8 * X.var(axis=0).mean(), temperature=2.0,
        anneal_prior=bool(anneal_prior),
    )  # fmt: skip
    assert_allclose(fitted.lower_bound_, step["lower_bound"], rtol=1e-10)
    assert_same_parameters(fitted, step)
    assert fitted.lower_bound_ < slab_log_evidence(X, begin).mean()


@pytest.mark.parametrize(("noise", "slab"), KINDS)
def test_exact_inference_equals_the_mixture_over_all_supports(noise, slab):
    X, W = planted()
    fitted = model(max_iter=3, init=start(W, noise, slab), **kinds(noise, slab)).fit(X)
    found, states = parameters(fitted), all_states(4)
    assert_allclose(fitted.score_samples(X), slab_log_evidence(X, found), rtol=1e-10)
    codes = fitted.transform(X)
    for y, code in zip(X, codes, strict=True):
        q, _, means, _ = slab_posterior(y, states, found)
        assert_allclose(code, q @ (states * means), atol=1e-10)
    assert_allclose(fitted.reconstruct(X), codes @ fitted.components_, atol=1e-10)
    assert_allclose(fitted.inverse_transform(codes), codes @ fitted.components_, atol=1e-10)


@pytest.mark.parametrize("slab", ["diag", "full"])
def test_second_moments_equal_brute_force(slab):
    from sparseprob.dictionary._statistics import Statistics

    X, W = planted(N=150)  # more than two blocks of points
    begin = start(W, "diag", slab)
    fitted = model(max_iter=1, learn=(), init=begin, n_candidates=3, max_active=3)
    fitted.set_params(**kinds("diag", slab)).fit(X)
    made, params = fitted._make_model(), fitted._parameters()
    sums = Statistics(made.statistics_shapes(4, 6))
    context = made.context(params, np, np.dtype(float))
    made.accumulate(X, context, fitted._make_table(), sums)
    step = slab_step(X, begin, 3, 3)
    assert_allclose(sums["second"], step["second"], rtol=1e-10, atol=1e-10)
    assert_allclose(sums["codes"], step["codes"].sum(axis=0), rtol=1e-10)
    assert_allclose(sums["counts"][0], step["spikes"].sum(axis=0), rtol=1e-10)
    assert_allclose(sums["codes_data"], step["codes"].T @ X, atol=1e-9)


@pytest.mark.parametrize(("noise", "slab"), [("scalar", "diag"), ("full", "full")])
def test_inferred_states_and_probabilities_equal_enumeration(noise, slab):
    X, W = planted(N=15)
    begin = start(W, noise, slab)
    fitted = model(
        max_iter=1, learn=(), init=begin, n_candidates=3, max_active=2, **kinds(noise, slab)
    ).fit(X)  # fmt: skip
    result = fitted.infer(X, top_k=5)
    for i, y in enumerate(X):
        states = truncated_states(slab_candidates(y, begin, 3), 4, 2)
        q = slab_posterior(y, states, begin)[0]
        order = np.argsort(-q, kind="stable")[:5]
        assert_allclose(result.prob[i], q[order], rtol=1e-9, atol=1e-14)
        assert_array_equal(result.states[i, 0], states[order[0]])
        assert_allclose(result.marginals[i], q @ states, atol=1e-10)
    wide = fitted.infer(X, top_k=10**6, adaptive=True, max_candidates=4, max_active=4)
    assert (wide.max_active >= 2).all()
    assert_array_equal(fitted.transform(X, method="map"), result.states[:, 0])


@pytest.mark.parametrize("slab", ["diag", "full"])
@pytest.mark.parametrize("kind", ["sample", "evo"])
def test_learned_states_are_exact_when_all_of_them_fit(kind, slab):
    X, W = planted()
    begin = start(W, "diag", slab)
    options = {"init": begin, **kinds("diag", slab)}
    search = {"state_search": kind, "n_states": 16}
    fitted = model(
        learn=(), n_candidates=3, max_active=2, max_iter=300, **search, **options
    ).fit(X)  # fmt: skip
    exact = slab_log_evidence(X, begin)
    assert fitted.history_["lower_bound"][0] < exact.mean() - 1e-3
    assert_allclose(fitted.lower_bound_, exact.mean(), rtol=1e-7)
    assert (fitted.score_samples(X) <= exact + 1e-9).all()
    points = {"T": [(0, 2.0)], "anneal_prior": [(0, 1)]}
    options |= {"max_iter": 1, "schedule": LinearSchedule(points)}
    searched, listed = model(**search, **options).fit(X), model(**options).fit(X)
    assert_same_parameters(searched, parameters(listed))
    assert_allclose(searched.lower_bound_, listed.lower_bound_, rtol=1e-10)
    result = searched.infer(X, top_k=3)
    assert_allclose(result.prob, listed.infer(X, top_k=3).prob, atol=1e-9)


def test_learned_states_never_let_the_free_energy_fall():
    X, W = planted(N=60, H=6, D=8)
    fitted = model(
        6, state_search="evo", n_states=10, n_candidates=4, max_active=2, max_iter=20,
        init=start(W), random_state=0,
    ).fit(X)  # fmt: skip
    bound = fitted.history_["lower_bound"]
    assert (np.diff(bound) >= -1e-9 * np.abs(bound[1:])).all()
    assert (fitted.score_samples(X) <= slab_log_evidence(X, parameters(fitted)) + 1e-9).all()


# ---------------------------------------------------------------- missing entries
@pytest.mark.parametrize("slab", ["diag", "full"])
@pytest.mark.parametrize("noise", ["scalar", "diag"])
def test_missing_entries_equal_brute_force(noise, slab):
    X, W = planted()
    X = with_holes(X)
    begin = start(W, noise, slab)
    options = {"n_candidates": 3, "max_active": 2, "missing": "nan", **kinds(noise, slab)}
    fitted = model(max_iter=1, learn=(), init=begin, **options).fit(X)
    codes, bound = fitted.transform(X), fitted.score_samples(X)
    for i, y in enumerate(X):
        states = truncated_states(slab_candidates(y, begin, 3), 4, 2)
        q, F, means, _ = slab_posterior(y, states, begin)
        assert_allclose(bound[i], F, rtol=1e-10)
        assert_allclose(codes[i], q @ (states * means), atol=1e-10)
    assert_allclose(fitted.lower_bound_, bound.mean(), rtol=1e-10)
    assert_allclose(fitted.reconstruct(X), codes @ fitted.components_, atol=1e-10)


@pytest.mark.parametrize("slab", ["diag", "full"])
@pytest.mark.parametrize("noise", ["scalar", "diag"])
def test_nothing_missing_equals_the_ordinary_fit(noise, slab):
    X, W = planted()
    options = {"init": start(W, noise, slab), "n_candidates": 3, **kinds(noise, slab)}
    options |= {"max_active": 3, "max_iter": 5}
    plain, masked = model(**options).fit(X), model(missing="nan", **options).fit(X)
    assert_same_parameters(masked, parameters(plain))


@pytest.mark.parametrize("slab", ["diag", "full"])
@pytest.mark.parametrize("noise", ["scalar", "diag"])
def test_free_energy_never_falls_with_missing_entries(noise, slab):
    X, W = planted(N=150)
    fitted = model(
        missing="nan", max_iter=50, init=start(W, noise, slab), **kinds(noise, slab)
    ).fit(with_holes(X))  # fmt: skip
    bound = fitted.history_["lower_bound"]
    assert (np.diff(bound) >= -1e-9 * np.abs(bound[1:])).all()
    assert bound[-1] > bound[0] + 0.1


# ---------------------------------------------------------------- limits
def test_one_cause_has_a_closed_form():
    X, W = planted(H=1, D=3)
    fitted = model(1, max_iter=5).fit(X)
    w, psi, noise = fitted.components_[0], fitted.slab_covariance_[0], fitted.noise_variance_
    absent = norm(0, np.sqrt(noise)).logpdf(X).sum(axis=1) + np.log1p(-fitted.prior_[0])
    covariance = noise * np.eye(3) + psi * np.outer(w, w)
    there = multivariate_normal(w * fitted.slab_mean_[0], covariance).logpdf(X)
    there = there + np.log(fitted.prior_[0])
    assert_allclose(fitted.score_samples(X), np.logaddexp(absent, there), rtol=1e-10)
    weight = np.exp(there - np.logaddexp(absent, there))
    mean = (X @ w / noise + fitted.slab_mean_[0] / psi) / (w @ w / noise + 1 / psi)
    assert_allclose(fitted.transform(X)[:, 0], weight * mean, atol=1e-10)


@pytest.mark.parametrize("noise", ["scalar", "diag"])
def test_causes_that_are_always_there_make_factor_analysis(noise):
    X, W = planted(H=3)
    begin = start(W[:3], noise) | {"prior": 1 - 1e-13}
    fitted = model(3, noise=noise, max_iter=1, learn=(), init=begin).fit(X)
    sigma = np.diag(np.broadcast_to(begin["noise_variance"], 6))
    covariance = sigma + (begin["components"].T * begin["slab_covariance"]) @ begin["components"]
    expected = multivariate_normal(begin["slab_mean"] @ begin["components"], covariance).logpdf(X)
    assert_allclose(fitted.score_samples(X), expected, rtol=1e-10)


def test_slabs_without_width_make_binary_sparse_coding():
    X, W = planted()
    narrow = {"slab_mean": np.ones(4), "slab_covariance": np.full(4, 1e-12)}
    begin = start(W) | narrow | {"prior": 0.3}
    for dtype, rtol in ((np.float64, 1e-9), (np.float32, 1e-5)):
        fitted = model(max_iter=1, learn=(), init=begin).fit(X.astype(dtype))
        expected = bsc_log_evidence(X, begin["components"], 0.3, np.sqrt(0.4))
        assert_allclose(fitted.score_samples(X.astype(dtype)), expected, rtol=rtol)


# ---------------------------------------------------------------- invariances
@pytest.mark.parametrize(("noise", "slab"), KINDS)
def test_free_energy_never_falls(noise, slab):
    X, W = planted(N=150)
    fitted = model(max_iter=50, init=start(W, noise, slab), **kinds(noise, slab)).fit(X)
    bound = fitted.history_["lower_bound"]
    assert len(bound) == 50
    assert (np.diff(bound) >= -1e-9 * np.abs(bound[1:])).all()
    assert bound[-1] > bound[0] + 0.1


@pytest.mark.parametrize("part", [("components",), ("noise",), ("slab",), ("prior",)])
def test_learn_leaves_the_others_alone(part):
    X, W = planted()
    begin = start(W, "diag", "full")
    fitted = model(init=begin, learn=part, **kinds("diag", "full")).fit(X)
    moved = {name for name, value in parameters(fitted).items() if (value != begin[name]).any()}
    names = {"noise": {"noise_variance"}, "slab": {"slab_mean", "slab_covariance"}}
    assert moved == names.get(part[0], {part[0]})
    bound = fitted.history_["lower_bound"]
    assert (np.diff(bound) >= -1e-9 * np.abs(bound[1:])).all()


def test_free_energy_grows_with_the_state_set():
    X, W = planted()
    begin = start(W)

    def bound(n_candidates, max_active):
        options = {"n_candidates": n_candidates, "max_active": max_active, "learn": ()}
        return model(max_iter=1, init=begin, **options).fit(X).score_samples(X)

    for smaller, larger in (((3, 1), (3, 2)), ((3, 2), (4, 2)), ((4, 2), (4, 4))):
        assert (bound(*smaller) <= bound(*larger) + 1e-10).all()
    assert (bound(3, 3) <= slab_log_evidence(X, begin) + 1e-10).all()


@pytest.mark.parametrize("slab", ["diag", "full"])
def test_normalization_changes_nothing_but_the_units(slab):
    X, W = planted()
    options = {"init": start(W, "diag", slab), "max_iter": 5, **kinds("diag", slab)}
    plain = model(**options).fit(X)
    unit = model(**options | {"normalize_components": True}).fit(X)
    lengths = np.linalg.norm(plain.components_, axis=1)
    assert_allclose(np.linalg.norm(unit.components_, axis=1), 1, rtol=1e-12)
    assert_allclose(unit.score_samples(X), plain.score_samples(X), rtol=1e-10)
    assert_allclose(unit.transform(X), plain.transform(X) * lengths, rtol=1e-9, atol=1e-12)
    assert_allclose(unit.reconstruct(X), plain.reconstruct(X), atol=1e-10)
    assert_array_equal(unit.history_["lower_bound"], plain.history_["lower_bound"])
    for fitted in (plain, unit):
        fitted.partial_fit(X[:30]).partial_fit(X)
    assert_allclose(unit.score_samples(X), plain.score_samples(X), rtol=1e-9)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
@pytest.mark.parametrize("slab", ["diag", "full"])
def test_chunk_size_does_not_matter(batch_size, slab):
    X, W = planted(N=100)
    options = {"max_active": 2, "init": start(W, "full", slab), **kinds("full", slab)}
    a, b = model(**options).fit(X), model(batch_size=batch_size, **options).fit(X)
    assert_same_parameters(a, parameters(b))
    assert_allclose(a.transform(X), b.transform(X), atol=1e-9)


def test_atoms_and_rows_may_be_permuted_and_scaled():
    X, W = planted(N=100)
    order, rows = np.random.default_rng(1).permutation(4), np.random.default_rng(1).permutation(100)
    begin = start(W)
    moved = {k: v if np.ndim(v) == 0 else v[order] for k, v in begin.items()}
    a, b = model(init=begin).fit(X), model(init=moved).fit(X[rows])
    assert_allclose(a.components_[order], b.components_, rtol=1e-8, atol=1e-10)
    scaled = begin | {"components": 10 * begin["components"], "noise_variance": 40.0}
    c = model(init=scaled).fit(10 * X)
    assert_allclose(10 * a.components_, c.components_, rtol=1e-8, atol=1e-9)
    assert_allclose(100 * a.noise_variance_, c.noise_variance_, rtol=1e-9)


@pytest.mark.parametrize("slab", ["diag", "full"])
def test_single_precision_is_close_to_double(slab):
    X, W = planted(N=500)
    options = {"init": start(W, "diag", slab), **kinds("diag", slab)}
    a, b = model(**options).fit(X), model(**options).fit(X.astype(np.float32))
    assert b.components_.dtype == b.transform(X.astype(np.float32)).dtype == np.float32
    for name, value in parameters(a).items():
        assert_allclose(getattr(b, f"{name}_"), value, atol=2e-3)
    assert abs(a.lower_bound_ - b.lower_bound_) < 1e-4


def test_everything_follows_x(xp):
    X, W = planted()
    options = {"init": start(W, "diag"), "noise": "diag", "max_iter": 3}
    expected, A = model(**options).fit(X), xp.asarray(X)
    fitted = model(**options).fit(A)
    for array in (fitted.components_, fitted.slab_covariance_, fitted.transform(A)):
        assert type(array) is type(A)
    ours = fitted.score_samples(A)
    ours = ours.get() if xp.name == "cupy" else np.from_dlpack(ours)
    assert_allclose(ours, expected.score_samples(X), atol=1e-9)
    assert all(type(array) is type(A) for array in fitted.sample(3))


@pytest.mark.gpu
@pytest.mark.parametrize(("n_candidates", "max_active"), [(4, 4), (3, 1), (4, 2)])
@pytest.mark.parametrize("slab", ["diag", "full"])
def test_gpu_and_cpu_take_the_same_step(slab, n_candidates, max_active):
    cupy = pytest.importorskip("cupy")
    X, W = planted(N=300)
    options = {"n_candidates": n_candidates, "max_active": max_active, "max_iter": 3}
    options |= {"init": start(W, "diag", slab), **kinds("diag", slab)}
    a, b = model(**options).fit(X), model(**options).fit(cupy.asarray(X))
    for name, value in parameters(a).items():
        assert_allclose(getattr(b, f"{name}_").get(), value, rtol=1e-8, atol=1e-9)


def test_an_atom_of_zeros_does_no_harm():
    X, W = planted()
    begin = start(W)
    fitted = model(max_iter=1, learn=(), init=begin).fit(X)
    fitted.components_[1] = 0.0
    expected = slab_log_evidence(X, parameters(fitted))
    assert_allclose(fitted.score_samples(X), expected, rtol=1e-10)
    fitted.set_params(n_candidates=3, max_active=2)
    table, made = fitted._make_table(), fitted._make_model()
    context = made.context(fitted._parameters(), np, np.dtype(float))
    candidates = made.candidates(context.projection @ X.T, context, table)
    assert set(candidates.ravel().tolist()) == {0, 2, 3}


# ---------------------------------------------------------------- options
def test_prior_may_be_shared_and_corrected_for_truncation():
    X, W = planted()
    begin = start(W) | {"prior": 0.25}
    plain = model(max_iter=1, init=begin, max_active=2).fit(X)
    shared = model(max_iter=1, init=begin, max_active=2, homogeneous_prior=True).fit(X)
    assert isinstance(shared.prior_, float)
    assert_allclose(shared.prior_, plain.prior_.mean(), rtol=1e-12)
    assert_allclose(shared.transform(X).shape, (40, 4))
    corrected = model(max_iter=1, init=begin, max_active=2, prior_correction="et").fit(X)
    p, g = binom.pmf(np.arange(3), 4, 0.25), np.arange(3)
    assert_allclose(corrected.prior_, plain.prior_ * 4 * 0.25 * p.sum() / (g @ p), rtol=1e-10)


def test_data_cut_uses_the_best_explained_rows():
    X, W = planted(N=100)
    begin = start(W)
    fitted = model(max_active=1, data_cut=0.7, max_iter=1, init=begin).fit(X)
    counts = all_states(4).sum(axis=1)
    probabilities = np.prod(np.where(all_states(4) > 0, begin["prior"], 1 - begin["prior"]), axis=1)
    n_used = int(100 * (1 - (1 - probabilities[counts <= 1].sum()) * 0.7))
    assert fitted.n_used_ == n_used < 100
    bound = model(max_active=1, max_iter=1, learn=(), init=begin).fit(X).score_samples(X)
    step = slab_step(X[np.argsort(-bound)[:n_used]], begin, 4, 1)
    assert_same_parameters(fitted, step)


def test_preselection_may_be_a_function():
    X, W = planted()
    options = {"n_candidates": 3, "max_active": 2, "init": start(W), "max_iter": 3}

    def likelihood(projections, context):
        assert_allclose(projections, X @ context.components.T / noise[0], rtol=1e-9)
        return projections

    noise = [0.4]
    model(**options | {"max_iter": 1}, preselect=likelihood).fit(X)
    joint = model(**options, preselect="joint").fit(X)
    assert joint.lower_bound_ != model(**options).fit(X).lower_bound_
    masked = model(**options, preselect="joint", missing="nan").fit(X)
    assert_allclose(masked.lower_bound_, joint.lower_bound_, rtol=1e-10)


@pytest.mark.parametrize(("noise", "slab"), [("scalar", "diag"), ("full", "full")])
def test_sample_follows_the_model(noise, slab):
    X, W = planted()
    begin = start(W, noise, slab)
    fitted = model(init=begin, learn=(), max_iter=1, **kinds(noise, slab)).fit(X)
    samples, spikes, slabs = fitted.sample(40_000)
    assert samples.shape == (40_000, 6)
    assert set(np.unique(spikes)) == {0.0, 1.0}
    error = 4 / np.sqrt(40_000)
    assert (np.abs(spikes.mean(axis=0) - begin["prior"]) < 0.5 * error).all()
    psi = begin["slab_covariance"]
    psi = np.diag(psi) if psi.ndim == 1 else psi
    spread = np.sqrt(np.diag(psi))
    assert (np.abs(slabs.mean(axis=0) - begin["slab_mean"]) < spread * error).all()
    assert (np.abs(np.cov(slabs.T) - psi) < 1.5 * np.outer(spread, spread) * error).all()
    residual = samples - (spikes * slabs) @ begin["components"]
    sigma = np.cov(residual.T)
    expected = begin["noise_variance"] * np.eye(6) if noise == "scalar" else begin["noise_variance"]
    assert np.abs(sigma - expected).max() < 1.5 * expected.max() * error


def test_online_learning_approaches_the_batch_fit():
    X, W = planted(N=2000)
    begin = start(W)
    batch, online = model(init=begin, max_iter=60).fit(X), model(init=begin)
    for _ in range(10):
        for rows in np.split(X, 10):
            online.partial_fit(rows)
    assert online.score(X) == pytest.approx(batch.score(X), abs=0.05)


def test_unused_atoms_keep_their_parameters_and_may_be_replaced():
    X, W = planted(N=300)
    begin = start(W)
    begin["components"][2], begin["slab_mean"][2] = 1e3, 5.0
    begin["slab_covariance"][2] = 1e-3
    kept = model(init=begin).fit(X)
    assert_allclose(kept.components_[2], 1e3)
    assert kept.slab_mean_[2] == 5.0
    revived = model(init=begin, reinit_dead=True).fit(X)
    assert revived.lower_bound_ > kept.lower_bound_


def test_resumed_fit_has_the_same_bits(tmp_path):
    X, _ = planted(N=100)
    options = {"max_iter": 6, "n_init": 2, "schedule": "anneal", "max_active": 2, "noise": "full"}
    whole, path = model(**options).fit(X), tmp_path / "fit.npz"

    class Stop(Checkpoint):
        def on_fit_task_end(self, estimator, context):
            super().on_fit_task_end(estimator, context)
            if self._seen == self.stop_after:
                raise KeyboardInterrupt

    for stop_after in (3, 6, 8):
        interrupted, callback = model(**options), Stop(path)
        callback.stop_after = stop_after
        with pytest.raises(KeyboardInterrupt):
            interrupted.set_callbacks(callback).fit(X)
        resumed = model(**options).fit(X, resume_from=path)
        for name, value in parameters(whole).items():
            assert_array_equal(getattr(resumed, f"{name}_"), value)
        assert_array_equal(resumed.history_["lower_bound"], whole.history_["lower_bound"])


# ---------------------------------------------------------------- recovery
def test_noise_is_estimated_without_bias():
    rng = np.random.default_rng(0)
    W, N = rng.normal(size=(4, 8)), 20_000
    spikes = rng.random((N, 4)) < 0.3
    X = (spikes * rng.normal(1.0, np.sqrt(2.0), size=(N, 4))) @ W
    X += rng.normal(scale=np.sqrt(0.3), size=X.shape)
    truth = {
        "components": W, "prior": 0.3, "noise_variance": 0.3, "slab_mean": np.ones(4),
        "slab_covariance": np.full(4, 2.0),
    }  # fmt: skip
    fitted = model(init=truth, max_iter=30).fit(X)
    assert fitted.noise_variance_ == pytest.approx(0.3, rel=0.015)
    scale = np.linalg.norm(fitted.components_, axis=1) / np.linalg.norm(W, axis=1)
    assert_allclose(fitted.slab_covariance_ * scale**2, 2.0, rtol=0.1)
    assert_allclose(fitted.prior_, 0.3, atol=0.02)


@pytest.mark.slow
def test_bars_are_found():
    rng = np.random.default_rng(0)
    truth = make_bars(1, amplitude=10.0).components
    codes = (rng.random((10_000, 10)) < 0.2) * rng.normal(1.0, 1.0, size=(10_000, 10))
    X = codes @ truth + rng.normal(size=(10_000, 25))
    fitted = GSC(
        10, n_candidates=7, max_active=4, schedule="anneal", max_iter=60, tol=0, random_state=0
    ).fit(X)  # fmt: skip
    assert match_components(_scaled(fitted, truth), truth, signed=True).errors.max() < 0.1
    # Three percent of the rows have more than four bars, which the noise must explain ...
    assert fitted.noise_variance_ > 1.2
    wide = GSC(
        10, n_candidates=10, max_active=6, max_iter=15, tol=0, init=parameters(fitted)
    ).fit(X)  # fmt: skip
    # ... but not where they are evaluated.
    assert wide.noise_variance_ == pytest.approx(1.0, abs=0.03)
    assert_allclose(wide.prior_, 0.2, atol=0.02)


def _scaled(fitted, truth):
    return fitted.components_ * np.linalg.norm(truth[0])


# ---------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": "none"}, "'noise' parameter"),
        ({"prior_covariance": "scalar"}, "'prior_covariance' parameter"),
        ({"n_candidates": 5}, "n_candidates must not exceed n_components"),
        ({"learn": ("psi",)}, "learn must be chosen from"),
        ({"init": {"prior": 1.0}}, "strictly between 0 and 1"),
        ({"init": {"prior": [0.1, 0.2]}}, r"init\['prior'\] must have shape \(4,\)"),
        ({"init": {"noise_variance": -1.0}}, r"init\['noise_variance'\] must be positive"),
        ({"init": {"slab_covariance": np.zeros(4)}}, r"'slab_covariance'\] must be positive"),
        ({"init": {"noise_scale": 1.0}}, r"unknown entries \['noise_scale'\]"),
        (
            {"init": {"noise_variance": np.ones((6, 6))}, "noise": "full"},
            "must be symmetric and positive definite",
        ),
        (
            {"init": {"slab_covariance": np.triu(np.ones((4, 4)))}, "prior_covariance": "full"},
            "must be symmetric and positive definite",
        ),
        ({"missing": "nan", "noise": "full"}, "missing='nan' needs noise='scalar' or 'diag'"),
        ({"missing": "nan", "state_search": "evo"}, "needs state_search='select'"),
    ],
)
def test_bad_parameters_are_refused_in_a_sentence(options, message):
    X, _ = planted()
    with pytest.raises(ValueError, match=message):
        model(**options).fit(X)


def test_bad_values_name_their_row():
    X, _ = planted(N=50)
    X[33, 2] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN in row 33"):
        model().fit(X)
