"""Fits over MPI ranks: the same model, errors on every rank, nothing hangs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sparseprob import mpi
from sparseprob.dictionary import BinarySparseCoding

pytestmark = pytest.mark.mpi

FIT = """
import sys
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.dictionary import BinarySparseCoding

def rows():
    rng = np.random.default_rng(0)
    W = rng.normal(size=(6, 12)) * 3
    return (rng.random((301, 6)) < 0.3) @ W + rng.normal(size=(301, 12))

def model():
    return BinarySparseCoding(6, max_active=3, max_iter=12, tol=0, n_init=2, data_cut=0.5,
                              schedule="anneal", fit_offset=True, reinit_dead=True,
                              init="data", random_state=3)

if __name__ == "__main__":
    X = rows()
    with distributed() as comm:
        mine = X[row_slice(len(X))]
        if sys.argv[2:] == ["empty"]:  # the last rank has nothing
            size = comm.size - 1
            mine = np.array_split(X, size)[comm.rank] if comm.rank < size else X[:0]
        fitted = model().fit(mine)
        score = fitted.score(mine)
        if comm.rank == comm.size - 1:
            np.savez(sys.argv[1], W=fitted.components_, m=fitted.offset_, prior=fitted.prior_,
                     noise=fitted.noise_scale_, score=score, used=fitted.n_used_)
"""


def one_process(tmp_path):
    (tmp_path / "fit.py").write_text(FIT)
    subprocess.run([sys.executable, "fit.py", "one.npz"], cwd=tmp_path, check=True)
    return np.load(tmp_path / "one.npz")


@pytest.mark.parametrize(("n_ranks", "layout"), [(2, "even"), (3, "even"), (3, "empty")])
def test_ranks_end_with_the_model_of_one_process(tmp_path, mpiexec, n_ranks, layout):
    expected = one_process(tmp_path)
    mpiexec(n_ranks, FIT, "many.npz", layout)
    many = np.load(tmp_path / "many.npz")
    assert many["used"] == expected["used"]
    for name in ("W", "m", "prior", "noise", "score"):
        assert_allclose(many[name], expected[name], rtol=1e-9, atol=1e-9)


EVERY_MODEL = """
import sys
import numpy as np
from sparseprob import dictionary, distributed, row_slice

def models(X):
    options = {"max_active": 2, "max_iter": 4, "tol": 0, "random_state": 0}
    holes = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)
    counts = np.round(np.abs(X))
    yield "tsc", dictionary.TSC(4, schedule="anneal", **options), X
    yield "dsc", dictionary.DSC(4, values=(0.0, 1.0, 2.0), **options), X
    yield "mca", dictionary.MCA(4, schedule="anneal", monotone=True, **options), np.abs(X)
    yield "mmca", dictionary.MMCA(4, **options), X
    yield "gsc", dictionary.GSC(4, noise="full", prior_covariance="full", **options), X
    yield "mop", dictionary.MOP(4, max_iter=4, tol=0, random_state=0), counts
    yield "mca missing", dictionary.MCA(4, missing="nan", **options), np.abs(holes)
    yield "gsc missing", dictionary.GSC(4, noise="diag", missing="nan", **options), holes
    yield "dsc missing", dictionary.DSC(4, missing="nan", **options), holes

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    X = ((rng.random((61, 4)) < 0.4) * rng.normal(1, 0.3, size=(61, 4))) @ rng.normal(size=(4, 6))
    X = 3 * X + rng.normal(size=X.shape)
    found = {}
    with distributed() as comm:
        for name, model, rows in models(X):
            fitted = model.fit(rows[row_slice(len(rows))])
            found[name] = np.append(fitted.components_.ravel(), fitted.lower_bound_)
        if comm.rank == 0:
            np.savez(sys.argv[1], **found)
"""


def test_every_model_ends_alike_on_any_number_of_ranks(tmp_path, mpiexec):
    results = []
    for n_ranks in (1, 2, 3):
        mpiexec(n_ranks, EVERY_MODEL, f"{n_ranks}.npz")
        results.append(np.load(tmp_path / f"{n_ranks}.npz"))
    assert len(results[0].files) == 9
    for name in results[0].files:
        for other in results[1:]:
            assert_allclose(other[name], results[0][name], rtol=1e-8, atol=1e-8, err_msg=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("X[3, 1] = np.nan", r"Input X contains NaN in row 23"),
        ("X = X[:, :2]", r"same number of features, got \[3, 2\] by rank"),
        ("X = X + 1j", "Complex data not supported"),
    ],
)
def test_an_error_on_one_rank_is_raised_on_all(mpiexec, change, message):
    program = f"""
