"""The benchmark of bandits runs on small sizes, without the authors' code."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]


def test_program_measures_its_claims(tmp_path):
    output = tmp_path / "results.json"
    command = [sys.executable, ROOT / "benchmarks/bandits.py", "--quick", "--output", output]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    content = json.loads(output.read_text())
    names = [line["what"] for line in content["rows"]]
    assert len(set(names)) == len(names) > 50
    assert all(name in done.stdout for name in names)
    assert all(np.isfinite(line["measured"]) for line in content["rows"])
    differ = next(line for line in content["rows"] if "picks that differ" in line["what"])
    assert differ["measured"] == 0
    assert {"BBKB, defaults", "GPUCB", "BPE"} <= {point["method"] for point in content["points"]}
