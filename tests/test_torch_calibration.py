"""Moments of the inputs of layers: exact, shared where inputs are, and nothing left behind."""

import pytest
import torch
from numpy.testing import assert_allclose
from reference_torch_compress import recorded, second_moment
from torch import nn

from sparseprob.torch.calibration import collect_grams

EXACT = dict(rtol=1e-12, atol=1e-13)  # sums of a few hundred products in double precision


def batches(d=6, n=3, size=(5,), seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*size, d, generator=generator, dtype=dtype) for _ in range(n)]


def network(dtype=torch.float32):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4)).to(dtype)


class Branches(nn.Module):
    """Three layers, whose inputs a function makes of x."""

    def __init__(self, inputs, n=3):
        super().__init__()
        torch.manual_seed(2)
        self.layers = nn.ModuleList(nn.Linear(6, 3) for _ in range(n))
        self.inputs = inputs

    def forward(self, x):
        return sum(layer(made) for layer, made in zip(self.layers, self.inputs(x), strict=False))


# ---------------------------------------------------------------- values
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_moments_are_those_of_the_recorded_inputs(dtype):
    model, data = network(dtype), batches(size=(2, 5), dtype=dtype)
    stats = collect_grams(model, data)
    assert list(stats) == ["0", "2"]
    for name, found in stats.items():
        rows = recorded(model, data, name)
        assert found.gram.dtype == torch.float64
        assert_allclose(found.gram, second_moment(rows), **EXACT)
        assert_allclose(found.mean, rows.double().mean(0), **EXACT)
        assert found.n_tokens == 30


def test_batches_by_position_by_keyword_and_merged():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 2)

        def forward(self, a, b):
            return self.fc(input=a + b)

    model, (a, b, c) = Sum(), batches()
    by_position = collect_grams(model, [(a, b), [c, b]])["fc"]
    by_keyword = collect_grams(model, [{"b": b, "a": a}, {"a": c, "b": b}])["fc"]
    assert_allclose(by_position.gram, second_moment(torch.cat([a + b, c + b])), **EXACT)
    assert torch.equal(by_position.gram, by_keyword.gram)
    merged = collect_grams(model, [(a, b)])["fc"].merge(collect_grams(model, [(c, b)])["fc"])
    assert_allclose(merged.gram, by_position.gram, **EXACT)


def test_layers_are_chosen_by_patterns():
    model, data = network(), batches()
    assert list(collect_grams(model, data, "2")) == ["2"]
    assert list(collect_grams(model, data, ["[0-9]"])) == ["0", "2"]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize(
    "options",
    [
        dict(kernel_size=3), dict(kernel_size=(2, 3), stride=2, padding=1),
        dict(kernel_size=3, dilation=2, padding="same"), dict(kernel_size=(3, 2), padding="same"),
        dict(kernel_size=3, padding=(1, 2), padding_mode="reflect"),
        dict(kernel_size=2, padding="valid", stride=(1, 2)),
    ],
    ids=str,
)  # fmt: skip
def test_patches_of_a_convolution_give_the_power_of_its_outputs(options, monkeypatch):
    monkeypatch.setattr("sparseprob.torch.calibration._tokens._CHUNK", 400)  # several chunks
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, bias=False, **options)).double()
    data = [torch.randn(4, 2, 9, 8).double(), torch.randn(2, 9, 8).double()]
    stats = collect_grams(model, data, module_types=(nn.Conv2d,))["0"]
    outputs = [model(x).detach().reshape(-1, 3, *model(x).shape[-2:]) for x in data]
    power = sum((y**2).sum((0, 2, 3)) for y in outputs) / stats.n_tokens
    assert stats.n_tokens == sum(y[:, 0].numel() for y in outputs)
    W = model[0].weight.detach().flatten(1)
    assert_allclose((W @ stats.gram * W).sum(1), power, rtol=1e-12)
    mean = sum(y.sum((0, 2, 3)) for y in outputs) / stats.n_tokens
    assert_allclose(W @ stats.mean, mean, rtol=1e-11, atol=1e-13)


