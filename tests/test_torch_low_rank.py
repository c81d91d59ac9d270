"""Low-rank layers: optimal by definition, and they run as linear layers do."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

from reference_torch_factorization import (  # noqa: E402
    best_low_rank,
    layer_loss,
    relative_error,
)
from sklearn.base import clone  # noqa: E402
from torch_layer_checks import CHECKS  # noqa: E402

from sparseprob._arrays import to_numpy  # noqa: E402
from sparseprob.torch.calibration import LayerStats  # noqa: E402
from sparseprob.torch.layers import LowRankLinear  # noqa: E402
from sparseprob.torch.solvers import LowRank  # noqa: E402


def layer(d_out=12, d_in=17, n=200, seed=0):
    """Weight and inputs whose scales and correlations differ."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d_in, d_in)) * np.logspace(0, -2, d_in)
    return rng.normal(size=(d_out, d_in)), rng.normal(size=(n, d_in)) @ mixing


@pytest.mark.parametrize("shape", [(12, 17), (17, 12), (9, 9)])
def test_whitened_error_is_that_of_the_singular_values_left_out(shape):
    W, X = layer(*shape)
    stats = LayerStats.of(X)
    for rank in (1, 4, min(shape)):
        solution = LowRank(rank=rank, damp=0.0).solve(W, stats)
        expected, s = best_low_rank(W, stats.gram, rank)
        found = solution.relative_error(stats)
        assert_allclose(found, np.sqrt((s[rank:] ** 2).sum() / (s**2).sum()), rtol=1e-9, atol=1e-12)
        assert_allclose(solution.dense(), expected, atol=1e-8 * abs(expected).max())
        assert_allclose(found, relative_error(W, solution.dense(), X), rtol=1e-9, atol=1e-12)
        assert_allclose(solution.history, [found**2], rtol=1e-6, atol=1e-20)
        assert np.linalg.matrix_rank(solution.dense(), tol=1e-10) == rank


def test_plain_error_is_that_of_the_singular_values_left_out():
    W, _ = layer()
    s = np.linalg.svd(W, compute_uv=False)
    solver = LowRank(rank=5, whiten=False)
    assert not solver.needs_calibration
    solution = solver.solve(W)
    assert_allclose(
        solution.relative_error(), np.sqrt((s[5:] ** 2).sum() / (s**2).sum()), rtol=1e-12
    )
    assert solution.damp is None


@pytest.mark.parametrize("seed", range(5))
def test_whitening_never_loses_to_the_plain_form_or_to_perturbed_factors(seed):
    W, X = layer(seed=seed)
    stats, rng = LayerStats.of(X), np.random.default_rng(seed)
    best, plain = LowRank(rank=5).solve(W, stats), LowRank(rank=5, whiten=False).solve(W, stats)
    assert best.relative_error(stats) < plain.relative_error(stats)
    loss = layer_loss(W, best.dense(), X)
    for scale in (1e-2, 1e-4):
        left = best.left + scale * rng.normal(size=best.left.shape)
        right = best.right + scale * rng.normal(size=best.right.shape)
        assert layer_loss(W, left @ right, X) > loss


def test_a_weight_of_low_rank_is_kept():
    rng = np.random.default_rng(0)
    W, X = rng.normal(size=(12, 3)) @ rng.normal(size=(3, 17)), layer()[1]
    for solution in (
        LowRank(rank=3).solve(W, LayerStats.of(X)),
        LowRank(rank=3, whiten=False).solve(W),
    ):
        assert_allclose(solution.dense(), W, atol=1e-12)


def test_sizes_follow_the_compression():
    W, X = layer(60, 40)
    for compression in (0.0, 0.3, 0.6):
        solution = LowRank(compression).solve(W, LayerStats.of(X))
        assert solution.n_params == solution.rank * 100
        assert solution.n_params <= (1 - compression) * W.size < (solution.rank + 1) * 100
        assert_allclose(solution.density, solution.n_params / W.size)
        assert solution.n_bits() == 16 * solution.n_params
        assert solution.n_bits(8) == 8 * solution.n_params


def test_dead_inputs_are_left_out_and_singular_grams_are_damped():
    W, X = layer(n=10)  # fewer rows than inputs
    X[:, 4] = 0
    with pytest.warns(UserWarning, match="10 tokens cannot determine a Gram matrix of 17"):
        solution = LowRank(rank=10, damp=0.0).solve(W, LayerStats.of(X))
    assert (solution.dense()[:, 4] == 0).all()
    assert solution.damp > 0
    assert solution.relative_error(LayerStats.of(X)) < 1e-2


