"""What every layer that stands in for a linear one must survive; a table of checks."""

import copy
import io
import pickle

import torch
from torch.nn import functional

HALVES = (torch.bfloat16, torch.float16)


def _agrees(layer, x, y, **tolerances):
    torch.testing.assert_close(
        y, functional.linear(x, layer.dense_weight(), layer.bias), **tolerances
    )


def forward_is_the_dense_layer(layer, fresh):
    x = torch.randn(5, layer.in_features, dtype=torch.float64)
    _agrees(layer, x, layer(x))


def leading_dimensions_are_kept(layer, fresh):
    x = torch.randn(2, 3, 4, layer.in_features, dtype=torch.float64)
    y = layer(x)
    assert y.shape == (2, 3, 4, layer.out_features)
    torch.testing.assert_close(y[1, 2], layer(x[1, 2]))
    assert layer(x[0, 0, 0]).shape == (layer.out_features,)


def empty_batches_pass(layer, fresh):
    x = torch.empty(0, 7, layer.in_features, dtype=torch.float64, requires_grad=True)
    y = layer(x)
    assert y.shape == (0, 7, layer.out_features)
    y.sum().backward()


def gradients_are_right(layer, fresh):
    x = torch.randn(3, layer.in_features, dtype=torch.float64, requires_grad=True)
    names, values = zip(*layer.named_parameters(), strict=True)
    values = tuple(value.detach().clone().requires_grad_() for value in values)

    def output(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(output, (x, *values))


def state_loads_into_a_fresh_layer(layer, fresh):
    x = torch.randn(5, layer.in_features, dtype=torch.float64)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(x), layer(x))
    assert {p.dtype for p in fresh.parameters()} == {torch.float64}


def copies_are_independent(layer, fresh):
    x = torch.randn(5, layer.in_features, dtype=torch.float64)
    before = layer(x).detach().clone()
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(again(x), before)
        with torch.no_grad():
            for parameter in again.parameters():
                parameter.add_(1.0)
        assert torch.equal(layer(x), before)


def half_precision_is_kept(layer, fresh):
    x = torch.randn(5, layer.in_features, dtype=torch.float64)
    y = layer(x)
    for dtype in HALVES:
        narrow = copy.deepcopy(layer).to(dtype)
        found = narrow(x.to(dtype))
        assert found.dtype == dtype
        error = (found.double() - y).norm() / y.norm()
        assert error < 8 * torch.finfo(dtype).eps  # of a few roundings of every number


def autocast_chooses_the_type(layer, fresh):
    single = copy.deepcopy(layer).float()
    x = torch.randn(5, layer.in_features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = single(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in single.parameters())
    expected = single(x)
    assert (y.float() - expected).norm() < 0.03 * expected.norm()


def compiles_without_breaks(layer, fresh):
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(5, layer.in_features, dtype=torch.float64)
    y = compiled(x)
    torch.testing.assert_close(y, layer(x))
    layer.zero_grad()
    y.square().sum().backward()
    found = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    layer(x).square().sum().backward()
    for a, p in zip(found, layer.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad)


CHECKS = (
    forward_is_the_dense_layer,
    leading_dimensions_are_kept,
    empty_batches_pass,
    gradients_are_right,
    state_loads_into_a_fresh_layer,
    copies_are_independent,
    half_precision_is_kept,
    autocast_chooses_the_type,
    compiles_without_breaks,
)
