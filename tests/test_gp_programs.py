"""The benchmarks of Gaussian processes run on small sizes, without peers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "only"), [("gp", "fields,likelihoods,simulation"), ("gp_speed", "ordering,factor,fit")]
)
def test_programs_measure_their_claims(name, only, tmp_path):
    output = tmp_path / "results.json"
    done = subprocess.run(
        [
            sys.executable, ROOT / f"benchmarks/{name}.py", "--quick", "--alone",
            "--only", only, "--output", output,
        ],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads(output.read_text())
    assert len(content["rows"]) > 5
    for line in content["rows"]:
        assert line["what"] in done.stdout
        assert np.isfinite(line["measured"])
    names = [line["what"] for line in content["rows"]]
    assert len(set(names)) == len(names)
    if name == "gp":
        assert {"exact GP, true parameters", "DKLGP, m=30"} <= {
            point["method"] for point in content["points"]
        }
    else:
        assert content["rows"][0]["measured"] == 0