import numpy as np, re
from sparseprob import distributed, row_slice
from sparseprob.dictionary import BinarySparseCoding
with distributed() as comm:
    X = np.random.default_rng(0).normal(size=(40, 3))[row_slice(40)]
    if comm.rank == 1:
        {change}
    try:
        BinarySparseCoding(2).fit(X)
    except ValueError as error:
        assert re.search({message!r}, str(error)), error
        comm.Barrier()
        print("refused")
"""
    done = mpiexec(2, program)
    assert done.stdout.count("refused") == 2


def test_a_failing_rank_ends_all_within_seconds(mpiexec):
    program = """
from sparseprob import distributed
with distributed() as comm:
    if comm.rank == 1:
        raise RuntimeError("out of luck")
    comm.Barrier()
"""
    began = time.monotonic()
    done = mpiexec(2, program, check=False)
    assert done.returncode != 0
    assert "out of luck" in done.stderr
    assert time.monotonic() - began < 30


def test_row_slices_cover_all_rows_and_sums_are_packed(mpiexec):
    program = """
import numpy as np
from sparseprob import distributed, row_slice, row_sum
from sparseprob.dictionary._statistics import kth_largest
values = np.concatenate([np.random.default_rng(0).normal(size=100), [-np.inf, 0.0, -0.0, 1e300]])
with distributed() as comm:
    mine = values[row_slice(len(values))]
    a, b = row_sum(np.array(float(len(mine))), np.full((2, 2), comm.rank))
    assert a == 104 and b.shape == (2, 2) and (b == sum(range(comm.size))).all()
    for k in (1, 7, 50, 104):
        assert kth_largest(mine, k) == np.sort(values)[::-1][k - 1]
    assert comm.allreduce(len(mine)) == 104
print("fine")
"""
    assert mpiexec(3, program).stdout.count("fine") == 3


def test_learn_under_mpiexec_equals_one_process(tmp_path, bars, mpiexec):
    np.save(tmp_path / "rows.npy", bars.data[:299])
    options = ["--n-components", "8", "--max-iter", "20", "--tol", "0", "--random-state", "0"]
    options += ["--schedule", "anneal"]
    mpiexec(3, "sparseprob", "learn", "rows.npy", *options)
    many = joblib.load(tmp_path / "model.joblib")
    one = BinarySparseCoding(8, max_iter=20, tol=0, random_state=0, schedule="anneal")
    one.fit(bars.data[:299])
    assert_allclose(many.components_, one.components_, atol=1e-8)
    refused = mpiexec(2, "sparseprob", "learn", "none.npy", check=False)
    assert refused.returncode == 1
    assert refused.stderr.count("There is no file") == 1


def test_killed_ranks_resume_to_the_same_bits(tmp_path, bars, mpiexec):
    np.save(tmp_path / "rows.npy", bars.data)
    options = ["learn", "rows.npy", "--n-components", "8", "--tol", "0", "--random-state", "0"]
    options += ["--max-iter", "400", "--checkpoint-every", "3"]
    mpiexec(3, "sparseprob", *options, "--output", "whole.joblib")
    options += ["--checkpoint", "state.npz"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    launcher = Path(sys.executable).with_name("mpiexec")
    ranks = [
        launcher if launcher.exists() else "mpiexec",
        "-n",
        "3",
        sys.executable,
        "-m",
        "mpi4py",
    ]
    running = subprocess.Popen(
        [*ranks, "-m", "sparseprob", *options],
        cwd=tmp_path, env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (tmp_path / "state.npz").exists() and time.monotonic() < until:
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    with np.load(tmp_path / "state.npz") as state:
        assert len(state.files) > 3
    mpiexec(3, "sparseprob", *options, "--resume")
    resumed, whole = (joblib.load(tmp_path / name) for name in ("model.joblib", "whole.joblib"))
    assert_array_equal(resumed.components_, whole.components_)
    assert resumed.n_iter_ == 400


def test_without_ranks_everything_is_the_identity():
    total = mpi.row_sum(np.ones(3))
    assert_array_equal(total, np.ones(3))
    assert mpi.row_slice(7) == slice(0, 7)
    assert (mpi.rank(), mpi.n_ranks()) == (0, 1)