def test_libraries_and_types_are_those_of_the_weight(xp):
    if xp.name == "array_api_strict":
        pytest.skip("solvers take tensors, NumPy and CuPy arrays")
    W, X = layer()
    expected = LowRank(rank=5).solve(W, LayerStats.of(X))
    stats = LayerStats.of(xp.asarray(X))
    found = LowRank(rank=5).solve(xp.asarray(W), stats)
    rtol = 1e-3 if xp.name == "cupy" else 1e-10  # a GPU works in single precision
    assert_allclose(to_numpy(found.dense()), expected.dense(), atol=rtol)
    assert type(found.dense()) is type(xp.asarray(W))
    assert_allclose(found.relative_error(stats), expected.relative_error(LayerStats.of(X)), rtol)
    assert isinstance(found.to_module(), torch.nn.Module)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_weights_are_solved_in_double_and_answered_as_they_came(dtype):
    W, X = layer()
    weight, stats = torch.tensor(W).to(dtype), LayerStats.of(torch.tensor(X))
    before = weight.clone()
    solution = LowRank(rank=5).solve(weight, stats)
    assert solution.left.dtype == np.float64
    assert solution.dense().dtype == dtype
    module = solution.to_module(torch.zeros(12, dtype=dtype))
    assert {p.dtype for p in module.parameters()} == {dtype}
    assert torch.equal(weight, before)


def test_modules_own_their_memory():
    W, X = layer()
    weight, bias = torch.tensor(W), torch.ones(12, dtype=torch.float64)
    solution = LowRank(rank=5).solve(weight, LayerStats.of(torch.tensor(X)))
    module, before = solution.to_module(bias), solution.dense().clone()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert torch.equal(solution.dense(), before)
    assert bool((bias == 1).all())


def test_grid_search_parameters():
    solver = clone(LowRank(0.5, rank=3)).set_params(whiten=False)
    assert solver.get_params() == {"compression": 0.5, "rank": 3, "whiten": False, "damp": 1e-6}
    assert repr(solver) == "LowRank(compression=0.5, rank=3, whiten=False)"


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (LowRank(1.0), r"compression.*must be a float in the range \[0.0, 1.0\)"),
        (LowRank(rank=0), "rank.*must be an int"),
        (LowRank(rank=13), r"rank must be at most 12 for a weight of shape \(12, 17\), got 13"),
        (LowRank(0.95), r"leaves no room for rank 1 in a weight of shape \(12, 17\)"),
        (LowRank(damp=-1.0), "damp.*must be a float in the range"),
        (LowRank(whiten="yes"), "whiten.*must be an instance of 'bool'"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(solver, message):
    W, X = layer()
    with pytest.raises(ValueError, match=message):
        solver.solve(W, LayerStats.of(X))


def test_missing_statistics_are_named():
    with pytest.raises(ValueError, match="LowRank needs statistics of the inputs"):
        LowRank().solve(layer()[0])


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("bias", [True, False])
def test_layer(check, bias):
    torch.manual_seed(0)
    options = {"bias": bias, "dtype": torch.float64}
    check(LowRankLinear(9, 7, 4, **options), LowRankLinear(9, 7, 4, **options))


def test_fresh_layers_vary_as_linear_ones():
    torch.manual_seed(0)
    x = torch.randn(2000, 100)
    ours, theirs = LowRankLinear(100, 200, 20, bias=False)(x), torch.nn.Linear(100, 200)(x)
    assert 0.8 < ours.std() / theirs.std() < 1.2


def test_from_linear():
    torch.manual_seed(0)
    linear, X = torch.nn.Linear(17, 12), torch.tensor(layer()[1], dtype=torch.float32)
    found = LowRankLinear.from_linear(linear, 0.5)
    assert found.rank == int(0.5 * 17 * 12 / 29)
    s = torch.linalg.svdvals(linear.weight.detach().double())
    error = (found.dense_weight() - linear.weight).norm().double()
    torch.testing.assert_close(error, s[found.rank :].norm(), rtol=1e-5, atol=0)
    assert torch.equal(found.bias, linear.bias)
    assert found.bias is not linear.bias
    better = LowRankLinear.from_linear(linear, 0.5, stats=LayerStats.of(X))
    assert (better(X) - linear(X)).norm() < (found(X) - linear(X)).norm()


@pytest.mark.gpu
@pytest.mark.parametrize("d_out", [100, 200, 300])
def test_gpu_tensors_give_the_answer_of_the_cpu(d_out):
    W, X = layer(d_out, 200, n=2000)
    stats, on_gpu = LayerStats.of(X), LayerStats.of(torch.tensor(X, device="cuda"))
    weight = torch.tensor(W, device="cuda", dtype=torch.float32)
    for whiten in (True, False):
        solver = LowRank(0.5, whiten=whiten)
        expected, found = solver.solve(W, stats), solver.solve(weight, on_gpu)
        # single precision of the weight against the errors of a few percent that are left
        assert_allclose(found.relative_error(on_gpu), expected.relative_error(stats), rtol=1e-4)
        assert found.to_module().left.device.type == "cuda"
