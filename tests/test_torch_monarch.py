"""Monarch layers and their solver."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

from reference_torch_factorization import layer_loss  # noqa: E402
from reference_torch_structured import block_metric, monarch_matrix, nearest_monarch  # noqa: E402
from sklearn.base import clone  # noqa: E402
from torch import nn  # noqa: E402
from torch_layer_checks import CHECKS  # noqa: E402

from sparseprob._arrays import to_numpy  # noqa: E402
from sparseprob.torch import densify_  # noqa: E402
from sparseprob.torch.calibration import LayerStats  # noqa: E402
from sparseprob.torch.layers import KroneckerLinear, MonarchLinear  # noqa: E402
from sparseprob.torch.solvers import Monarch  # noqa: E402

# Inputs, outputs, blocks, block rank; the last three need padding.
LAYERS = [
    (12, 8, 4, None),
    (8, 12, (2, 3), 2),
    (11, 7, 3, 1),
    (7, 11, (4, 3), 2),
    (5, 6, "sqrt", 1),
]


def layer(d_out=12, d_in=20, n=300, seed=0):
    """Weight and inputs whose scales and correlations differ."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d_in, d_in)) * np.logspace(0, -1, d_in)
    return rng.normal(size=(d_out, d_in)), rng.normal(size=(n, d_in)) @ mixing


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("sizes", LAYERS, ids=str)
def test_layer(check, sizes):
    torch.manual_seed(0)
    options = {"bias": sizes[0] > sizes[1], "dtype": torch.float64}
    check(MonarchLinear(*sizes, **options), MonarchLinear(*sizes, **options))


@pytest.mark.parametrize("sizes", LAYERS, ids=str)
def test_dense_weight_is_the_monarch_matrix(sizes):
    made = MonarchLinear(*sizes, dtype=torch.float64)
    left, right = made.left.detach().numpy(), made.right.detach().numpy()
    expected = monarch_matrix(left, right, (made.out_features, made.in_features))
    assert_allclose(made.dense_weight().detach().numpy(), expected, atol=1e-14)


def test_outputs_are_contiguous_and_wrong_inputs_refused():
    made = MonarchLinear(12, 8)
    assert made(torch.randn(5, 12)).is_contiguous()
    assert MonarchLinear(11, 7)(torch.randn(5, 11)).is_contiguous()
    for wrong in (torch.randn(3, 8), torch.randn(2, 24)):
        with pytest.raises(RuntimeError, match="invalid for input of size"):
            made(wrong)


def test_default_block_rank_keeps_the_smaller_width():
    made = MonarchLinear(64, 32, 4)
    assert made.block_rank == 2
    assert made.left.numel() + made.right.numel() == 2 * 4 * (64 + 32)
    square = MonarchLinear(64, 64, "sqrt")
    assert square.block_rank == 1
    assert square.left.numel() + square.right.numel() == 2 * 64**1.5


def test_initial_factors_are_those_of_linear_layers_of_their_widths():
    torch.manual_seed(0)
    made = MonarchLinear(400, 200, 4)
    for factor in (made.left, made.right):
        bound = factor.shape[2] ** -0.5
        assert 0.99 * bound < factor.abs().max() <= bound
        assert_allclose(factor.std().item(), bound / 3**0.5, rtol=0.02)
    assert 0.9 * 200**-0.5 < made.bias.abs().max() <= 200**-0.5


def test_from_linear_is_the_projection():
    torch.manual_seed(0)
    linear = nn.Linear(20, 12)
    made = MonarchLinear.from_linear(linear, (5, 3), 2)
    expected = nearest_monarch(linear.weight.detach().double().numpy(), 5, 3, 2)
    assert_allclose(made.dense_weight().detach().numpy(), expected, atol=1e-6)
    assert torch.equal(made.bias, linear.bias)
    assert made.bias is not linear.bias
    assert MonarchLinear.from_linear(linear).block_rank == MonarchLinear(20, 12).block_rank


