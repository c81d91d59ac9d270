"""Whole models: what is refused, in which words; warnings, reports, names of methods."""

import json
import logging

import pytest
import torch
from numpy.testing import assert_allclose
from reference_torch_compress import Divide, Halve
from torch import nn
from torch.nn.utils import parametrizations, prune

from sparseprob.torch import compress
from sparseprob.torch.calibration import LayerStats
from sparseprob.torch.solvers import CoSpaDi, LowRank
from sparseprob.torch.solvers._registry import METHODS, solver_named


def network(dtype=torch.float64):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 3)).to(dtype)


def data(d=6, n=4, dtype=torch.float64):
    torch.manual_seed(0)
    return list(torch.randn(n, 9, d, dtype=dtype))


# ---------------------------------------------------------------- refusals
def test_weights_that_cannot_be_written_are_refused():
    parametrized, pruned, lazy = network(), network(), nn.Sequential(nn.LazyLinear(4))
    parametrizations.weight_norm(parametrized[2])
    prune.l1_unstructured(pruned[2], "weight", 0.5)
    meta = nn.Sequential(nn.Linear(4, 4, device="meta"))
    broken = network()
    broken[3].weight.data[0, 0] = torch.nan
    whole = nn.Sequential(nn.Linear(4, 4))
    whole[0].weight = nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)
    for model, match in [
        (parametrized, "Layer '2' computes its weight from other parameters"),
        (pruned, "Layer '2' computes its weight from other parameters"),
        (lazy, "Layer '0' has no weight yet; run the model once"),
        (meta, "Layer '0' is on the meta device"),
        (broken, "Layer '3' has NaN or infinity in its weight"),
        (whole, "Layer '0' has a weight of type torch.int8"),
    ]:
        with pytest.raises(ValueError, match=match):
            compress(model, Halve())
    grouped = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2))
    with pytest.raises(NotImplementedError, match="Layer '0' is a convolution of 2 groups"):
        compress(grouped, Halve(), module_types=(nn.Conv2d,))


