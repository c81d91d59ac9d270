"""Linear layers with zeros: masked ones, and 2:4."""

import copy
import io
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

torch = pytest.importorskip("torch")

from sparseprob.torch.layers import MaskedLinear, SemiStructuredLinear  # noqa: E402
from sparseprob.torch.solvers import AWP, MagnitudePruner, SparseGPTPruner, WandaPruner  # noqa: E402

LAYERS = [MaskedLinear, SemiStructuredLinear]
by_layer = pytest.mark.parametrize("layer_type", LAYERS, ids=lambda t: t.__name__)


def linear_of(d_in=12, d_out=6, dtype=torch.float64, bias=True, device=None):
    generator = torch.Generator().manual_seed(0)
    linear = torch.nn.Linear(d_in, d_out, bias=bias).double()
    with torch.no_grad():
        for parameter in linear.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return linear.to(device, dtype)


def made(layer_type, linear):
    if layer_type is SemiStructuredLinear:
        return layer_type.from_linear(linear)
    weight = linear.weight.detach()
    return layer_type.from_linear(linear, weight.abs() > weight.abs().median())


def inputs(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(dtype)


# ---------------------------------------------------------------- closed forms
def test_masked_layers_keep_what_the_mask_says():
    linear = linear_of()
    mask = torch.arange(72).reshape(6, 12) % 3 == 0
    layer = MaskedLinear.from_linear(linear, mask)
    assert torch.equal(layer.dense_weight(), linear.weight * mask)
    assert torch.equal(layer.weight, linear.weight * mask)
    linear.weight.data[0, :5] = 0
    assert int(MaskedLinear.from_linear(linear).mask.sum()) == 67
    with pytest.raises(ValueError, match=r"mask must be of shape \(6, 12\), got \(12, 6\)"):
        MaskedLinear.from_linear(linear, mask.T)


@pytest.mark.parametrize("d_in", [4, 8, 12, 20])
def test_semi_structured_layers_keep_the_two_largest_of_four(d_in):
    linear = linear_of(d_in)
    layer = SemiStructuredLinear.from_linear(linear)
    expected = MagnitudePruner(nm="2:4").solve(linear.weight).dense()
    assert torch.equal(layer.dense_weight(), expected)
    assert layer.values.shape == (6, d_in // 2)
    assert layer.positions.shape == (6, -(-d_in // 8))
    assert layer.positions.dtype == torch.uint8


def test_positions_lie_in_two_bits_each():
    linear = torch.nn.Linear(8, 1, bias=False)
    linear.weight.data = torch.tensor([[0.0, 5.0, 0.0, 4.0, 3.0, 0.0, 2.0, 0.0]])
    layer = SemiStructuredLinear.from_linear(linear)
    assert layer.values.tolist() == [[5.0, 4.0, 3.0, 2.0]]
    assert layer.positions.tolist() == [[1 | 3 << 2 | 0 << 4 | 2 << 6]]


def test_semi_structured_layers_need_inputs_in_fours():
    with pytest.raises(ValueError, match="in_features must be a multiple of 4, got 10"):
        SemiStructuredLinear(10, 3)
    with pytest.raises(ValueError, match="in_features must be a multiple of 4, got 10"):
        SemiStructuredLinear.from_linear(torch.nn.Linear(10, 3))


@by_layer
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(12,), (5, 12), (2, 3, 12), (0, 12), (4, 0, 12)])
def test_forward_is_that_of_the_dense_weight(layer_type, bias, shape):
    layer, x = made(layer_type, linear_of(bias=bias)), inputs(*shape)
    expected = torch.nn.functional.linear(x, layer.dense_weight(), layer.bias)
    assert torch.equal(layer(x), expected)
    with torch.no_grad():
        for _ in range(2):
            assert torch.equal(layer(x), expected)
    with torch.inference_mode():
        assert torch.equal(layer(x), expected)


@by_layer
def test_fresh_layers_work(layer_type):
    layer = layer_type(12, 6)
    assert layer(torch.ones(2, 12)).shape == (2, 6)
    assert "in_features=12, out_features=6, bias=True" in repr(layer)
    assert layer_type(12, 6, bias=False).bias is None
    assert layer_type(12, 6, dtype=torch.bfloat16).dense_weight().dtype == torch.bfloat16


# ---------------------------------------------------------------- training
@by_layer
def test_gradients(layer_type):
    layer = made(layer_type, linear_of())
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(run, (inputs(3, 12).requires_grad_(), *parameters))


@by_layer
def test_zeros_stay_zero_in_training(layer_type):
    layer = made(layer_type, linear_of())
    zeros = layer.dense_weight() == 0
    before = layer.dense_weight().detach().clone()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (layer(inputs(20, 12)) ** 2).sum().backward()
        optimizer.step()
        with torch.no_grad():  # and what is kept for it follows the values
            expected = torch.nn.functional.linear(inputs(20, 12), layer.dense_weight(), layer.bias)
            assert torch.equal(layer(inputs(20, 12)), expected)
    after = layer.dense_weight().detach()
    assert not after[zeros].any()
    assert (after[~zeros] != before[~zeros]).all()
    if layer_type is MaskedLinear:
        assert not layer.weight.grad[zeros].any()
        assert not layer.weight[zeros].any()


@by_layer
def test_weights_without_gradients_stay_without(layer_type):
    linear = linear_of()
    linear.weight.requires_grad_(False)
    layer = made(layer_type, linear)
    assert not next(p for name, p in layer.named_parameters() if name != "bias").requires_grad
    x = inputs(3, 12).requires_grad_()
    layer(x).sum().backward()
    assert torch.allclose(x.grad, layer.dense_weight().sum(0).expand(3, -1))


# ---------------------------------------------------------------- storage
@by_layer
@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "pickle", "torch.save"])
def test_copies_compute_the_same(layer_type, way):
    layer, x = made(layer_type, linear_of()), inputs(3, 12)
    with torch.no_grad():
        expected = layer(x)
    if way == "state_dict":
        other = layer_type(12, 6, dtype=torch.float64)
        with torch.no_grad():
            other(x)
        other.load_state_dict(layer.state_dict())
    elif way == "deepcopy":
        other = copy.deepcopy(layer)
    elif way == "pickle":
        other = pickle.loads(pickle.dumps(layer))
    else:
        file = io.BytesIO()
        torch.save(layer, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    with torch.no_grad():
        assert torch.equal(other(x), expected)
        for parameter in other.parameters():
            parameter.zero_()
        assert not other(x).any()
        assert torch.equal(layer(x), expected)


def test_size_of_stored_semi_structured_layers():
    state = SemiStructuredLinear(64, 32, bias=False, dtype=torch.bfloat16).state_dict()
    stored = sum(8 * t.numel() * t.element_size() for t in state.values())
    assert stored == 32 * 64 * (16 // 2 + 1)


# ---------------------------------------------------------------- types and compilers
@by_layer
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(layer_type, dtype):
    layer, x = made(layer_type, linear_of(dtype=dtype)), inputs(3, 12, dtype=dtype)
    assert layer(x).dtype == dtype
    exact = torch.nn.functional.linear(
        x.double(), layer.dense_weight().double(), layer.bias.double()
    )
    error = (layer(x).double() - exact).abs().max() / exact.abs().max()
    assert error < 4 * torch.finfo(dtype).eps


@by_layer
def test_autocast(layer_type):
    layer = made(layer_type, linear_of(dtype=torch.float32))
    x = inputs(3, 12, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
        with torch.no_grad():
            assert torch.equal(layer(x), found)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), layer(x), atol=0.1)
    found.sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())


