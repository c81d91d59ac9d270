"""Pruning in one go, least squares on supports, and the best of several solvers."""

import numpy as np
import pytest
import reference_torch_pruning as reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

torch = pytest.importorskip("torch")

from sparseprob._arrays import to_numpy  # noqa: E402
from sparseprob.torch.calibration import LayerStats  # noqa: E402
from sparseprob.torch.solvers import (  # noqa: E402
    AWP,
    BestOf,
    LowRank,
    MagnitudePruner,
    Refit,
    SparseGPTPruner,
    WandaPruner,
    _refit,
)

GRANULARITIES = [
    {"granularity": "row"},
    {"granularity": "matrix"},
    {"nm": "2:4"},
    {"nm": (3, 8)},
    {"granularity": "nm", "nm": "1:3"},
]


def layer(d_out=6, d_in=24, n=60, seed=0):
    """A weight, inputs that depend on each other, and their statistics."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d_in)) @ (np.eye(d_in) + 0.5 * rng.normal(size=(d_in, d_in)))
    return rng.normal(size=(d_out, d_in)), x, LayerStats.of(x)


def runs_and_count(shape, arguments, sparsity):
    if "nm" in arguments:
        nm = arguments["nm"]
        n, m = map(int, nm.split(":")) if isinstance(nm, str) else nm
        return reference.runs_of(shape, "nm", m), n
    runs = reference.runs_of(shape, arguments["granularity"])
    return runs, round((1 - sparsity) * len(runs[0]))


# ---------------------------------------------------------------- one weight at a time
@pytest.mark.parametrize("arguments", GRANULARITIES, ids=str)
@pytest.mark.parametrize("sparsity", [0.3, 0.75])
def test_magnitude_and_wanda_keep_the_largest_scores(arguments, sparsity):
    W, _, stats = layer()
    runs, n = runs_and_count(W.shape, arguments, sparsity)
    scores = {MagnitudePruner: abs(W), WandaPruner: abs(W) * np.sqrt(np.diag(stats.gram))}
    for solver, score in scores.items():
        solution = solver(sparsity, **arguments).solve(W, stats)
        mask = reference.keep(score, runs, n)
        assert_array_equal(solution.dense(), np.where(mask, W, 0))
        assert_array_equal(solution.mask, mask)
        assert solution.n_params == mask.sum()
        assert solution.density == mask.mean()


@pytest.mark.parametrize("solver", [MagnitudePruner, WandaPruner])
def test_equal_scores_are_kept_from_the_first(solver):
    solution = solver(0.5).solve(np.ones((2, 6)), LayerStats(np.eye(6)))
    assert_array_equal(solution.dense(), [[1, 1, 1, 0, 0, 0]] * 2)


def test_blocks_are_kept_whole_by_their_norm():
    W, _, stats = layer()
    for solver, scores in (
        (MagnitudePruner, abs(W)),
        (WandaPruner, abs(W) * np.sqrt(np.diag(stats.gram))),
    ):
        norms = np.sqrt((scores.reshape(6, 8, 3) ** 2).sum(axis=2))
        kept = reference.keep(norms, reference.runs_of(norms.shape, "row"), 4)
        solution = solver(0.5, granularity="block", block_size=3).solve(W, stats)
        assert_array_equal(solution.mask, np.repeat(kept, 3, axis=1))


def test_magnitude_is_that_of_torch():
    prune = pytest.importorskip("torch.nn.utils.prune")
    for sparsity in (0.25, 0.5, 0.9):
        linear = torch.nn.Linear(20, 8)
        expected = MagnitudePruner(sparsity, granularity="matrix").solve(linear.weight).dense()
        prune.l1_unstructured(linear, "weight", amount=sparsity)
        assert torch.equal(linear.weight.detach(), expected)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
def test_wanda_is_that_of_torchao():
    """There all weights compete, and count by the mean square of inputs, not its root."""
    sparsifier = pytest.importorskip("torchao.sparsity").WandaSparsifier
    x = torch.randn(100, 16, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 17)
    model = torch.nn.Sequential(torch.nn.Linear(16, 8))
    squares = LayerStats(torch.diag((x.double() ** 2).mean(dim=0) ** 2))
    expected = WandaPruner(0.5, granularity="matrix").solve(model[0].weight, squares).dense()
    peer = sparsifier(sparsity_level=0.5)
    peer.prepare(model, [{"tensor_fqn": "0.weight"}])
    model(x)
    peer.step()
    peer.squash_mask()
    assert torch.equal(model[0].weight.detach(), expected)


# ---------------------------------------------------------------- SparseGPT
@pytest.mark.parametrize("block_size", [24, 8, 5])
@pytest.mark.parametrize("granularity", ["matrix", "row"])
def test_sparse_gpt_is_its_slow_form(granularity, block_size):
    W, _, stats = layer()

    def choose(scores):
        runs = reference.runs_of(scores.shape, granularity)
        return reference.keep(scores, runs, max(1, round(0.4 * len(runs[0]))))

    expected, mask = reference.sparse_gpt(W, stats.gram, 0.01, block_size, choose)
    solution = SparseGPTPruner(0.6, granularity=granularity, block_size=block_size).solve(W, stats)
    assert_array_equal(solution.mask, mask)
    assert_allclose(solution.dense(), expected, rtol=1e-9, atol=1e-11)
    assert solution.damp == 0.01


@pytest.mark.parametrize(("nm", "m"), [("2:4", 4), ((1, 3), 3)])
def test_sparse_gpt_chooses_short_runs_as_it_comes_to_them(nm, m):
    W, _, stats = layer()

    def choose(scores):
        n = 2 if m == 4 else 1
        return reference.keep(scores, reference.runs_of(scores.shape, "nm", m), n)

    expected, mask = reference.sparse_gpt(W, stats.gram, 0.01, m, choose)
    for block_size in (128, 8, 1):
        solution = SparseGPTPruner(nm=nm, block_size=block_size).solve(W, stats)
        assert_array_equal(solution.mask, mask)
        assert_allclose(solution.dense(), expected, rtol=1e-9, atol=1e-11)


def test_sparse_gpt_is_between_wanda_and_the_best_weights_on_its_support():
    W, _, stats = layer(16, 32, n=300)
    gpt = SparseGPTPruner(0.5).solve(W, stats)
    fitted = Refit(SparseGPTPruner(0.5)).solve(W, stats)
    assert gpt.relative_error(stats) < WandaPruner(0.5).solve(W, stats).relative_error(stats)
    assert fitted.relative_error(stats) < gpt.relative_error(stats)
    assert_array_equal(fitted.mask, gpt.mask)


def test_sparse_gpt_damps_more_where_it_must():
    W, x, _ = layer()
    with pytest.warns(UserWarning, match="5 tokens cannot determine"):
        solution = SparseGPTPruner(0.5, damp=0.0).solve(W, LayerStats.of(x[:5]))
    assert 0 < solution.damp <= 0.1
    assert np.isfinite(solution.dense()).all()


# ---------------------------------------------------------------- least squares
@pytest.mark.parametrize("granularity", ["row", "matrix"])
def test_refit_is_least_squares_on_activations(granularity):
    W, x, stats = layer(9)
    found = Refit(WandaPruner(0.6, granularity=granularity)).solve(W, stats)
    expected = reference.refit(W, x, WandaPruner(0.6, granularity=granularity).solve(W, stats).mask)
    assert_allclose(found.dense(), expected, rtol=1e-8, atol=1e-10)  # condition number about 1e3
    assert found.method == "Refit(WandaPruner)"


def test_refit_in_batches_is_that_row_by_row(monkeypatch):
    monkeypatch.setattr(_refit, "_AT_ONCE", 500)
    rng = np.random.default_rng(0)
    _, _, stats = layer()
    target, mask = rng.normal(size=(9, 24)), rng.random((9, 24)) < rng.random((9, 1))
    mask[3] = False
    expected = _refit._row_by_row(stats.gram, target, mask)
    found = _refit._in_batches(np, np.linalg.solve, stats.gram, target, mask)
    assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert not found[~mask].any()


def test_refit_of_a_diagonal_gram_matrix_changes_nothing():
    W, _, _ = layer()
    stats = LayerStats(np.diag(np.linspace(0.1, 3, 24)))
    pruned = WandaPruner(0.5).solve(W, stats).dense()
    assert_allclose(Refit(WandaPruner(0.5)).solve(W, stats).dense(), pruned, rtol=1e-14)


def test_refit_never_loses_where_columns_depend_on_each_other():
    W, x, _ = layer()
    x[:, 1], x[:, 5] = x[:, 0], 0.0
    stats = LayerStats.of(x)
    before, after = (s.solve(W, stats) for s in (WandaPruner(0.3), Refit(WandaPruner(0.3))))
    assert after.relative_error(stats) < before.relative_error(stats)
    assert abs(after.dense()).max() < 100 * abs(W).max()


def test_refit_takes_solvers_of_sparse_weights():
    W, _, stats = layer()
    for solver in (LowRank(rank=3), AWP(bits=4, max_iter=1)):
        with pytest.raises(ValueError, match="needs a solver of sparse weights that are not quan"):
            Refit(solver).solve(W, stats)
    with pytest.raises(ValueError, match="'solver' parameter of Refit"):
        Refit(3).solve(W, stats)


# ---------------------------------------------------------------- the best of several
def test_best_of_takes_the_smallest_error_among_small_solutions():
    W, _, stats = layer()
    solvers = [MagnitudePruner(0.5), WandaPruner(0.5), AWP(0.5), SparseGPTPruner(0.1)]
    solution = BestOf(solvers).solve(W, stats)
    single = [solver.solve(W, stats) for solver in solvers]
    assert solution.method == "AWP"
    assert [c["method"] for c in solution.candidates] == [type(s).__name__ for s in solvers]
    assert [c["n_bits"] for c in solution.candidates] == [s.n_bits() for s in single]
    errors = [s.relative_error(stats) for s in single]
    assert [c["relative_error"] for c in solution.candidates] == errors
    assert_array_equal(solution.dense(), single[2].dense())
    assert errors[3] < errors[2]  # which is more accurate, and too large
    assert BestOf(solvers, rtol=10).solve(W, stats).method == "SparseGPTPruner"


def test_best_of_needs_statistics_if_one_of_its_solvers_does():
    W, _, _ = layer()
    assert BestOf([MagnitudePruner(0.5)]).solve(W).method == "MagnitudePruner"
    with pytest.raises(ValueError, match="BestOf needs statistics"):
        BestOf([MagnitudePruner(), WandaPruner()]).solve(W)
    for solvers in ([], [MagnitudePruner(), "wanda"]):
        with pytest.raises(ValueError, match="solvers must be a list of layer solvers"):
            BestOf(solvers).check((4, 4))


def test_parameters_of_nested_solvers():
    best = BestOf([WandaPruner(), Refit(WandaPruner()), WandaPruner()])
    best.set_params(wandapruner_2__sparsity=0.75, refit__solver__sparsity=0.25, rtol=0.5)
    params = clone(best).get_params()
    assert params["wandapruner__sparsity"] == 0.5
    assert params["wandapruner_2__sparsity"] == 0.75
    assert params["refit__solver__sparsity"] == 0.25
    assert params["rtol"] == 0.5
    best.set_params(refit=MagnitudePruner(0.1))
    assert [type(s).__name__ for s in best.solvers] == [
        "WandaPruner", "MagnitudePruner", "WandaPruner",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="Invalid parameter 'nothing'"):
        best.set_params(nothing=1)


# ---------------------------------------------------------------- what all pruners share
ALL = [
    MagnitudePruner(0.6), WandaPruner(0.6), SparseGPTPruner(0.6), AWP(0.6, max_iter=5),
    Refit(WandaPruner(0.6)),
]  # fmt: skip


@pytest.mark.parametrize("solver", ALL, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_tensors_of_any_width_give_tensors_of_that_width(solver, dtype):
    W, _, stats = layer()
    weight = torch.from_numpy(W).to(getattr(torch, dtype)).requires_grad_()
    statistics = LayerStats(torch.from_numpy(stats.gram), n_tokens=stats.n_tokens)
    solution = solver.solve(weight, statistics)
    exact = solver.solve(weight.detach().double().numpy(), stats)
    assert solution.dense().dtype == weight.dtype
    assert not solution.dense().requires_grad
    assert_array_equal(to_numpy(solution.mask), exact.mask)
    expected = torch.from_numpy(exact.dense()).to(weight.dtype)
    assert torch.equal(solution.dense(), expected)


@pytest.mark.parametrize("solver", ALL, ids=lambda s: type(s).__name__)
def test_the_weight_is_not_changed_nor_its_memory_handed_out(solver):
    W, _, stats = layer()
    for share in (0.6, 0.0):
        name = "solver__sparsity" if isinstance(solver, Refit) else "sparsity"
        given, solution = W.copy(), clone(solver).set_params(**{name: share}).solve(W, stats)
        dense = solution.dense()
        dense[...] = 7.0
        assert_array_equal(W, given)


@pytest.mark.parametrize("solver", ALL, ids=lambda s: type(s).__name__)
def test_nothing_is_pruned_at_sparsity_zero(solver):
    W, _, stats = layer()
    name = "solver__sparsity" if isinstance(solver, Refit) else "sparsity"
    solution = clone(solver).set_params(**{name: 0}).solve(W, stats)
    assert_allclose(solution.dense(), W, rtol=0, atol=1e-15 if isinstance(solver, Refit) else 0)
    assert solution.n_bits() == W.size * 16
    assert solution.n_iter == 0
    assert type(solution.to_module()) is torch.nn.Linear


@pytest.mark.parametrize("solver", ALL, ids=lambda s: type(s).__name__)
def test_dead_inputs_have_no_weights(solver):
    W, x, _ = layer()
    x[:, [2, 7, 8]] = 0
    stats = LayerStats.of(x)
    solution = solver.solve(W, stats)
    if not isinstance(solver, MagnitudePruner):
        assert_array_equal(solution.mask.sum(axis=1).sum(), 6 * 10 if "GPT" not in repr(solver)
                           else solution.n_params)  # fmt: skip
    assert not solution.dense()[:, [2, 7, 8]].any()
    silent = solver.solve(W, LayerStats(np.zeros((24, 24))))
    assert_array_equal(silent.dense() if silent.mask.any() else 0, 0)


@pytest.mark.parametrize("solver", ALL, ids=lambda s: type(s).__name__)
def test_a_row_at_least_keeps_a_weight(solver):
    W, _, stats = layer()
    name = "solver__sparsity" if isinstance(solver, Refit) else "sparsity"
    kwargs = {name: 0.999}
    if isinstance(solver, SparseGPTPruner):
        kwargs["granularity"] = "row"
    solution = clone(solver).set_params(**kwargs).solve(W, stats)
    assert_array_equal(solution.mask.sum(axis=1), 1)


def test_size_of_solutions():
    W, _, stats = layer()
    row, short = WandaPruner(0.5).solve(W, stats), WandaPruner(nm="2:4").solve(W, stats)
    assert row.n_bits() == 72 * 16 + 144  # a bit for each weight
    assert row.n_bits(value_bits=8) == 72 * 8 + 144
    assert short.n_bits() == 72 * 16 + 72 * 2
    few = WandaPruner(22 / 24).solve(W, stats)
    assert few.n_bits() == 12 * 16 + 12 * 5  # places from 0 to 23
    block = WandaPruner(0.5, granularity="block", block_size=4).solve(W, stats)
    assert block.n_bits() == 72 * 16 + 36
    quantized = AWP(0.5, bits=4, group_size=10, max_iter=0).solve(W, stats)
    assert quantized.n_bits() == 72 * 4 + 6 * 3 * (16 + 4) + 144
    assert "n_params=72, method='AWP'" in repr(quantized)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (MagnitudePruner(1.0), "'sparsity' parameter of MagnitudePruner"),
        (WandaPruner(-0.1), "'sparsity' parameter of WandaPruner"),
        (AWP("half"), "'sparsity' parameter of AWP"),
        (AWP(granularity="column"), "'granularity' parameter of AWP"),
        (SparseGPTPruner(granularity="block"), "'granularity' parameter of SparseGPTPruner"),
        (SparseGPTPruner(damp=0.5), "'damp' parameter of SparseGPTPruner"),
        (WandaPruner(granularity="nm"), r'nm must be "N:M" .* got None'),
        (WandaPruner(nm="4:2"), "nm must be .* with 0 < N <= M"),
        (WandaPruner(nm="0:2"), "nm must be"),
        (WandaPruner(nm="2-4"), "nm must be"),
        (WandaPruner(nm="a:b"), "nm must be"),
        (WandaPruner(nm=(2, 4.5)), "nm must be"),
        (SparseGPTPruner(nm="2:5"), "needs a number of inputs that is a multiple of 5, got 24"),
        (AWP(nm=(2, 7)), "multiple of 7, got 24"),
        (MagnitudePruner(granularity="block", block_size=5), "block_size=5 must divide the 24 inp"),
    ],
)
def test_bad_parameters_are_refused(solver, message):
    W, _, stats = layer()
    with pytest.raises(ValueError, match=message):
        solver.solve(W, stats)


@pytest.mark.parametrize("solver", ALL, ids=lambda s: type(s).__name__)
def test_bad_layers_are_refused(solver):
    W, x, stats = layer()
    broken = W.copy()
    broken[1, 2] = np.nan
    with pytest.raises(ValueError, match="weight has NaN or infinity"):
        solver.solve(broken, stats)
    if solver.needs_calibration:
        with pytest.raises(ValueError, match="needs statistics of the inputs"):
            solver.solve(W)
        with pytest.raises(ValueError, match=r"must be of shape \(24, 24\), got \(23, 23\)"):
            solver.solve(W, LayerStats(np.eye(23)))
        with pytest.raises(ValueError, match="no tokens"):
            solver.solve(W, LayerStats(np.eye(24), n_tokens=0))


def test_an_indefinite_gram_matrix_is_refused():
    W, _, stats = layer()
    C = stats.gram - 2 * np.linalg.eigvalsh(stats.gram)[-1] * np.eye(24) * (np.arange(24) == 3)
    for solver in (SparseGPTPruner(), Refit(WandaPruner())):
        with pytest.raises(ValueError, match="Gram matrix is indefinite"):
            solver.solve(W, LayerStats(C))


@pytest.mark.gpu
@pytest.mark.parametrize("solver", [*ALL, SparseGPTPruner(nm="2:4")], ids=repr)
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_gpu_is_cpu(solver, library):
    """Weights are computed in single precision there: some near ties may fall the other way."""
    import cupy

    W, _, stats = layer(64, 96, n=400)
    move = cupy.asarray if library == "cupy" else lambda A: torch.from_numpy(A).cuda()
    expected = solver.solve(W, stats)
    found = solver.solve(move(W), LayerStats(move(stats.gram), n_tokens=400))
    assert type(found.dense()) is type(move(W))
    assert (to_numpy(found.mask) != expected.mask).mean() < 0.01
    error = expected.relative_error(stats)
    assert found.relative_error(LayerStats(move(stats.gram))) == pytest.approx(error, rel=1e-2)