class Reader(nn.Module):
    """Reads the type of a weight, as some models do."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.double()

    def forward(self, x):
        return self.second(self.first(x).to(self.first.weight.dtype))


@pytest.mark.parametrize("mode", ["one_shot", "sequential"])
@pytest.mark.parametrize("model", [Reader, lambda: attention(6)], ids=["reader", "fused attention"])
def test_models_that_read_weights_themselves_keep_their_layers(model, mode):
    model = model()
    layers = list(model.modules())
    with pytest.raises(ValueError, match="The model cannot do with other modules .* no attribute"):
        compress(
            model, Divide(), [x[None] for x in data()], replace="module", mode=mode, inplace=True
        )
    assert list(model.modules()) == layers


def attention(d):
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(d, 2, 8, batch_first=True).double()


def test_attention_of_torch_is_skipped_and_listed():
    model = attention(6)
    _, report = compress(model, Divide(), [x[None] for x in data()])
    assert [row.name for row in report.rows] == ["linear1", "linear2"]
    assert report.skipped == {
        "self_attn.in_proj_weight": "a bare parameter of MultiheadAttention, no linear layer",
        "self_attn.out_proj": "read by nn.MultiheadAttention, which never calls it",
    }
    with pytest.raises(
        ValueError, match=r"No layer .* left to be compressed: 'out_proj' \(read by"
    ):
        compress(model.self_attn, Halve(), include=["out_proj"])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"include": ["fc*"]}, ValueError, r"'fc\*' of include matches no layer; there are '0'"),
        ({"exclude": "*"}, ValueError, r"No layer .* '0' \(excluded by '\*'\)"),
        ({"include": [1]}, TypeError, r"include must hold patterns of names, got \[1\]"),
        ({"overrides": {"9": Halve()}}, ValueError, "'9' of overrides matches no layer"),
        ({"overrides": {"0": Halve}}, TypeError, "method must be a name .* got Halve"),
        ({"overrides": [Halve()]}, TypeError, "overrides must map patterns of names to solvers"),
        ({"mode": "fast"}, ValueError, "mode must be one of sequential, one_shot, got 'fast'"),
        ({"replace": "weights"}, ValueError, "replace must be one of dense, module, got 'weights'"),
        ({"module_types": (nn.Embedding,)}, ValueError, "module_types may hold torch.nn.Linear"),
        ({"groups": [["0", "7"]]}, ValueError, "groups names the layer '7', which is not to be"),
        ({"groups": [["2", "3"]]}, ValueError, "needs one solver that shares a dictionary"),
        ({"groups": ["23"]}, TypeError, "groups must hold lists of names of layers, got '23'"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_options(options, error, match):
    with pytest.raises(error, match=match):
        compress(network(), Halve(), data(), **options)


def test_bad_groups():
    solver = CoSpaDi(n_atoms=2, n_nonzero=1)
    with pytest.raises(ValueError, match=r"have \[6, 8\] inputs; only layers with"):
        compress(network(), solver, data(), groups=[["0", "2"]])
    with pytest.raises(ValueError, match="A layer stands in groups twice"):
        compress(network(), solver, data(), groups=[["2", "3"], ["3"]])


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.Linear(6, 2).double(), nn.Linear(6, 2).double()

    def forward(self, x):
        return self.used(x)


def test_bad_methods_and_calibration():
    model = network()
    with pytest.raises(ValueError, match="method must be one of magnitude, wanda,.* got 'wnda'"):
        compress(model, "wnda")
    with pytest.raises(TypeError, match=r"or a solver .* such as AWP\(sparsity=0.5\), got int"):
        compress(model, 3)
    with pytest.raises(ValueError, match="Divide looks at the inputs .* magnitude, svd, monarch"):
        compress(model, Divide())
    with pytest.raises(ValueError, match="Layer '0': The 'strength' parameter of Divide must be"):
        compress(model, Divide(strength=-1.0), data())
    with pytest.raises(TypeError, match="got Tensor; put a single batch into a list"):
        compress(model, Divide(), data()[0])
    for mode in ("one_shot", "sequential"):
        with pytest.raises(ValueError, match="calibration holds no batches"):
            compress(model, Divide(), [], mode=mode)
        with pytest.raises(ValueError, match="Layer '0': The Gram matrix has NaN"):
            compress(model, Divide(), [torch.full((2, 6), torch.nan).double()], mode=mode)
        with pytest.raises(ValueError, match="no tokens for layer 'spare'"):
            compress(Unused(), Divide(), data(), mode=mode)
    stats = LayerStats(torch.eye(6).double(), None, 10)
    with pytest.raises(ValueError, match=r"Layer '2': The Gram matrix must be of shape \(8, 8\)"):
        compress(model, Divide(), dict.fromkeys("023", stats))
    narrow = {d: LayerStats(torch.eye(d).half(), None, 10) for d in (6, 8)}
    with pytest.raises(ValueError, match="Layer '0': The Gram matrix is of type torch.float16, to"):
        compress(model, Divide(), {"0": narrow[6], "2": narrow[8], "3": narrow[8]})


def test_warnings_name_layers_and_come_once():
    with pytest.warns(UserWarning, match="tokens cannot determine a Gram matrix") as caught:
        compress(network(), Divide(), [data()[0][:4]])
    texts = [str(warning.message) for warning in caught]
    assert texts == [
        "Layer '0': 4 tokens cannot determine a Gram matrix of 6 inputs; use more calibration "
        "data.",
        "Layer '2' and 1 more: 4 tokens cannot determine a Gram matrix of 8 inputs; use more "
        "calibration data.",
    ]


# ---------------------------------------------------------------- report, log, registry
def test_report_adds_up(caplog):
    with caplog.at_level(logging.INFO, logger="sparseprob"):
        _, report = compress(network(), Halve(), data(), exclude=("3",))
    assert [r.getMessage().split(" s")[0][:-5] for r in caplog.records] == [
        "0 (8 x 6): Halve, density 0.500, error 0.500,", "2 (8 x 8): Halve, density 0.500, error "
        "0.500,",
    ]  # fmt: skip
    assert [(r.n_done, r.n_layers) for r in caplog.records] == [(1, 2), (2, 2)]
    totals = report.totals
    assert totals["bits_before"] == 16 * (48 + 64)
    assert totals["bits_after"] == 8 * (48 + 64)
    assert totals["model_bits_before"] == 16 * (56 + 72 + 27)
    assert totals["model_bits_before"] - totals["model_bits_after"] == 8 * (48 + 64)
    assert totals["density"] == 0.5
    assert_allclose(totals["rel_error"], 0.5)
    found = json.loads(json.dumps(report.to_dict()))
    assert found["rows"][1]["shape"] == [8, 8]
    assert found["skipped"] == {"3": "excluded by '3'"}
    lines = str(report).splitlines()
    assert lines[0].split() == ["layer", "shape", "method", "density", "error", "bits", "after",
                                "seconds"]  # fmt: skip
    assert "2 layers, 112 numbers: 0.50 of the bits" in str(report)
    assert "skipped 3: excluded by '3'" in lines[-1]
    page = report.to_html()
    assert page.count("<tr>") == 3
    assert page == report._repr_html_()


def test_names_in_html_are_escaped():
    model = nn.ModuleDict({"<b>": nn.Linear(4, 4)})
    _, report = compress(model, Halve())
    assert "&lt;b&gt;" in report.to_html()
    assert "<b>" not in report.to_html()


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_name(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    small, report = compress(model, name, data(16, 8, torch.float32), mode="one_shot")
    assert all(torch.isfinite(p).all() for p in small.parameters())
    assert all(row.bits_after < row.bits_before for row in report.rows)
    with pytest.raises(ValueError, match=f"The method '{name}' has no parameter 'speed'; it has"):
        solver_named(name, speed=1)


def test_names_stand_for_default_parameters():
    assert repr(solver_named("svd")) == repr(LowRank(whiten=False))
    assert solver_named("wanda", sparsity=0.7).sparsity == 0.7
