"""Learned state sets: exact when everything fits, monotone, repeatable, better than preselected."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference import all_states, bsc_log_evidence, linear_posterior

from sparseprob._kernels._state_pool import uniform
from sparseprob.callbacks import Checkpoint
from sparseprob.dictionary import BinarySparseCoding
from sparseprob.dictionary._linear_model import LinearDiscreteModel
from sparseprob.dictionary._state_search import StateSearch
from sparseprob.dictionary._states import build_state_table
from sparseprob.dictionary._statistics import RowSummary, Statistics


def planted(N=80, H=5, D=7, noise=0.7, prior=0.3):
    rng = np.random.default_rng(0)
    W = rng.normal(size=(H, D)) * 1.5
    return (rng.random((N, H)) < prior) @ W + noise * rng.normal(size=(N, D)), W


def model(H=5, **options):
    options = {"n_candidates": 3, "max_active": 2, "max_iter": 10, "tol": 0, **options}
    return BinarySparseCoding(H, random_state=0, **options)


def start(W, prior=0.3, noise_scale=0.7):
    return {"components": W, "prior": prior, "noise_scale": noise_scale}


def engine_parts(values, N=30, H=4, n_states=200):
    X, W = planted(N, H)
    linear = LinearDiscreteModel(
        values, tied=False, learn=(), fit_offset=False, prior_correction="none",
        preselect="default", max_active=2, missing=False,
    )  # fmt: skip
    prior = np.linspace(0.3, 0.35, len(values))
    params = {**start(W), "prior": prior, "offset": np.zeros(7), "noise_scale": np.array(0.7)}
    table = build_state_table(3, 2, len(values) + 1, n_components=H)
    context = linear.context(params, np, np.float64)
    summary = RowSummary(N, X.mean(axis=0), X.var(axis=0), (X**2).sum(), 1.0, 0, N, np.full(7, N))
    return X, W, prior, linear, table, context, summary, n_states


@pytest.mark.parametrize("values", [(1.0,), (1.0, -2.0)])
@pytest.mark.parametrize("kind", ["sample", "evo"])
def test_sets_that_hold_every_state_are_exact(kind, values):
    X, W, prior, linear, table, context, summary, n_states = engine_parts(values)
    search = StateSearch(kind, table, n_states=n_states, summary=summary)
    states = all_states(4, values)
    for step in range(400):
        search.begin(0, step)
        statistics = Statistics(linear.statistics_shapes(4, 7))
        found = linear.posterior(
            X, context, table, statistics=statistics, search=search, rows=range(30)
        )
    log_norm, marginals, pairs = found.log_norm, found.marginals, statistics["pairs"]
    expected = np.zeros((4, 4))
    for i, y in enumerate(X):
        q, F = linear_posterior(y, states, W, prior, 0.7, values=values)
        for k, value in enumerate(values):
            assert_allclose(marginals[k, :, i], q @ (states == value), atol=1e-10)
        assert_allclose(log_norm[i] + linear.null_log_joints(X, {
            "components": W, "prior": prior, "offset": np.zeros(7), "noise_scale": 0.7
        })[i], F, rtol=1e-10)  # fmt: skip
        expected += np.einsum("s,sa,sb->ab", q, states, states)
    assert_allclose(pairs, expected * (1 - np.eye(4)), atol=1e-9)


@pytest.mark.parametrize("kind", ["sample", "evo"])
def test_states_are_distinct_sorted_and_hold_the_null_state(kind):
    X, _, _, linear, table, context, summary, _ = engine_parts((1.0, -2.0), n_states=20)
    search = StateSearch(kind, table, n_states=20, summary=summary)
    for step in range(5):
        search.begin(1, step)
        found = linear.posterior(X, context, table, search=search, rows=range(30))
    log_norm = found.log_norm
    states, places, energies = linear.improved_states(X, context, table, search, range(30))
    assert_array_equal(places, range(30))
    largest = np.iinfo(states.dtype).max
    for row, values in zip(states, energies, strict=True):
        lists = [tuple(u for u in s if u < largest - 1) for s in row.tolist()]
        assert lists[0] == ()
        found = [s for s, e in zip(lists, values, strict=True) if np.isfinite(e)]
        assert len(set(found)) == len(found)
        for s in found:
            latents = [u // 2 for u in s]
            assert latents == sorted(set(latents))
    search.hold()
    before = search.states.copy()
    held = linear.posterior(X, context, table, search=search, rows=range(30)).log_norm
    assert_array_equal(search.states, before)
    assert_allclose(held, np.logaddexp.reduce(energies, axis=1), rtol=1e-12, atol=1e-14)
    assert (held >= log_norm - 1e-12).all()


@pytest.mark.parametrize("kind", ["sample", "evo"])
def test_free_energy_never_falls_and_stays_below_the_evidence(kind):
    X, W = planted()
    fitted = model(state_search=kind, n_states=12, max_iter=25, init=start(W + 0.3)).fit(X)
    bound = fitted.history_["lower_bound"]
    assert (np.diff(bound) >= -1e-9 * np.abs(bound[1:])).all()
    exact = bsc_log_evidence(X, fitted.components_, fitted.prior_, fitted.noise_scale_)
    inferred = fitted.score_samples(X)
    assert (inferred <= exact + 1e-9).all()
    fitted.state_search = "select"  # its nine states are always among the proposals
    assert (inferred >= fitted.score_samples(X) - 1e-9).all()


@pytest.mark.parametrize("kind", ["sample", "evo"])
def test_results_do_not_depend_on_chunks_memory_or_interruption(kind, tmp_path):
    X, W = planted()
    options = {"state_search": kind, "n_states": 6, "init": start(W + 0.3), "data_cut": 0.3}
    whole = model(**options).fit(X)
    for other in ({"batch_size": 7}, {"states_path": str(tmp_path / "states.bin")}):
        again = model(**options, **other).fit(X)
        assert_allclose(again.components_, whole.components_, rtol=1e-10, atol=1e-12)
    path = tmp_path / "fit.npz"

    class Stop(Checkpoint):
        def on_fit_task_end(self, estimator, context):
            super().on_fit_task_end(estimator, context)
            if self._seen == 4:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model(**options).set_callbacks(Stop(path)).fit(X)
    resumed = model(**options).fit(X, resume_from=path)
    assert_array_equal(resumed.components_, whole.components_)


def test_evolution_beats_preselection_where_many_causes_are_active():
    X, W = planted(N=300, H=100, D=144, noise=1.0, prior=0.06)
    bounds = {
        kind: BinarySparseCoding(
            100, n_candidates=8, max_active=4, max_iter=8, tol=0, state_search=kind, learn=(),
            init=start(W, 0.06, 1.0), random_state=0,
        ).fit(X).lower_bound_
        for kind in ("select", "sample", "evo")
    }  # fmt: skip
    assert bounds["evo"] > bounds["sample"] > bounds["select"]
    assert bounds["evo"] > bounds["select"] + 20


def test_learned_states_are_inferred_with_their_probabilities():
    X, W = planted()
    fitted = model(state_search="evo", n_states=32, init=start(W), learn=(), max_iter=1).fit(X)
    result = fitted.infer(X[:20], top_k=4)
    states = all_states(5)
    for i, y in enumerate(X[:20]):
        q, _ = linear_posterior(y, states, W, 0.3, 0.7)
        assert_allclose(result.prob[i], np.sort(q)[::-1][:4], atol=1e-8)
        assert_array_equal(result.states[i, 0], states[q.argmax()])
        assert_allclose(result.marginals[i], q @ states, atol=1e-8)
    with pytest.raises(ValueError, match="needs state_search='select'"):
        fitted.infer(X, adaptive=True)


@pytest.mark.mpi
def test_ranks_search_the_same_states(tmp_path, mpiexec):
    program = """
import sys, numpy as np
from sparseprob import distributed, row_slice
from sparseprob.dictionary import BinarySparseCoding
X = np.random.default_rng(0).normal(size=(101, 6)) ** 3
with distributed() as comm:
    fitted = BinarySparseCoding(5, max_active=2, max_iter=6, tol=0, state_search="evo", n_states=5,
                                random_state=0).fit(X[row_slice(101)])
    if comm.rank == 0:
        np.save(sys.argv[1], fitted.components_)
"""
    for n_ranks in (1, 3):
        mpiexec(n_ranks, program, f"{n_ranks}.npy")
    one, three = (np.load(tmp_path / f"{k}.npy") for k in (1, 3))
    assert_allclose(one, three, atol=1e-9)


def test_random_numbers_are_uniform():
    from numba import njit

    @njit
    def draw(n):
        random = np.array([np.uint64(7)])
        return np.array([uniform(random) for _ in range(n)])

    numbers = draw(40_000)
    assert 0 <= numbers.min() < 1e-3 < 1 - 1e-3 < numbers.max() < 1
    counts = np.histogram(numbers, bins=20, range=(0, 1))[0]
    assert abs(counts - 2000).max() < 5 * np.sqrt(2000)
