"""Binary sparse coding of rows with missing entries: the posterior given what was observed."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import (
    all_states,
    best_candidates,
    bsc_log_evidence,
    discrete_step,
    linear_posterior,
    truncated_states,
)

from sparseprob.dictionary import BinarySparseCoding, LinearSchedule


def planted(N=60, H=4, D=7, noise=0.7):
    rng = np.random.default_rng(0)
    W = rng.normal(size=(H, D)) * 1.5
    return (rng.random((N, H)) < 0.3) @ W + noise * rng.normal(size=(N, D)), W


def with_holes(X, share=0.3):
    holes = np.random.default_rng(1).random(X.shape) < share
    holes[holes.all(axis=1), 0] = False
    return np.where(holes, np.nan, X)


def start(W, **more):
    return {"components": W + 0.2, "prior": 0.25, "noise_scale": 1.0, **more}


def model(**options):
    options = {"n_candidates": 4, "max_active": 4, "max_iter": 1, "tol": 0, **options}
    return BinarySparseCoding(4, missing="nan", random_state=0, **options)


def exact(X, W, offset=0.0, n_candidates=4, max_active=4):
    """Posteriors of rows from their observed entries only: F and E[s]."""
    bounds, codes = [], []
    for row in X:
        seen = ~np.isnan(row)
        m = np.broadcast_to(offset, row.shape)[seen]
        y, A = row[seen] - m, W[:, seen]
        states = truncated_states(best_candidates(y, A, n_candidates), 4, max_active)
        q, F = linear_posterior(y, states, A, 0.25, 1.0)
        bounds.append(F)
        codes.append(q @ states)
    return np.array(bounds), np.array(codes)


# ---------------------------------------------------------------- oracles
@pytest.mark.parametrize(("n_candidates", "max_active"), [(4, 4), (3, 2), (2, 1)])
@pytest.mark.parametrize("with_offset", [False, True])
def test_posteriors_are_those_of_the_observed_entries(n_candidates, max_active, with_offset):
    X, W = planted()
    X, offset = with_holes(X), np.linspace(-0.5, 0.5, 7) * with_offset
    sizes = {"n_candidates": n_candidates, "max_active": max_active}
    fitted = model(learn=(), fit_offset=with_offset, init=start(W, offset=offset), **sizes).fit(X)
    fitted.offset_ = offset  # which is learned whatever `learn` says
    bounds, codes = exact(X, W + 0.2, offset, **sizes)
    assert_allclose(fitted.score_samples(X), bounds, rtol=1e-10)
    assert_allclose(fitted.transform(X), codes, atol=1e-10)
    assert_allclose(fitted.reconstruct(X), codes @ (W + 0.2) + offset, atol=1e-10)
    assert_allclose(fitted.infer(X).marginals, codes, atol=1e-10)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_free_energy_of_a_fit_is_that_of_the_observed_entries(temperature):
    X, W = planted()
    X = with_holes(X)
    fitted = model(init=start(W), schedule=LinearSchedule({"T": [(0, temperature)]})).fit(X)
    expected = discrete_step(X, W + 0.2, 0.25, 1.0, (1.0,), 4, 4, temperature=temperature)
    assert_allclose(fitted.lower_bound_, expected["lower_bound"], rtol=1e-10)


def test_one_step_maximizes_the_completed_likelihood():
    """The M-step of EM in which missing entries are latent, on dense states."""
    X, W = planted()
    X, W, states = with_holes(X), W + 0.2, all_states(4)
    S1, S2, squares, n_observed = np.zeros((4, 7)), np.zeros((4, 4)), [], 0
    for row in X:
        seen = ~np.isnan(row)
        q, _ = linear_posterior(row[seen], states, W[:, seen], 0.25, 1.0)
        completed = np.where(seen, row, states @ W)  # (S, D): expectation given the state
        S1 += np.einsum("s,sh,sd->hd", q, states, completed)
        S2 += np.einsum("s,sh,sk->hk", q, states, states)
        squares.append((q, completed))
        n_observed += seen.sum()
    new_W = np.linalg.solve(S2, S1)
    residual = sum(q @ ((y - states @ new_W) ** 2).sum(axis=1) for q, y in squares)
    fitted = model(init=start(W - 0.2)).fit(X)
    assert_allclose(fitted.components_, new_W, rtol=1e-10, atol=1e-12)
    assert fitted.noise_scale_**2 == pytest.approx(residual / n_observed, rel=1e-10)


# ---------------------------------------------------------------- invariances
@pytest.mark.parametrize(
    "options", [{}, {"fit_offset": True}, {"n_candidates": 3, "max_active": 2}]
)
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_free_energy_never_falls(options, share):
    X, _ = planted(N=150)
    bound = model(max_iter=50, **options).fit(with_holes(X, share)).history_["lower_bound"]
    assert len(bound) == 50
    if "n_candidates" not in options:  # then every state is evaluated, and EM is exact
        assert (np.diff(bound) >= -1e-9 * np.abs(bound[1:])).all()
    assert bound[-1] > bound[0]


def test_rows_without_holes_are_learned_as_ever():
    X, _ = planted()
    for options in ({}, {"max_active": 2, "n_candidates": 3}, {"fit_offset": True}):
        a = model(max_iter=5, **options).fit(X)
        b = model(max_iter=5, **options).set_params(missing=None).fit(X)
        assert_allclose(a.components_, b.components_, rtol=1e-9, atol=1e-11)
        assert_allclose(a.noise_scale_, b.noise_scale_, rtol=1e-10)
        assert_allclose(a.history_["lower_bound"], b.history_["lower_bound"], rtol=1e-10)


@pytest.mark.parametrize("batch_size", [1, 7])
def test_chunk_size_does_not_matter(batch_size):
    X, _ = planted()
    X = with_holes(X)
    a, b = model(max_iter=5).fit(X), model(max_iter=5, batch_size=batch_size).fit(X)
    assert_allclose(a.components_, b.components_, rtol=1e-9, atol=1e-11)
    assert_allclose(a.score_samples(X), b.score_samples(X), rtol=1e-10)


def test_a_feature_may_be_permuted():
    X, W = planted()
    X, order = with_holes(X), np.random.default_rng(2).permutation(7)
    a = model(max_iter=5, init=start(W)).fit(X)
    b = model(max_iter=5, init=start(W[:, order])).fit(X[:, order])
    assert_allclose(b.components_, a.components_[:, order], rtol=1e-9, atol=1e-11)


def test_everything_follows_x(xp):
    X, _ = planted()
    X = with_holes(X)
    expected, A = model(max_iter=3).fit(X), xp.asarray(X)
    fitted = model(max_iter=3).fit(A)
    assert type(fitted.reconstruct(A)) is type(A)
    assert fitted.score(A) == pytest.approx(expected.score(X), abs=1e-9)


# ---------------------------------------------------------------- what it is for
def test_holes_are_filled_in_better_than_by_the_mean():
    X, _ = planted(N=2000, noise=0.3)
    holed = with_holes(X)
    fitted = BinarySparseCoding(
        4, max_iter=100, schedule="anneal", tol=0, n_init=3, missing="nan", random_state=0
    ).fit(holed)
    filled, holes = fitted.reconstruct(holed), np.isnan(holed)
    assert np.isfinite(filled).all()
    error = np.sqrt(((filled - X)[holes] ** 2).mean())
    mean = np.where(holes, np.nanmean(holed, axis=0), X)
    assert error < 0.5 * np.sqrt(((mean - X)[holes] ** 2).mean())
    assert abs(fitted.noise_scale_ - 0.3) < 0.02
    assert fitted.n_used_ == 2000


def test_what_is_not_observed_tells_nothing():
    X, W = planted(N=1)
    fitted = model(init=start(W), learn=()).fit(np.vstack([planted()[0], X]))
    few = np.full((1, 7), np.nan)
    few[0, 3] = X[0, 3]
    expected = bsc_log_evidence(few[:, 3:4], W[:, 3:4] + 0.2, 0.25, 1.0)
    assert_allclose(fitted.score_samples(few), expected, rtol=1e-10)


# ---------------------------------------------------------------- bad input
def test_rows_and_features_of_which_nothing_is_known_are_refused():
    X, _ = planted()
    good = model().fit(X)
    empty_row = X.copy()
    empty_row[41] = empty_row[50] = np.nan
    with pytest.raises(ValueError, match="Every entry of row 41 of X is missing; drop the row"):
        model(batch_size=7).fit(empty_row)
    for method in ("transform", "score_samples", "reconstruct", "infer"):
        with pytest.raises(ValueError, match="Every entry of row 41 of X is missing"):
            getattr(good, method)(empty_row)
    empty_column = X.copy()
    empty_column[:, 5] = np.nan
    with pytest.raises(ValueError, match="Feature 5 of X is missing in every row; drop the column"):
        model().fit(empty_column)
    assert np.isfinite(good.transform(empty_column)).all()  # codes need no feature in particular


def test_other_mistakes_are_refused_in_a_sentence():
    X, _ = planted()
    holed = with_holes(X)
    with pytest.raises(ValueError, match="Input X contains NaN in row"):
        model().set_params(missing=None).fit(holed)
    infinite = holed.copy()
    infinite[33, 2] = np.inf
    with pytest.raises(ValueError, match="infinity in row 33"):
        model().fit(infinite)
    with pytest.raises(ValueError, match="missing='nan' needs state_search='select', got 'evo'"):
        model(state_search="evo").fit(holed)
    with pytest.raises(ValueError, match="'missing' parameter"):
        model().set_params(missing="none").fit(X)


def test_rows_drawn_for_the_start_are_completed():
    X, _ = planted()
    fitted = model(init="data", learn=()).fit(with_holes(X, 0.6))
    assert np.isfinite(fitted.components_).all()
    again = model(init="data", learn=()).fit(with_holes(X, 0.6))
    assert_array_equal(again.components_, fitted.components_)