def test_large_inputs_are_summed_in_chunks(monkeypatch):
    monkeypatch.setattr("sparseprob.torch.calibration._tokens._CHUNK", 14)
    x = batches(size=(11,))
    assert_allclose(
        collect_grams(network(), x)["0"].gram, second_moment(torch.cat(x)), **EXACT
    )  # fmt: skip


def test_max_tokens_takes_the_first_and_stops_reading():
    read = []

    def source():
        for x in batches(n=10):
            read.append(x)
            yield x

    stats = collect_grams(network(), source(), max_tokens=12)
    assert [found.n_tokens for found in stats.values()] == [12, 12]
    assert len(read) == 3
    assert_allclose(stats["0"].gram, second_moment(torch.cat(read)[:12]), **EXACT)


# ---------------------------------------------------------------- padding
def test_padding_does_not_count():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.fc = nn.Embedding(9, 6), nn.Linear(6, 5)
            self.flat, self.pool = nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, input_ids, attention_mask):
            y = self.fc(self.embed(input_ids))
            y = self.flat(y.flatten(0, 1)).reshape(y.shape)
            return self.pool(y[:, 0])

    model, ids = Encoder(), torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]])
    stats = collect_grams(model, [{"input_ids": ids, "attention_mask": mask}])
    seen = torch.tensor([1, 2, 3, 5, 6])
    assert [found.n_tokens for found in stats.values()] == [5, 5, 2]
    assert_allclose(stats["fc"].gram, second_moment(model.embed(seen)), **EXACT)
    assert_allclose(stats["flat"].gram, second_moment(model.fc(model.embed(seen))), rtol=1e-6)


# ---------------------------------------------------------------- shared inputs
def test_layers_fed_by_one_tensor_share_a_gram():
    model = Branches(lambda x: (x, x.reshape(5, 6), x + 1))
    stats = collect_grams(model, batches())
    first, second, third = stats.values()
    assert first.gram is second.gram
    assert first.gram is not third.gram
    assert_allclose(third.gram, second_moment(torch.cat(batches()) + 1), **EXACT)


def test_equal_addresses_are_not_taken_for_one_tensor():
    def inputs(x):
        for factor in (1, 2, 3):  # each is freed before the next is made
            yield x * factor

    stats = collect_grams(Branches(inputs), batches())
    for factor, found in enumerate(stats.values(), 1):
        assert_allclose(found.gram, factor**2 * stats["layers.0"].gram, rtol=1e-6)


def test_tensors_changed_in_place_are_other_inputs():
    def inputs(x):
        x = x.clone()
        for _ in range(3):
            yield x.add_(1)

    stats = collect_grams(Branches(inputs), batches())
    for added, found in enumerate(stats.values(), 1):
        assert_allclose(found.gram, second_moment(torch.cat(batches()) + added), rtol=1e-5)


def parting(x):
    """One input at first, two after a batch of another sign."""
    return (x, x if x[0, 0] > 0 else 2 * x)


@pytest.mark.parametrize("signs", [(1, -1), (1, 1, -1, 1)])
def test_layers_that_part_ways_get_sums_of_their_own(signs):
    data = [sign * x.abs() for sign, x in zip(signs, batches(n=4), strict=False)]
    stats = collect_grams(Branches(parting, 2), data)
    second = torch.cat([x if x[0, 0] > 0 else 2 * x for x in data])
    assert_allclose(stats["layers.0"].gram, second_moment(torch.cat(data)), **EXACT)
    assert_allclose(stats["layers.1"].gram, second_moment(second), **EXACT)
    with pytest.raises(ValueError, match="pass a list of batches, which can be read twice"):
        collect_grams(Branches(parting, 2), iter(data))


def test_a_layer_that_is_left_out_later_does_not_count_what_it_misses():
    model = Branches(lambda x: (x, x) if x[0, 0] > 0 else (x,), 2)
    data = [batches()[0].abs(), -batches()[1].abs()]
    stats = collect_grams(model, data)
    assert [found.n_tokens for found in stats.values()] == [10, 5]
    assert_allclose(stats["layers.1"].gram, second_moment(data[0]), **EXACT)


