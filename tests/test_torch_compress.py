"""Whole models: what is solved on which inputs, and what is written where."""

import copy

import pytest
import torch
from numpy.testing import assert_allclose
from reference_torch_compress import Divide, DividedLinear, Halve, recorded, second_moment
from torch import nn

from sparseprob.torch import compress
from sparseprob.torch.calibration import collect_grams
from sparseprob.torch.solvers import CoSpaDi, MagnitudePruner, WandaPruner
from sparseprob.torch.solvers._registry import METHODS


def network(dtype=torch.float64):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3)).to(dtype)


def data(d=6, n=4, dtype=torch.float64):
    torch.manual_seed(0)
    return list(torch.randn(n, 9, d, dtype=dtype))


def divided(weight, x):
    """What Divide makes of a weight."""
    return weight / (1 + second_moment(x).diagonal())


class Attention(nn.Module):
    """Layers that are registered in another order than they are called."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.out = nn.Linear(6, 6)
        self.key, self.query = nn.Linear(6, 6), nn.Linear(6, 6)
        self.n_finished = 0
        self.double()

    def forward(self, x):
        y = self.out(torch.tanh(self.query(x)) * self.key(x))
        self.n_finished += 1
        return y


# ---------------------------------------------------------------- modes
def test_one_shot_solves_every_layer_on_the_inputs_of_the_dense_model():
    model = network()
    small, report = compress(model, Divide(), data(), mode="one_shot")
    for name in ("0", "2", "3"):
        expected = divided(model.get_submodule(name).weight, recorded(model, data(), name))
        assert_allclose(small.get_submodule(name).weight.detach(), expected.detach(), rtol=1e-12)
    assert report.mode == "one_shot"


def test_sequential_solves_every_layer_on_the_inputs_of_the_compressed_ones():
    model, expected = network(), network()
    small, report = compress(model, Divide(), data())
    for name in ("0", "2", "3"):
        layer = expected.get_submodule(name)
        layer.weight.data = divided(layer.weight, recorded(expected, data(), name)).detach()
        assert_allclose(
            small.get_submodule(name).weight.detach(), layer.weight.detach(), rtol=1e-12
        )
    assert report.mode == "sequential"
    assert [row.name for row in report.rows] == ["0", "2", "3"]


def test_order_is_that_of_calls_and_layers_fed_by_one_tensor_go_together():
    model, expected = Attention(), Attention()
    small, report = compress(model, Divide(), data())
    assert [row.name for row in report.rows] == ["query", "key", "out"]
    for name in ("query", "key"):
        layer = expected.get_submodule(name)
        layer.weight.data = divided(layer.weight, torch.cat(data())).detach()
        assert_allclose(
            small.get_submodule(name).weight.detach(), layer.weight.detach(), rtol=1e-12
        )
    x = recorded(expected, data(), "out")
    assert_allclose(small.out.weight.detach(), divided(model.out.weight, x).detach(), rtol=1e-12)


def test_sequential_leaves_the_rest_of_the_model_out():
    model = Attention()
    small, _ = compress(model, Divide(), data(n=5), include=["query", "key"])
    assert model.n_finished == 0
    assert small.n_finished == 1  # the first batch alone, to see the order


def test_layer_called_twice_is_solved_on_all_its_inputs():
    torch.manual_seed(0)
    layer = nn.Linear(6, 6).double()
    model = nn.Sequential(layer, layer)
    small, report = compress(model, Divide(), data())
    assert small[0] is small[1]
    x = torch.cat([*data(), *(layer(x) for x in data())])
    assert_allclose(small[0].weight.detach(), divided(layer.weight, x).detach(), rtol=1e-12)
    assert len(report.rows) == 1


def test_layers_that_the_first_batch_does_not_reach_come_last():
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))

        def forward(self, x):
            return self.experts[int(x[0, 0] < 0)](x)

    first, second = data()[0].abs().float(), -data()[1].abs().float()
    model = Routed()
    small, _ = compress(model, Divide(), [first, second])
    for expert, dense, x in zip(small.experts, model.experts, (first, second), strict=True):
        assert_allclose(expert.weight.detach(), divided(dense.weight, x).detach(), rtol=1e-6)


def test_an_iterator_is_kept_in_memory_where_it_is_read_again():
    with pytest.warns(UserWarning, match="calibration is an iterator, which can be read once"):
        small, _ = compress(network(), Divide(), iter(data()))
    assert torch.equal(small[3].weight, compress(network(), Divide(), data())[0][3].weight)
    compress(network(), Divide(), iter(data()), mode="one_shot")  # read once: no warning


def test_statistics_may_be_given():
    model = network()
    stats = collect_grams(model, data())
    small, report = compress(model, Divide(), stats)
    expected, _ = compress(model, Divide(), data(), mode="one_shot")
    assert torch.equal(small[3].weight, expected[3].weight)
    assert report.mode == "one_shot"
    with pytest.raises(ValueError, match="calibration has no statistics of layer '3'"):
        compress(model, Divide(), {"0": stats["0"], "2": stats["2"]})


def test_methods_that_look_at_weights_alone_need_no_data():
    model = network()
    small, report = compress(model, Halve())
    assert_allclose(small[0].weight.detach(), model[0].weight.detach() / 2)
    assert {row.error_of for row in report.rows} == {"weight"}
    assert_allclose([row.rel_error for row in report.rows], 0.5)
    _, report = compress(model, Halve(), data())
    assert {row.error_of for row in report.rows} == {"outputs"}
    assert_allclose([row.rel_error for row in report.rows], 0.5)
    assert [row.n_tokens for row in report.rows] == [36, 36, 36]


# ---------------------------------------------------------------- choice of layers
def test_include_exclude_and_overrides():
    model = network()
    small, report = compress(
        model, Halve(), data(), include="[023]", exclude=("3",), overrides={"2": Divide()}
    )
    assert [(row.name, row.method) for row in report.rows] == [("0", "Halve"), ("2", "Divide")]
    assert report.skipped == {"3": "excluded by '3'"}
    assert torch.equal(small[3].weight, model[3].weight)


def test_heads_and_embeddings_are_left_alone():
    model = nn.ModuleDict(
        {"fc": nn.Linear(4, 4), "head": nn.Linear(4, 4), "embed": nn.Linear(4, 4)}
    )
    _, report = compress(model, Halve())
    assert [row.name for row in report.rows] == ["fc"]
    assert set(report.skipped) == {"head", "embed"}


@pytest.mark.parametrize("mode", ["one_shot", "sequential"])
def test_convolutions(mode):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)).double()
    images = [torch.randn(8, 2, 5, 5).double() for _ in range(6)]
    _, report = compress(model, Halve(), images, mode=mode)
    assert report.skipped == {"0": "Conv2d is not among module_types"}
    small, report = compress(
        model, Divide(), images, module_types=(nn.Linear, nn.Conv2d), mode=mode
    )
    patches = nn.functional.unfold(torch.cat(images), 3).transpose(1, 2).reshape(-1, 18)
    expected = divided(model[0].weight.flatten(1), patches).reshape(4, 2, 3, 3)
    assert_allclose(small[0].weight.detach(), expected.detach(), rtol=1e-12)
    assert [row.shape for row in report.rows] == [(4, 18), (3, 36)]


def test_groups_share_a_dictionary():
    options = {"groups": [["0", "2"]], "include": ["0", "2"], "replace": "module"}
    model = nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 10)).double()
    solver = CoSpaDi(n_atoms=4, n_nonzero=2, max_iter=3, random_state=0)
    small, report = compress(model, solver, data(8, 8), **options)
    assert small[0].dictionary is small[2].dictionary
    alone, _ = compress(model, solver, data(8, 8), include=["0", "2"], replace="module")
    assert alone[0].dictionary is not alone[2].dictionary
    stats = collect_grams(model, data(8, 8))
    first, second = solver.solve_group([model[0].weight, model[2].weight], [stats["0"], stats["2"]])
    assert_allclose(small[0].dense_weight().detach(), first.dense().detach(), rtol=1e-9)
    assert_allclose(small[2].dense_weight().detach(), second.dense().detach(), rtol=1e-9)
    assert [row.name for row in report.rows] == ["0", "2"]


# ---------------------------------------------------------------- tied weights
def tied():
    model = network()
    model.append(nn.Linear(3, 8)).append(nn.Linear(8, 8)).double()
    model[5].weight = model[2].weight
    return model


@pytest.mark.parametrize("one_parameter", [True, False])
def test_tied_weights_are_solved_once_on_all_their_inputs_and_stay_tied(one_parameter):
    model = tied()
    if not one_parameter:  # two parameters of the same memory
        model[5].weight = nn.Parameter(model[2].weight.data)
    small, report = compress(model, Divide(), data(), mode="one_shot")
    assert small[5].weight.data_ptr() == small[2].weight.data_ptr()
    assert (small[5].weight is small[2].weight) == one_parameter
    x = torch.cat([recorded(model, data(), name) for name in ("2", "5")])
    assert_allclose(small[2].weight.detach(), divided(model[2].weight, x).detach(), rtol=1e-12)
    assert report.tied == [["2.weight", "5.weight"]]
    assert [row.name for row in report.rows] == ["0", "2", "3", "4"]
    assert "tied: 2.weight = 5.weight" in str(report)


def test_modules_of_tied_weights_share_their_parts():
    model = tied()
    small, _ = compress(model, Divide(), data(), replace="module")
    dense, _ = compress(model, Divide(), data())
    assert small[5] is not small[2]
    assert small[5].numerator is small[2].numerator
    assert small[5].denominator is small[2].denominator
    assert torch.equal(small[5].bias, model[5].bias)
    assert torch.equal(small[2].bias, model[2].bias)
    assert_allclose(small(data()[0]).detach(), dense(data()[0]).detach(), rtol=1e-12)


def test_weights_tied_to_embeddings():
    model = nn.ModuleDict({"table": nn.Embedding(5, 4), "fc": nn.Linear(4, 5), "rest": Rest()})
    model["fc"].weight = model["table"].weight
    small, report = compress(model, Halve())
    assert small["fc"].weight is small["table"].weight
    assert_allclose(small["table"].weight.detach(), model["table"].weight.detach() / 2)
    assert report.tied == [["table.weight", "fc.weight"]]
    with pytest.raises(
        ValueError, match=r"'fc' shares its weight with 'table.weight', which is no"
    ):
        compress(model, Halve(), replace="module")


class Rest(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)


def test_weights_tied_to_an_excluded_layer_stay():
    model = nn.ModuleDict({"fc": nn.Linear(4, 4), "head": nn.Linear(4, 4), "rest": nn.Linear(4, 4)})
    model["fc"].weight = model["head"].weight
    _, report = compress(model, Halve())
    assert [row.name for row in report.rows] == ["rest"]
    assert report.skipped["fc"] == "shares its weight with 'head.weight', which stays as it is"


def test_weights_that_share_memory_in_another_shape_stay():
    model = nn.ModuleDict({"a": nn.Linear(4, 5), "b": nn.Linear(5, 4), "c": nn.Linear(4, 4)})
    model["b"].weight = nn.Parameter(model["a"].weight.data.T)
    small, report = compress(model, Halve())
    assert small["b"].weight.data_ptr() == small["a"].weight.data_ptr()
    assert torch.equal(small["b"].weight.T, small["a"].weight)
    assert [row.name for row in report.rows] == ["c"]
    assert report.skipped["a"] == "shares memory with 'b.weight', which has another shape"


# ---------------------------------------------------------------- modules
def test_modules_take_the_place_and_state_of_layers():
    model = network(torch.float32).train()
    model[2].weight.requires_grad_(False)
    model[3].eval()
    small, _ = compress(model, MagnitudePruner(sparsity=0.5), replace="module")
    dense, _ = compress(model, MagnitudePruner(sparsity=0.5))
    x = data(dtype=torch.float32)[0]
    assert_allclose(small(x).detach(), dense(x).detach(), atol=1e-6)
    assert [type(m) for m in model] == [nn.Linear, nn.ReLU, nn.Linear, nn.Linear]
    assert [m.training for m in small] == [True, True, True, False]
    assert not any(p.requires_grad for n, p in small[2].named_parameters() if n != "bias")
    assert small[2].bias.requires_grad
    small(x).sum().backward()


def test_a_bias_stays_the_same_parameter():
    model = network()
    before = [m.bias for m in model if isinstance(m, nn.Linear)]
    compress(model, Halve(), replace="module", inplace=True)
    assert [m.bias for m in model if isinstance(m, DividedLinear)] == before


def test_a_module_of_several_names_is_replaced_everywhere():
    model = network()
    model.alias = model[2]
    small, _ = compress(model, Halve(), replace="module")
    assert small.alias is small[2]
    assert isinstance(small.alias, DividedLinear)


@pytest.mark.parametrize("replace", ["dense", "module"])
def test_the_model_may_be_a_layer_itself(replace):
    torch.manual_seed(0)
    model = nn.Linear(6, 4).double()
    small, report = compress(model, Halve(), replace=replace)
    assert_allclose(small(data()[0]).detach(), (model(data()[0]) + model.bias).detach() / 2)
    assert "(the model)" in str(report)
    if replace == "module":
        with pytest.raises(ValueError, match="cannot be replaced in place; use inplace=False"):
            compress(model, Halve(), replace=replace, inplace=True)


def test_what_cannot_be_replaced_by_a_module_is_refused():
    class Own(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    with pytest.raises(ValueError, match="Layer '0', a Own, cannot be replaced by another module"):
        compress(nn.Sequential(Own(4, 4)), Halve(), replace="module")
    with pytest.raises(
        ValueError, match="Layer '0', a Conv2d, cannot be replaced by another modul"
    ):
        compress(
            nn.Sequential(nn.Conv2d(4, 4, 1)), Halve(), module_types=(nn.Conv2d,), replace="module"
        )
    model = network()
    model[2].register_forward_hook(lambda *_: None)
    with pytest.raises(ValueError, match="Layer '2' has hooks, which another module would lose"):
        compress(model, Halve(), replace="module")
    compress(model, Halve())


# ---------------------------------------------------------------- nothing is lost
def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(model, before):
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("mode", ["one_shot", "sequential"])
@pytest.mark.parametrize("replace", ["dense", "module"])
def test_only_a_copy_is_changed_unless_asked(mode, replace):
    model = network()
    before, layers = state(model), list(model)
    small, _ = compress(model, Divide(), data(), mode=mode, replace=replace)
    assert_same(model, before)
    same, _ = compress(model, Divide(), data(), mode=mode, replace=replace, inplace=True)
    assert same is model
    assert_same(model, state(small))
    assert (model[0] is layers[0]) == (replace == "dense")


@pytest.mark.parametrize("mode", ["one_shot", "sequential"])
@pytest.mark.parametrize("replace", ["dense", "module"])
@pytest.mark.parametrize("error", [FloatingPointError, KeyboardInterrupt])
def test_a_failure_leaves_the_model_as_it_was(mode, replace, error):
    class Fails(Divide):
        def _solve(self, problem):
            if problem.shape == (3, 8):
                raise error("the solver met NaN.")
            return super()._solve(problem)

    model = network()
    before, layers = state(model), list(model)
    options = {"mode": mode, "replace": replace, "inplace": True}
    expected = "Layer '3': the solver" if error is FloatingPointError else "the solver met NaN"
    with pytest.raises(error, match=expected):
        compress(model, Fails(), data(), **options)
    assert_same(model, before)
    assert all(a is b for a, b in zip(model, layers, strict=True))
    assert not any(m._forward_pre_hooks for m in model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_layers_keep_their_type_and_frozen_ones_stay_frozen(dtype):
    model = network(dtype)
    model[0].weight.requires_grad_(False)
    small, _ = compress(model, WandaPruner(sparsity=0.5), data(dtype=dtype))
    assert all(p.dtype == dtype for p in small.parameters())
    assert [m.weight.requires_grad for m in small if hasattr(m, "weight")] == [False, True, True]
    kept = small[0].weight != 0
    assert torch.equal(small[0].weight[kept], model[0].weight[kept])
    assert kept.sum(1).tolist() == [3] * 8


# ---------------------------------------------------------------- transformers
@pytest.mark.parametrize("replace", ["dense", "module"])
def test_gpt2_whose_layers_are_transposed(replace):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=1, n_embd=16, n_head=2, vocab_size=50, n_positions=12, use_cache=False
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    ids = [{"input_ids": torch.randint(50, (4, 12))} for _ in range(4)]
    small, report = compress(model, WandaPruner(sparsity=0.5), ids, replace=replace)
    attention = "transformer.h.0.attn.c_attn"
    assert [(row.name, row.shape) for row in report.rows] == [
        (attention, (48, 16)), ("transformer.h.0.attn.c_proj", (16, 16)),
        ("transformer.h.0.mlp.c_fc", (64, 16)), ("transformer.h.0.mlp.c_proj", (16, 64)),
    ]  # fmt: skip
    assert small.lm_head.weight is small.transformer.wte.weight
    dense, _ = compress(model, WandaPruner(sparsity=0.5), ids)
    kept = dense.get_submodule(attention).weight != 0
    assert kept.sum(0).tolist() == [8] * 48  # inputs of each output
    got, expected = small(**ids[0]).logits.detach(), dense(**ids[0]).logits.detach()
    assert_allclose(got, expected, atol=1e-5)


def test_copies_are_independent():
    model = network()
    small, _ = compress(model, Halve())
    copied = copy.deepcopy(small)
    small[0].weight.data.zero_()
    assert torch.count_nonzero(model[0].weight) == torch.count_nonzero(copied[0].weight) == 48


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("replace", ["dense", "module"])
def test_models_on_a_gpu_stay_there(method, replace):
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32)).cuda()
    batches = [torch.randn(64, 32, device="cuda") for _ in range(4)]
    small, report = compress(model, method, batches, replace=replace)
    assert all(p.device.type == "cuda" for p in small.parameters())
    on_cpu, expected = compress(
        copy.deepcopy(model).cpu(), method, [x.cpu() for x in batches], replace=replace
    )
    errors = [[row.rel_error for row in found.rows] for found in (report, expected)]
    assert_allclose(*errors, rtol=0.05)  # single against double precision: ties break otherwise


@pytest.mark.gpu
def test_models_on_mixed_devices():
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")

    class Split(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 4).cuda()

        def forward(self, x):
            return self.second(self.first(x).cuda())

    model = Split()
    small, _ = compress(model, WandaPruner(sparsity=0.5), data(dtype=torch.float32))
    assert small.first.weight.device.type == "cpu"
    assert small.second.weight.device.type == "cuda"
    assert (small.second.weight != 0).sum(1).tolist() == [4] * 4
