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


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md"])
def test_readmes_show_the_committed_figures(page):
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from _report import PAGES

    assert PAGES[page]() in (ROOT / page).read_text()


@pytest.mark.parametrize("name", ["recovery", "recovery_sbl", "recovery_kronecker"])
def test_recovery_programs_measure_their_claims(name, tmp_path):
    output = tmp_path / "results.json"
    text = run(ROOT / f"benchmarks/{name}.py", "--quick", "--output", output)
    rows = json.loads(output.read_text())["rows"]
    assert len(rows) > 4
    assert all(line["what"] in text and np.isfinite(line["measured"]) for line in rows)


def test_figures_of_pursuit_are_measured(tmp_path):
    output = tmp_path / "results.json"
    program = ROOT / "benchmarks/recovery_figures.py"
    run(program, "--only", "2,4", "--trials", 3, "--output", output)
    rows = json.loads(output.read_text())["rows"]
    assert len(rows) == 14
    assert all(0 < line["measured"] < 1 for line in rows[:10])


@pytest.mark.parametrize("path", sorted((ROOT / "gpu").glob("*.py")), ids=lambda p: p.name)
def test_gpu_programs_compile(path):
    compile(path.read_text(), str(path), "exec")