def test_factors_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"right must be of shape \(2, 3, 4\), got \(2, 4, 4\)"):
        MonarchLinear.from_factors(torch.ones(3, 2, 2), torch.ones(2, 4, 4))
    with pytest.raises(ValueError, match="block_rank must be from 1 to 2"):
        MonarchLinear(12, 8, 4, 3)


@pytest.mark.parametrize("n_blocks", [(5, 3), 4, "sqrt"])
def test_plain_solver_is_the_projection(n_blocks):
    W, _ = layer()
    solver = Monarch(n_blocks=n_blocks, block_rank=2)
    assert not solver.needs_calibration
    solution = solver.solve(W)
    k, J = {4: (4, 4), "sqrt": (5, 3)}.get(n_blocks, n_blocks)
    expected = nearest_monarch(W, k, J, 2)
    assert_allclose(solution.dense(), expected, atol=1e-12)
    error = np.linalg.norm(W - expected) / np.linalg.norm(W)
    assert_allclose(solution.relative_error(), error, rtol=1e-10)
    assert_allclose(solution.history, [error**2], rtol=1e-10)
    assert solution.n_params == 2 * (J * 20 + k * 12)
    assert solution.block_rank == 2


def test_sizes_follow_the_compression():
    W, _ = layer(48, 60)
    for compression in (0.0, 0.3, 0.6):
        solution = Monarch(compression).solve(W)
        step = 4 * (48 + 60)
        assert solution.n_params == solution.block_rank * step
        assert solution.n_params <= (1 - compression) * W.size < solution.n_params + step
        assert_allclose(solution.density, solution.n_params / W.size)
        assert solution.n_bits() == 16 * solution.n_params


