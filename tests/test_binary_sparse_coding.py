"""Binary sparse coding against brute force, its own invariances, and bad input."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import (
    all_states,
    best_candidates,
    bsc_log_evidence,
    bsc_step,
    linear_posterior,
    truncated_states,
)
from sklearn.exceptions import ConvergenceWarning

from sparseprob.callbacks import Checkpoint
from sparseprob.dictionary import BSC, BinarySparseCoding, LinearSchedule


def planted(N=60, H=5, D=7, seed=0, noise=0.7):
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(H, D)) * 1.5
    return (rng.random((N, H)) < 0.3) @ W + noise * rng.normal(size=(N, D)), W


def initial(W, prior=0.2, noise_scale=1.0, **more):
    return {"components": W, "prior": prior, "noise_scale": noise_scale, **more}


def model(H=5, **options):
    options = {"n_candidates": H, "max_active": H, "max_iter": 10, "tol": 0, **options}
    return BinarySparseCoding(H, random_state=0, **options)


# ---------------------------------------------------------------- oracles
@pytest.mark.parametrize(("n_candidates", "max_active"), [(5, 5), (4, 2), (3, 1)])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_one_step_equals_brute_force(n_candidates, max_active, temperature):
    X, W = planted()
    W = W + 0.3
    fitted = model(
        n_candidates=n_candidates, max_active=max_active, max_iter=1, init=initial(W),
        schedule=LinearSchedule({"T": [(0, temperature)]}),
    ).fit(X)  # fmt: skip
    step = bsc_step(X, W, 0.2, 1.0, n_candidates, max_active, temperature=temperature)
    assert_allclose(fitted.components_, step["components"], rtol=1e-10, atol=1e-12)
    assert_allclose(fitted.prior_, step["prior"], rtol=1e-10)
    assert_allclose(fitted.noise_scale_, step["noise_scale"], rtol=1e-10)
    assert_allclose(fitted.lower_bound_, step["lower_bound"], rtol=1e-10)


def test_tempered_prior_is_tempered():
    X, W = planted()
    schedule = LinearSchedule({"T": [(0, 2.5)], "anneal_prior": [(0, 1)]})
    fitted = model(max_iter=1, init=initial(W), schedule=schedule).fit(X)
    free_energies = [
        linear_posterior(y, all_states(5), W, 0.2, 1.0, temperature=2.5, anneal_prior=True)[1]
        for y in X
    ]
    assert_allclose(fitted.lower_bound_, np.mean(free_energies), rtol=1e-10)


def test_exact_inference_equals_log_evidence_and_posterior_means():
    X, W = planted()
    fitted = model(max_iter=3, init=initial(W)).fit(X)
    parameters = fitted.components_, fitted.prior_, fitted.noise_scale_
    assert_allclose(fitted.score_samples(X), bsc_log_evidence(X, *parameters), rtol=1e-10)
    codes = bsc_step(X, *parameters, 5, 5)["codes"]
    assert_allclose(fitted.transform(X), codes, atol=1e-10)
    assert_allclose(fitted.reconstruct(X), codes @ fitted.components_, atol=1e-10)


def test_offset_is_fitted_exactly():
    X, W = planted()
    X = X + np.arange(7)
    start = initial(W, offset=np.full(7, 0.5))
    fitted = model(max_iter=1, fit_offset=True, init=start).fit(X)
    states = all_states(5)
    q = np.array([linear_posterior(y, states, W, 0.2, 1.0, 0.5)[0] for y in X])
    design = np.column_stack([states, np.ones(len(states))])
    second = np.einsum("ns,sa,sb->ab", q, design, design)
    both = np.linalg.solve(second, (q @ design).T @ X)
    assert_allclose(fitted.components_, both[:5], rtol=1e-9, atol=1e-11)
    assert_allclose(fitted.offset_, both[5], rtol=1e-9, atol=1e-11)
    means = [bsc_log_evidence(X, fitted.components_, fitted.prior_, fitted.noise_scale_, both[5])]
    assert_allclose(fitted.score_samples(X), means[0], rtol=1e-10)


def test_inferred_states_and_probabilities_equal_enumeration():
    X, W = planted(N=20)
    fitted = model(max_iter=2, init=initial(W), n_candidates=4, max_active=3).fit(X)
    result = fitted.infer(X, top_k=6)
    for i, y in enumerate(X):
        candidates = best_candidates(y, fitted.components_, 4)
        states = truncated_states(candidates, 5, 3)
        q, _ = linear_posterior(y, states, fitted.components_, fitted.prior_, fitted.noise_scale_)
        order = np.argsort(-q, kind="stable")[:6]
        assert_allclose(result.prob[i], q[order], rtol=1e-9, atol=1e-14)
        assert_array_equal(result.states[i, 0], states[order[0]])
        assert_allclose(result.marginals[i], q @ states, atol=1e-10)
    assert_array_equal(fitted.transform(X, method="map"), result.states[:, 0])
    everything = fitted.infer(X, top_k=10**6)
    assert_allclose(everything.prob.sum(axis=1), 1, rtol=1e-12)
    assert_allclose(np.exp(fitted.infer(X, top_k=3, log=True).prob), result.prob[:, :3], rtol=1e-12)


def test_adaptive_inference_widens_where_needed():
    X, W = planted(N=200, H=8, D=16, noise=0.2)
    fitted = model(8, n_candidates=3, max_active=2, max_iter=1, learn=(), init=initial(W, 0.3, 0.2))
    fitted.fit(X)
    narrow, wide = (
        fitted.infer(X, 1),
        fitted.infer(X, 1, adaptive=True, max_candidates=8, max_active=8),
    )
    n_active = wide.states[:, 0].sum(axis=1)
    assert (narrow.states[:, 0].sum(axis=1) <= 2).all()
    assert n_active.max() > 2
    assert (n_active <= wide.max_active).all()
    redone = wide.max_active > 2
    assert redone.any()
    assert not redone.all()
    assert_array_equal(wide.states[~redone], narrow.states[~redone])
    assert fitted.max_active == 2


def test_prior_correction_equals_the_formula():
    from scipy.stats import binom

    X, W = planted()
    fitted = model(max_active=2, max_iter=1, init=initial(W), prior_correction="et").fit(X)
    plain = model(max_active=2, max_iter=1, init=initial(W)).fit(X)
    p, g = binom.pmf(np.arange(3), 5, 0.2), np.arange(3)
    mean_active = plain.prior_ * 5
    assert_allclose(fitted.prior_, 0.2 * p.sum() / (g @ p) * mean_active, rtol=1e-12)


def test_data_cut_uses_the_best_explained_rows():
    from scipy.stats import binom

    X, W = planted(N=100)
    fitted = model(max_active=1, data_cut=0.7, max_iter=1, init=initial(W)).fit(X)
    mass = binom.cdf(1, 5, 0.2)
    n_used = int(100 * (1 - (1 - mass) * 0.7))
    assert fitted.n_used_ == n_used
    bound = model(max_active=1, max_iter=1, learn=(), init=initial(W)).fit(X).score_samples(X)
    best = np.argsort(-bound)[:n_used]
    step = bsc_step(X[best], W, 0.2, 1.0, 5, 1)
    assert_allclose(fitted.components_, step["components"], rtol=1e-9, atol=1e-11)
    assert_allclose(fitted.lower_bound_, step["lower_bound"], rtol=1e-10)


# ---------------------------------------------------------------- invariances
@pytest.mark.parametrize("options", [{}, {"fit_offset": True}, {"max_active": 2}])
def test_free_energy_never_falls(options):
    X, _ = planted(N=200)
    bound = model(max_iter=50, **options).fit(X).history_["lower_bound"]
    assert len(bound) == 50
    if options.get("max_active") != 2:  # then every state is evaluated, and EM is exact
        assert (np.diff(bound) >= -1e-9 * np.abs(bound[1:])).all()
    assert bound[-1] > bound[0]


def test_free_energy_grows_with_the_state_set():
    X, W = planted(N=50)
    exact = bsc_log_evidence(X, W, 0.2, 1.0)

    def bound(n_candidates, max_active):
        options = {"n_candidates": n_candidates, "max_active": max_active, "learn": ()}
        return model(max_iter=1, init=initial(W), **options).fit(X).score_samples(X)

    for smaller, larger in (((3, 1), (3, 2)), ((3, 2), (4, 2)), ((4, 2), (4, 4)), ((4, 4), (5, 5))):
        assert (bound(*smaller) <= bound(*larger) + 1e-10).all()
    assert (bound(4, 3) <= exact + 1e-10).all()
    assert_allclose(bound(5, 5), exact, rtol=1e-10)


def test_free_energy_is_stationary_at_a_converged_point():
    X, W = planted(N=100, H=3)
    fitted = model(3, max_iter=2000, tol=1e-14, init=initial(W)).fit(X)
    center, step = fitted.components_, 1e-5
    for h, d in [(0, 0), (1, 3), (2, 6)]:
        moved = [center.copy(), center.copy()]
        moved[0][h, d] += step
        moved[1][h, d] -= step
        up, down = (
            bsc_log_evidence(X, w, fitted.prior_, fitted.noise_scale_).mean() for w in moved
        )
        assert abs(up - down) / (2 * step) < 1e-4


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_chunk_size_does_not_matter(batch_size):
    X, _ = planted(N=100)
    a, b = model(max_active=2).fit(X), model(max_active=2, batch_size=batch_size).fit(X)
    assert_allclose(a.components_, b.components_, rtol=1e-10, atol=1e-10)
    assert_allclose(a.transform(X), b.transform(X), atol=1e-10)


def test_thread_count_changes_nothing_but_the_order_of_sums():
    import numba

    X, _ = planted(N=5000)
    before = numba.get_num_threads()
    fits = []
    for n_threads in (1, before, before):
        numba.set_num_threads(n_threads)
        fits.append(model(max_active=2, reinit_dead=True, data_cut=0.5).fit(X))
    numba.set_num_threads(before)
    assert_array_equal(fits[1].components_, fits[2].components_)
    assert_allclose(fits[0].components_, fits[1].components_, atol=1e-8)
    assert_allclose(fits[0].infer(X).prob, fits[1].infer(X).prob, atol=1e-6)


def test_atoms_and_rows_may_be_permuted_and_scaled():
    X, W = planted(N=100)
    order, rows = np.random.default_rng(1).permutation(5), np.random.default_rng(1).permutation(100)
    a = model(init=initial(W)).fit(X)
    b = model(init=initial(W[order])).fit(X[rows])
    assert_allclose(a.components_[order], b.components_, rtol=1e-9, atol=1e-11)
    c = model(init=initial(10 * W, noise_scale=10.0)).fit(10 * X)
    assert_allclose(10 * a.components_, c.components_, rtol=1e-9, atol=1e-10)
    assert_allclose(10 * a.noise_scale_, c.noise_scale_, rtol=1e-10)
    assert_allclose(a.lower_bound_ - 7 * np.log(10), c.lower_bound_, rtol=1e-10)


def test_single_precision_is_close_to_double():
    X, W = planted(N=500)
    a, b = model(init=initial(W)).fit(X), model(init=initial(W)).fit(X.astype(np.float32))
    assert b.components_.dtype == b.transform(X.astype(np.float32)).dtype == np.float32
    assert_allclose(a.components_, b.components_, atol=1e-3)
    assert abs(a.lower_bound_ - b.lower_bound_) < 1e-4


def test_tiny_noise_promotes_single_precision():
    X, W = planted(N=50, noise=1e-4)
    start = initial(W, noise_scale=1e-3)
    with pytest.warns(UserWarning, match="computing in float64"):
        promoted = model(init=start, learn=("components",)).fit(X.astype(np.float32))
    double = model(init=start, learn=("components",)).fit(X.astype(np.float32).astype(float))
    assert_allclose(promoted.lower_bound_, double.lower_bound_, rtol=1e-6)


def test_reported_bound_is_that_of_the_parameters_before_the_step():
    X, W = planted()
    fitted = model(max_iter=1, learn=(), init=initial(W)).fit(X)
    assert_allclose(fitted.lower_bound_, fitted.score(X), rtol=1e-12)
    assert_array_equal(fitted.components_, W)


# ---------------------------------------------------------------- options
def test_restarts_keep_the_best():
    X, _ = planted(N=200, seed=3)
    single = [
        BinarySparseCoding(5, max_iter=15, tol=0, random_state=seed).fit(X).lower_bound_
        for seed in range(3)
    ]
    several = BinarySparseCoding(5, max_iter=15, tol=0, n_init=4, random_state=0).fit(X)
    assert several.lower_bound_ >= single[0]
    assert several.n_iter_ == 15


def test_learn_leaves_the_others_alone():
    X, W = planted()
    fitted = model(init=initial(W), learn=("noise",)).fit(X)
    assert_array_equal(fitted.components_, W)
    assert fitted.prior_ == pytest.approx(0.2)
    assert fitted.noise_scale_ != 1.0


def test_dead_atoms_are_replaced():
    X, W = planted(N=300)
    start = W.copy()
    start[2] = 1e3  # no row is anywhere near
    kept = model(init=initial(start)).fit(X)
    revived = model(init=initial(start), reinit_dead=True).fit(X)
    assert_allclose(kept.components_[2], 1e3)
    assert np.abs(revived.components_[2]).max() < 100
    assert revived.lower_bound_ > kept.lower_bound_


def test_partial_and_noise_schedules_run_and_repeat():
    X, _ = planted(N=400)
    points = {
        "partial": [(0, 0.5), (0.5, 0.5), (0.6, 1.0)],
        "components_noise": [(0, 0.1), (0.5, 0)],
    }
    fits = [model(schedule=LinearSchedule(points)).fit(X) for _ in range(2)]
    assert_array_equal(fits[0].components_, fits[1].components_)
    n_used = fits[0].history_["n_used"]
    assert 120 < n_used[0] < 280
    assert n_used[-1] == 400


def test_preselection_may_be_a_function():
    X, W = planted()
    options = {"n_candidates": 4, "max_active": 2, "init": initial(W)}

    def projection(projections, context):
        norms = np.linalg.norm(context.components, axis=1)
        return projections / norms

    a = model(**options).fit(X)
    b = model(**options, preselect=projection).fit(X)
    assert_allclose(a.components_, b.components_, rtol=1e-12)
    joint = model(**options, preselect="joint").fit(X)
    assert joint.lower_bound_ != a.lower_bound_


def test_sample_follows_the_model():
    X, W = planted()
    fitted = model(init=initial(W, 0.3, 0.5), learn=(), max_iter=1).fit(X)
    samples, states = fitted.sample(20_000)
    assert samples.shape == (20_000, 7)
    assert abs(states.mean() - 0.3) < 4 * np.sqrt(0.21 / states.size)
    residual = samples - states @ W
    assert abs(residual.std() - 0.5) < 4 * 0.5 / np.sqrt(2 * residual.size)


def test_online_learning_approaches_the_batch_fit():
    X, W = planted(N=2000)
    start = initial(W + 0.2)
    batch = model(init=start, max_iter=60).fit(X)
    online = model(init=start)
    for _ in range(10):
        for rows in np.split(X, 10):
            online.partial_fit(rows)
    assert online.score(X) == pytest.approx(batch.score(X), abs=0.02)
    assert online.n_features_in_ == 7
    before = batch.score(X)
    batch.partial_fit(X[:100])  # continues from a fitted model
    assert abs(batch.score(X) - before) < 0.5


def test_tolerance_stops_and_warns():
    X, _ = planted(N=200)
    with pytest.warns(ConvergenceWarning, match="increase max_iter or tol"):
        model(max_iter=2, tol=1e-12).fit(X)
    fitted = model(max_iter=500, tol=1e-4).fit(X)
    assert fitted.converged_
    assert fitted.n_iter_ < 500


def test_bars_are_found(bars):
    fitted = BinarySparseCoding(8, max_iter=60, schedule="anneal", tol=0, random_state=1).fit(
        bars.data
    )
    from sparseprob.datasets import match_components

    assert match_components(fitted.components_, bars.components).errors.max() < 2.5
    assert BSC is BinarySparseCoding


# ---------------------------------------------------------------- where rows come from
def test_rows_on_disk_equal_rows_in_memory(tmp_path):
    h5py = pytest.importorskip("h5py")
    X, _ = planted(N=500)
    np.save(tmp_path / "rows.npy", X)
    expected = model(batch_size=64).fit(X)
    mapped = model(batch_size=64).fit(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    assert_array_equal(mapped.components_, expected.components_)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        rows = file.create_dataset("rows", data=X, chunks=(100, 7))
        from_h5 = model(batch_size=64).fit(rows)
        assert_allclose(from_h5.components_, expected.components_, rtol=1e-10, atol=1e-12)
        assert_allclose(from_h5.transform(rows), expected.transform(X), atol=1e-10)


def test_everything_follows_x(xp):
    X, _ = planted(N=100)
    expected = model().fit(X)
    A = xp.asarray(X)
    fitted = model().fit(A)
    for array in (
        fitted.components_,
        fitted.transform(A),
        fitted.reconstruct(A),
        fitted.sample(3)[0],
    ):
        assert type(array) is type(A)
    for name in ("transform", "score_samples", "reconstruct"):
        ours = np.from_dlpack(getattr(fitted, name)(A)) if xp.name != "cupy" else None
        if ours is None:
            ours = getattr(fitted, name)(A).get()
        assert_allclose(ours, getattr(expected, name)(X), atol=1e-9)
    assert isinstance(fitted.score(A), float)


def test_resumed_fit_has_the_same_bits(tmp_path):
    X, _ = planted(N=200)
    options = {
        "max_iter": 12,
        "n_init": 2,
        "schedule": "anneal",
        "reinit_dead": True,
        "max_active": 2,
    }
    whole = model(**options).fit(X)
    path = tmp_path / "fit.npz"

    class Stop(Checkpoint):
        def on_fit_task_end(self, estimator, context):
            super().on_fit_task_end(estimator, context)
            if self._seen == self.stop_after:
                raise KeyboardInterrupt

    for stop_after in (5, 12, 17):
        interrupted = model(**options)
        callback = Stop(path)
        callback.stop_after = stop_after
        with pytest.raises(KeyboardInterrupt):
            interrupted.set_callbacks(callback).fit(X)
        resumed = model(**options).fit(X, resume_from=path)
        assert_array_equal(resumed.components_, whole.components_)
        assert resumed.n_iter_ == whole.n_iter_
        assert_array_equal(resumed.history_["lower_bound"], whole.history_["lower_bound"])


# ---------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_candidates": 6}, "n_candidates must not exceed n_components"),
        ({"n_candidates": 2, "max_active": 3}, "max_active must not exceed n_candidates"),
        ({"max_active": 0}, "'max_active' parameter"),
        ({"max_states": 3}, "S=26 states"),
        ({"learn": ("mean",)}, "learn must be chosen from"),
        ({"init": np.ones((2, 2))}, r"init\['components'\] must have shape \(5, 7\), got \(2, 2\)"),
        ({"init": np.zeros((5, 7))}, "row of zeros"),
        ({"init": {"prior": 1.5}}, "strictly between 0 and 1"),
        ({"init": {"noise_scale": -1.0}}, "must be positive"),
        ({"init": {"sigma": 1.0}}, r"unknown entries \['sigma'\]"),
        ({"state_search": "guess"}, "'state_search' parameter"),
    ],
)
def test_bad_parameters_are_refused_in_a_sentence(options, message):
    X, _ = planted()
    with pytest.raises(ValueError, match=message):
        model(**options).fit(X)


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "infinity")])
def test_bad_values_name_their_row(value, kind):
    X, _ = planted(N=50)
    X[33, 2] = X[44, 0] = value  # on several threads the first row is named
    with pytest.raises(ValueError, match=f"Input X contains {kind} in row 33"):
        model(batch_size=10).fit(X)
    good = model().fit(planted()[0])
    for method in ("transform", "score_samples", "infer"):
        with pytest.raises(ValueError, match=f"{kind} in row 33"):
            getattr(good, method)(X)


def test_other_bad_rows_are_refused():
    X, _ = planted()
    with pytest.raises(ValueError, match="zero variance"):
        model().fit(np.ones((20, 3)))
    with pytest.raises(ValueError, match="Complex data not supported"):
        model().fit(X + 1j)
    with pytest.raises(ValueError, match="Expected 2D array"):
        model().fit(X[0])
    with pytest.raises(ValueError, match="could not convert|numeric"):
        model().fit(np.array([["a", "b"]] * 9, dtype=object))
    with pytest.raises(ValueError, match="expecting 7 features"):
        model().fit(X).transform(X[:, :3])
    with pytest.warns(UserWarning, match="n_components=5 exceeds n_samples=3"):
        model(max_iter=1).fit(X[:3])
    with pytest.raises(ValueError, match="method must be 'mean' or 'map'"):
        model().fit(X).transform(X, method="median")


def test_checkpoints_that_do_not_fit_name_the_field(tmp_path):
    X, _ = planted()
    path = tmp_path / "fit.npz"
    model().set_callbacks(Checkpoint(path)).fit(X)
    with pytest.raises(ValueError, match="does not fit the parameters: max_iter was 10 and is 11"):
        model(max_iter=11).fit(X, resume_from=path)
    with pytest.raises(ValueError, match="does not fit the data: n_samples was 60 and is 59"):
        model().fit(X[:59], resume_from=path)
    with pytest.raises(ValueError, match="does not fit the data: first_row"):
        model().fit(X + 1, resume_from=path)
    with pytest.raises(FileNotFoundError, match="There is no checkpoint at"):
        model().fit(X, resume_from=tmp_path / "none.npz")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        model().fit(X, resume_from=path)
    np.savez(path, a=1)
    with pytest.raises(ValueError, match="was not written by sparseprob's Checkpoint"):
        model().fit(X, resume_from=path)
    with pytest.raises(FileNotFoundError, match="folder of the checkpoint"):
        model().set_callbacks(Checkpoint(tmp_path / "no" / "fit.npz")).fit(X)


def test_library_of_the_fit_must_be_kept_or_moved():
    torch = pytest.importorskip("torch")
    from sparseprob import move_estimator_to

    X, _ = planted()
    fitted = model().fit(X)
    A = torch.from_numpy(X)
    with pytest.raises(ValueError, match="must use the same namespace"):
        fitted.transform(A)
    moved = move_estimator_to(fitted, A)
    assert_allclose(moved.transform(A).numpy(), fitted.transform(X), rtol=1e-12)
    assert isinstance(fitted.components_, np.ndarray)