@by_layer
def test_changes_of_type_are_followed(layer_type):
    layer, x = made(layer_type, linear_of()), inputs(3, 12)
    with torch.no_grad():
        expected = layer(x)
        assert torch.allclose(layer.float()(x.float()).double(), expected, atol=1e-5)
        assert torch.allclose(layer.double()(x), expected, atol=1e-5)


@by_layer
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside the compiler
def test_compilation_in_one_graph(layer_type):
    layer, x = made(layer_type, linear_of(dtype=torch.float32)), inputs(3, 12, dtype=torch.float32)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), layer(x), atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(compiled(x), layer(x), atol=1e-6)


# ---------------------------------------------------------------- solutions as modules
@pytest.mark.parametrize(
    ("solver", "expected"),
    [
        (MagnitudePruner(0.5), MaskedLinear),
        (MagnitudePruner(nm="2:4"), SemiStructuredLinear),
        (MagnitudePruner(nm="1:4"), MaskedLinear),
        (MagnitudePruner(0.5, granularity="block", block_size=3), MaskedLinear),
        (MagnitudePruner(0.0), torch.nn.Linear),
        (MagnitudePruner(nm="4:4"), torch.nn.Linear),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_modules_of_solutions(solver, expected, dtype):
    linear = linear_of(dtype=dtype)
    solution = solver.solve(linear.weight)
    for bias in (linear.bias, None):
        module = solution.to_module(bias)
        assert type(module) is expected
        x = inputs(3, 12, dtype=dtype)
        found = torch.nn.functional.linear(x, solution.dense(), bias)
        assert torch.equal(module(x), found)
        assert all(p.dtype == dtype and p.requires_grad for p in module.parameters())
    module.load_state_dict(copy.deepcopy(module).state_dict())


def test_modules_of_solutions_of_arrays():
    W = np.random.default_rng(0).normal(size=(6, 12)).astype(np.float32)
    solution = MagnitudePruner(nm="2:4").solve(W)
    module = solution.to_module()
    assert_array_equal(module.dense_weight().detach().numpy(), solution.dense())


# ---------------------------------------------------------------- on a GPU
@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(128, 256), (96, 64), (30, 36)])
def test_semi_structured_kernels(dtype, shape):
    """Sums of a few hundred products, whose order differs from that of the dense product."""
    if not torch.cuda.is_available():
        pytest.skip("needs torch with CUDA")
    layer = SemiStructuredLinear.from_linear(linear_of(shape[1], shape[0], dtype, device="cuda"))
    for rows in ((5,), (3, 7), ()):
        x = inputs(*rows, shape[1], dtype=dtype).cuda()
        dense = torch.nn.functional.linear(x, layer.dense_weight(), layer.bias)
        with torch.no_grad():
            found = layer(x)
        assert found.shape == dense.shape
        assert (found - dense).abs().max() < 8 * torch.finfo(dtype).eps * dense.abs().max()
    with torch.no_grad():
        kind = type(layer._kept_weight(layer._has_kernels)).__name__
        assert ("Semi" in kind) == (shape != (30, 36))
        again = copy.deepcopy(layer)
        assert torch.equal(again(x), layer(x))


@pytest.mark.gpu
@pytest.mark.parametrize("solver", [AWP(nm="2:4"), SparseGPTPruner(nm="2:4"), WandaPruner()])
def test_layers_compressed_on_a_gpu(solver):
    if not torch.cuda.is_available():
        pytest.skip("needs torch with CUDA")
    from sparseprob.torch.calibration import LayerStats

    linear = linear_of(64, 32, torch.bfloat16, device="cuda")
    x = torch.randn(500, 64, device="cuda")
    module = solver.solve(linear.weight, LayerStats.of(x)).to_module(linear.bias)
    assert next(module.parameters()).is_cuda
    with torch.no_grad():
        assert module(x.bfloat16()).shape == (500, 32)