@pytest.mark.parametrize("shape", [(12, 20), (11, 18)])
@pytest.mark.parametrize("seed", range(3))
def test_whitening_is_optimal_for_blocks_of_inputs(shape, seed):
    """In the metric of the blocks no other Monarch matrix is nearer, the plain one included."""
    W, X = layer(*shape, seed=seed)
    stats, rng = LayerStats.of(X), np.random.default_rng(seed)
    metric = block_metric(stats.gram, 5)

    def loss(V):
        return np.trace((W - V) @ metric @ (W - V).T)

    options = {"n_blocks": (5, 3), "block_rank": 1}
    best = Monarch(whiten="block", damp=0.0, **options).solve(W, stats)
    least = loss(best.dense())
    assert least < loss(Monarch(**options).solve(W).dense())
    for scale in (1.0, 1e-2, 1e-4):
        for _ in range(10):
            left = best.left + scale * rng.normal(size=best.left.shape)
            right = best.right + scale * rng.normal(size=best.right.shape)
            assert loss(monarch_matrix(left, right, shape)) > least
    truncated = 0.0  # the singular values left out of every whitened sub-matrix
    for b in range(5):
        columns = np.arange(shape[1])[b * (-(-shape[1] // 5)) :][: -(-shape[1] // 5)]
        R = np.linalg.cholesky(metric[np.ix_(columns, columns)])
        for j in range(3):
            s = np.linalg.svd(W[j::3, columns] @ R, compute_uv=False)
            truncated += (s[1:] ** 2).sum()
    assert_allclose(least, truncated, rtol=1e-9)


@pytest.mark.parametrize("whiten", [None, "block"])
@pytest.mark.parametrize("shape", [(12, 20), (11, 18)])
def test_refit_is_least_squares(whiten, shape):
    W, X = layer(*shape)
    stats = LayerStats.of(X)
    options = {"n_blocks": (5, 3), "block_rank": 2, "whiten": whiten, "damp": 0.0}
    before = Monarch(**options).solve(W, stats)
    after = Monarch(refit=True, **options).solve(W, stats)
    assert_allclose(after.right, before.right, rtol=1e-12, atol=1e-15)
    assert after.relative_error(stats) < before.relative_error(stats)
    # residue after residue, by the activations themselves
    expected = np.zeros(shape)
    for j in range(3):
        one = np.zeros_like(before.left)
        one[j, 0] = 1
        B = np.zeros((10, shape[1]))
        for t in range(10):
            one = np.zeros_like(before.left)
            one[j, 0, t] = 1
            B[t] = monarch_matrix(one, before.right, shape)[j]
        rows = np.linalg.lstsq(X @ B.T, X @ W[j::3].T, rcond=None)[0].T
        expected[j::3] = rows @ B
    assert_allclose(after.dense(), expected, atol=1e-6)
    assert_allclose(layer_loss(W, after.dense(), X), layer_loss(W, expected, X), rtol=1e-8)


def test_dead_inputs_are_left_out_and_singular_grams_are_damped():
    W, X = layer(n=12)
    X[:, 4] = 0
    options = {"n_blocks": (5, 3), "block_rank": 2}
    for whiten in (None, "block"):
        with pytest.warns(UserWarning, match="12 tokens cannot determine a Gram matrix of 20"):
            solution = Monarch(whiten=whiten, refit=True, damp=0.0, **options).solve(
                W, LayerStats.of(X)
            )
        assert (solution.dense()[:, 4] == 0).all()
        assert solution.damp > 0
        assert np.isfinite(solution.relative_error(LayerStats.of(X)))


def test_libraries_and_types_are_those_of_the_weight(xp):
    if xp.name == "array_api_strict":
        pytest.skip("solvers take tensors, NumPy and CuPy arrays")
    W, X = layer()
    for solver in (Monarch(0.4), Monarch(0.4, whiten="block", refit=True)):
        expected = solver.solve(W, LayerStats.of(X))
        stats = LayerStats.of(xp.asarray(X))
        found = solver.solve(xp.asarray(W), stats)
        rtol = 1e-3 if xp.name == "cupy" else 1e-10  # a GPU works in single precision
        assert_allclose(to_numpy(found.dense()), expected.dense(), atol=rtol)
        assert type(found.dense()) is type(xp.asarray(W))
        error = expected.relative_error(LayerStats.of(X))
        assert_allclose(found.relative_error(stats), error, rtol)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_modules_compute_what_solutions_say(dtype):
    W, X = layer(11, 18)
    weight, bias = torch.tensor(W).to(dtype), torch.ones(11, dtype=dtype)
    before = weight.clone()
    solution = Monarch(0.3, n_blocks=(5, 3)).solve(weight)
    assert solution.dense().dtype == dtype
    module = solution.to_module(bias)
    assert {p.dtype for p in module.parameters()} == {dtype}
    x = torch.tensor(X[:5]).to(dtype)
    expected = x.double() @ solution.dense().double().T + 1
    # factors, both products and the sum are rounded
    error = (module(x).double() - expected).norm() / expected.norm()
    assert error < 8 * torch.finfo(dtype).eps
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert torch.equal(weight, before)
    assert bool((bias == 1).all())
    assert float(solution.dense().abs().max()) > 0


def test_grid_search_parameters():
    solver = clone(Monarch(0.5, n_blocks="sqrt")).set_params(block_rank=1)
    assert repr(solver) == "Monarch(block_rank=1, compression=0.5, n_blocks='sqrt')"
    assert Monarch(refit=True).needs_calibration
    assert Monarch(whiten="block").needs_calibration


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (Monarch(1.0), r"compression.*must be a float in the range \[0.0, 1.0\)"),
        (Monarch(n_blocks="root"), "n_blocks.*must be"),
        (Monarch(n_blocks=13), "n_blocks must be from 1 to the size of the layer"),
        (Monarch(n_blocks=(4, 4, 4)), "n_blocks must be a positive number, two of them"),
        (Monarch(block_rank=4), "block_rank must be from 1 to 3 for 4 x 4 blocks"),
        (Monarch(0.6, n_blocks=6), r"leaves no room for block rank 1 with 6 x 6 blocks"),
        (Monarch(whiten="full"), "whiten.*must be"),
        (Monarch(damp=-1.0), "damp.*must be a float in the range"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(solver, message):
    W, X = layer()
    with pytest.raises(ValueError, match=message):
        solver.solve(W, LayerStats.of(X))


def test_missing_statistics_are_named():
    with pytest.raises(ValueError, match="Monarch needs statistics of the inputs"):
        Monarch(whiten="block").solve(layer()[0])


class Twice(nn.Module):
    """One layer used at two places, and a linear one."""

    def __init__(self):
        super().__init__()
        self.first = MonarchLinear(16, 16)
        self.again, self.last = self.first, nn.Linear(16, 2)

    def forward(self, x):
        return self.last(torch.relu(self.again(torch.relu(self.first(x)))))


def trained(model, optimizer, x, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()


def test_densified_models_compute_the_same_and_train_on():
    torch.manual_seed(0)
    model, x = Twice(), torch.randn(5, 16)
    frozen = KroneckerLinear(16, 16)
    frozen.V.requires_grad_(False), frozen.W.requires_grad_(False)
    model.frozen = frozen
    optimizer = torch.optim.Adam(
        [{"params": model.last.parameters()}, {"params": model.first.parameters(), "lr": 0.1}]
    )
    trained(model, optimizer, x)
    before, bias = model(x).detach(), model.first.bias
    lasting = optimizer.state[model.last.weight]["exp_avg"].clone()
    with pytest.warns(UserWarning, match="starts again with the weights of the layers"):
        assert densify_(model, optimizer) is model
    assert type(model.first) is type(model.frozen) is nn.Linear
    assert model.first is model.again
    assert model.first.bias is bias
    assert not model.frozen.weight.requires_grad
    torch.testing.assert_close(model(x), before)
    assert torch.equal(optimizer.state[model.last.weight]["exp_avg"], lasting)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()} - {
        id(p) for p in model.frozen.parameters()
    }
    assert any(p is model.first.weight for p in optimizer.param_groups[1]["params"])
    assert set(optimizer.state) <= set(held)
    weight = model.first.weight.detach().clone()
    trained(model, optimizer, x, steps=1)
    assert not torch.equal(model.first.weight, weight)


def test_densify_without_moments_is_silent():
    model = nn.Sequential(MonarchLinear(8, 8))
    densify_(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert isinstance(model[0], nn.Linear)


def test_models_without_anything_to_densify_are_refused():
    with pytest.raises(ValueError, match="itself a MonarchLinear, which has no place"):
        densify_(MonarchLinear(8, 8))
    with pytest.raises(ValueError, match="no structured layers"):
        densify_(nn.Sequential(nn.Linear(8, 8)))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sizes", LAYERS, ids=str)
def test_layer_on_a_gpu(sizes, dtype):
    torch.manual_seed(0)
    on_host = MonarchLinear(*sizes)
    x = torch.randn(50, on_host.in_features)
    expected = on_host(x)
    layer = MonarchLinear(*sizes, device="cuda", dtype=dtype)
    layer.load_state_dict(on_host.state_dict())
    found = layer(x.cuda().to(dtype))
    assert found.is_contiguous()
    error = (found.cpu().float() - expected).norm() / expected.norm()
    assert error < 8 * torch.finfo(dtype).eps + 2e-3  # products may run in TF32
    found.sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("options", [{}, {"whiten": "block"}, {"whiten": "block", "refit": True}])
def test_gpu_tensors_give_the_answer_of_the_cpu(options):
    W, X = layer(90, 110, n=2000)
    expected = Monarch(0.4, **options).solve(torch.tensor(W), LayerStats.of(torch.tensor(X)))
    found = Monarch(0.4, **options).solve(
        torch.tensor(W).cuda(), LayerStats.of(torch.tensor(X).cuda())
    )
    assert found.dense().device.type == "cuda"
    stats = LayerStats.of(torch.tensor(X))
    error = (found.dense().cpu() - expected.dense()).norm() / expected.dense().norm()
    assert error < 1e-3  # singular vectors in single precision
    assert_allclose(
        found.relative_error(LayerStats.of(torch.tensor(X).cuda())),
        expected.relative_error(stats), rtol=1e-4,
    )  # fmt: skip
    assert found.to_module().left.device.type == "cuda"
