"""The command line in processes of its own: demo, learn, info, and what users do wrong."""

import os
import re
import signal
import subprocess
import sys
import time

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sparseprob._cli import main
from sparseprob._cli._models import MODELS, model_class
from sparseprob.dictionary import BinarySparseCoding

OPTIONS = ["--n-components", "6", "--max-iter", "8", "--tol", "0", "--random-state", "0"]


@pytest.fixture
def rows(tmp_path, bars):
    np.save(tmp_path / "rows.npy", bars.data)
    return bars.data


def command(*arguments, check=True, cwd=None, **options):
    done = subprocess.run(
        [sys.executable, "-m", "sparseprob", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=120, **options,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done


def test_learned_model_equals_the_one_of_a_script(tmp_path, rows):
    done = command(
        "learn", "rows.npy", *OPTIONS, "--report", "report.html", "--no-fit-offset",
        "--schedule", '{"T": [[0, 2.0], [0.5, 1]]}', "--learn", "components,noise", cwd=tmp_path,
    )  # fmt: skip
    from sparseprob.dictionary import LinearSchedule

    model = joblib.load(tmp_path / "model.joblib")
    expected = BinarySparseCoding(
        6, max_iter=8, tol=0, random_state=0, learn=("components", "noise"),
        schedule=LinearSchedule({"T": [(0, 2.0), (0.5, 1)]}),
    ).fit(rows)  # fmt: skip
    assert_array_equal(model.components_, expected.components_)
    assert model.prior_ == expected.prior_
    assert re.search(r"points/s +[\d,]+", done.stdout)
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page.replace("http-equiv", "")
    assert (tmp_path / "atoms.png").read_bytes()[:4] == b"\x89PNG"


def test_every_parameter_is_an_option():
    assert MODELS == ("bsc", "tsc", "dsc", "mca", "mmca", "gsc", "mop")
    text = command("learn", "--help").stdout
    for model in MODELS:
        for name in model_class(model)().get_params():
            assert re.search(rf"^  --{name.replace('_', '-')}\b", text, re.MULTILINE), (model, name)


@pytest.mark.parametrize("model", MODELS)
def test_every_model_keeps_its_own_defaults(tmp_path, monkeypatch, bars, model):
    monkeypatch.chdir(tmp_path)
    rows = np.abs(np.round(bars.data))
    np.save("rows.npy", rows)
    assert main(["learn", "rows.npy", "--model", model, *OPTIONS]) == 0
    learned = joblib.load(tmp_path / "model.joblib")
    expected = model_class(model)(6, max_iter=8, tol=0, random_state=0)
    assert type(learned) is type(expected)
    assert learned.get_params() == expected.get_params()
    assert_array_equal(learned.components_, expected.fit(rows).components_)


def test_options_of_one_model_reach_it_and_no_other(tmp_path, rows):
    options = ["--values=-1,0,2", "--model", "dsc", "--max-active", "2"]
    done = command("learn", "rows.npy", *OPTIONS, *options, cwd=tmp_path)
    assert joblib.load(tmp_path / "model.joblib").values == (-1.0, 0.0, 2.0)
    assert re.search(r"prior π +[\d.e-]+ [\d.e-]+ [\d.e-]+\n", done.stdout)
    done = command("learn", "rows.npy", "--noise", "full", cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "--noise is no parameter of bsc; leave it out, or choose --model gsc" in done.stderr


@pytest.mark.parametrize("source", ["rows.npz", "rows.h5:/x"])
def test_learn_reads_all_formats(tmp_path, rows, source):
    import h5py

    np.savez(tmp_path / "rows.npz", rows)
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        file["x"] = rows
    command("learn", source, *OPTIONS, cwd=tmp_path)
    expected = BinarySparseCoding(6, max_iter=8, tol=0, random_state=0).fit(rows)
    model = joblib.load(tmp_path / "model.joblib")
    assert_allclose(model.components_, expected.components_, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.npy"], "There is no file 'none.npy'"),
        (["rows.npy", "--n-candidates", "9"], "n_candidates must not exceed n_components"),
        (["rows.npy", "--resume"], "--resume needs --checkpoint"),
        (["rows.npy", "--checkpoint", "f.npz", "--resume"], "There is no checkpoint at"),
        (["rows.npy", "--output", "no/m.joblib"], "cannot be written to; create it first"),
        (["rows.npy", "--schedule", "{}x"], "schedule"),
        (["rows.npy", "--gpu"], "on_gpu needs"),
    ],
)
def test_mistakes_cost_one_line(tmp_path, rows, arguments, message):
    if "--gpu" in arguments and os.path.exists("/dev/nvidia0"):
        pytest.skip("there is a GPU")
    done = command("learn", *arguments, "--n-components", "6", cwd=tmp_path, check=False)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model.joblib").exists()


def test_ctrl_c_keeps_the_checkpoint_and_resume_gives_the_same_bits(tmp_path, rows):
    arguments = ["learn", "rows.npy", "--n-components", "6", "--tol", "0", "--random-state", "0"]
    arguments += ["--checkpoint", "state.npz", "--checkpoint-every", "1", "--max-iter", "600"]
    running = subprocess.Popen(
        [sys.executable, "-m", "sparseprob", *arguments],
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip  # shells let their background jobs ignore Ctrl-C
    until = time.monotonic() + 60
    while not (tmp_path / "state.npz").exists() and time.monotonic() < until:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted. Continue with the same command and --resume" in errors
    assert "Traceback" not in errors
    with np.load(tmp_path / "state.npz") as state:
        assert len(state.files) > 3
    command(*arguments, "--resume", cwd=tmp_path)
    resumed = joblib.load(tmp_path / "model.joblib")
    command(*arguments, "--output", "whole.joblib", cwd=tmp_path)
    whole = joblib.load(tmp_path / "whole.joblib")
    assert_array_equal(resumed.components_, whole.components_)
    assert resumed.n_iter_ == whole.n_iter_ == 600


def test_info_names_versions_and_threads():
    text = command("info").stdout
    for word in ("python", "numpy", "Numba threads", "blas threads", "GPU", "MPI library"):
        assert word in text
    assert re.match(r"sparseprob \d+\.\d+", command("--version").stdout)


@pytest.mark.slow
def test_demo_leaves_everything_behind(tmp_path):
    done = command("demo", cwd=tmp_path)
    folder = tmp_path / "sparseprob_demo"
    for name in ("atoms.png", "learning_curve.png", "patches.png"):
        assert (folder / name).read_bytes()[:4] == b"\x89PNG"
    model = joblib.load(folder / "model.joblib")
    assert model.components_.shape == (100, 256)
    explained = float(re.search(r"explained variance.* ([\d.]+)%", done.stdout).group(1))
    assert 25 < explained < 60


def test_missing_matplotlib_costs_the_pictures_only(tmp_path, rows):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('not here')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = command(
        "learn", "rows.npy", *OPTIONS, "--report", "r.html", cwd=tmp_path, env=environment
    )
    assert done.stdout.count("No pictures: matplotlib is not installed") == 1
    assert "No pictures" in (tmp_path / "r.html").read_text()
    assert "Traceback" not in done.stderr
