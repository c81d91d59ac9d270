"""The programs in benchmarks, mpi and gpu run, and the README says what the results say."""

import json
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def run(*command, **options):
    done = subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=300, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_benchmark_measures_every_claim(tmp_path):
    output = tmp_path / "results.json"
    only = "products,threads,memory,bars,import"
    text = run(ROOT / "benchmarks/dictionary.py", "--quick", "--only", only, "--output", output)
    content = json.loads(output.read_text())
    assert len(content["rows"]) == 13
    assert {"processor", "numpy", "sparseprob"} <= set(content["hardware"])
    for line in content["rows"]:
        assert line["what"] in text
        assert np.isfinite(line["measured"])
    found = next(r for r in content["rows"] if r["what"].startswith("bars: seeds"))
    assert found["measured"] == 2
    assert next(r for r in content["rows"] if "modules" in r["what"])["measured"] == 0


@pytest.mark.mpi
def test_scaling_measures_both_kinds(tmp_path):
    output = tmp_path / "scaling.json"
    run(
        ROOT / "mpi/scaling.py", "--ranks", "1,2", "--n-samples", 4000, "--n-features", 16,
        "--n-components", 8, "--output", output,
    )  # fmt: skip
    content = json.loads(output.read_text())
    for kind in ("strong", "weak"):
        assert [r["ranks"] for r in content[kind]] == [1, 2]
        assert content[kind][0]["efficiency"] == 1
    assert content["strong"][0]["lower_bound"] == pytest.approx(content["strong"][1]["lower_bound"])
    assert content["weak"][1]["n_samples"] == 2 * content["weak"][0]["n_samples"]


@pytest.mark.mpi
def test_cluster_script_learns_and_continues(tmp_path, bars, mpiexec):
    np.save(tmp_path / "rows.npy", bars.data)
    options = ("rows.npy", "--n-components", "8", "--max-iter", "30")
    first = mpiexec(2, str(ROOT / "mpi/learn_dictionary.py"), *options).stdout
    model = joblib.load(tmp_path / "model.joblib")
    assert f"free energy {model.lower_bound_:.3f}" in first
    assert mpiexec(2, str(ROOT / "mpi/learn_dictionary.py"), *options).stdout == first


def test_readme_shows_the_committed_figures():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from _report import readme_table

    assert readme_table() in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", sorted((ROOT / "gpu").glob("*.py")), ids=lambda p: p.name)
def test_gpu_programs_compile(path):
    compile(path.read_text(), str(path), "exec")