def test_a_module_that_is_called_twice_counts_twice():
    fc = nn.Linear(6, 6)
    model, (x, *_) = nn.Sequential(fc, fc), batches()
    stats = collect_grams(model, [x])
    assert list(stats) == ["0"]
    assert stats["0"].n_tokens == 10
    assert_allclose(stats["0"].gram, second_moment(torch.cat([x, fc(x)])), **EXACT)


# ---------------------------------------------------------------- nothing is left behind
def test_model_is_as_before():
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))
    model[1].eval()
    model[0].weight.requires_grad_(False)
    running = model[1].running_mean.clone()
    stats = collect_grams(model, batches())
    assert [m.training for m in model] == [True, False, True, True]
    assert not stats["3"].gram.requires_grad
    assert torch.equal(model[1].running_mean, running)
    assert not model[0].weight.requires_grad
    assert not any(m._forward_pre_hooks for m in model)
    assert torch.is_grad_enabled()
    again = collect_grams(model.eval(), batches())
    assert torch.equal(again["3"].gram, stats["3"].gram)


def test_hooks_go_when_the_model_fails():
    model = network().train()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        collect_grams(model, [torch.ones(2, 5)])
    assert not any(m._forward_pre_hooks for m in model)
    assert model.training
    assert torch.backends.mha.get_fastpath_enabled()


def test_fused_attention_and_compiled_models_are_seen_through():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True).eval()
    stats = collect_grams(layer, batches(size=(2, 5)))
    assert list(stats) == ["linear1", "linear2"]
    assert stats["linear2"].n_tokens == 30
    model = network()
    compiled = torch.compile(model, backend="eager")
    compiled(batches()[0])
    found = collect_grams(compiled, batches())
    assert torch.equal(found["_orig_mod.2"].gram, collect_grams(model, batches())["2"].gram)


def test_transposed_layers_of_transformers():
    pytest.importorskip("transformers")
    from transformers.pytorch_utils import Conv1D

    model = nn.Sequential(Conv1D(4, 6))
    assert_allclose(
        collect_grams(model, batches())["0"].gram, second_moment(torch.cat(batches())), **EXACT
    )


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gpu_equals_cpu(dtype):
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    model, data = network(dtype), batches(size=(40, 25), dtype=dtype)
    stats = collect_grams(model.cuda(), [x.cuda() for x in data])
    rows = torch.cat(data).reshape(-1, 6)
    assert stats["0"].gram.device.type == "cuda"
    assert stats["0"].gram.dtype == torch.float64
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5  # products of single precision
    assert_allclose(stats["0"].gram.cpu(), second_moment(rows), rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (torch.ones(2, 6), TypeError, "got Tensor; put a single batch into a list"),
        ({"x": torch.ones(2, 6)}, TypeError, "got dict; put a single batch into a list"),
        (3, TypeError, "iterable of batches, such as a list of tensors, got int"),
        ([], ValueError, "calibration holds no batches"),
    ],
    ids=["tensor", "mapping", "number", "empty"],
)
def test_bad_batches(given, error, match):
    with pytest.raises(error, match=match):
        collect_grams(network(), given)


def test_bad_names_and_numbers():
    model, data = network(), batches()
    with pytest.raises(ValueError, match="pattern 'fc' of include matches no layer; there are '0'"):
        collect_grams(model, data, "fc")
    with pytest.raises(ValueError, match="max_tokens must be a positive integer or None, got 0"):
        collect_grams(model, data, max_tokens=0)
    with pytest.raises(ValueError, match=r"module_types may hold torch.nn.Linear, torch.nn.Conv2d"):
        collect_grams(model, data, module_types=(nn.Conv3d,))
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got list"):
        collect_grams([model], data)
    unused = Branches(lambda x: (x,))
    with pytest.raises(ValueError, match=r"no tokens for layer 'layers.1': is it unused in forwa"):
        collect_grams(unused, data)
