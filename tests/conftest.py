"""Fixtures of all tests: array libraries, MPI programs, GPU marks."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # before scikit-learn: switches the checks on

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
ROOT = Path(__file__).parents[1]


def _gpu_available():
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    return cupy.cuda.is_available()


HAS_GPU = _gpu_available()


def pytest_collection_modifyitems(items):
    """Skip GPU tests without a GPU and MPI tests without an MPI library."""
    no_gpu = pytest.mark.skip(reason="needs CuPy and a GPU")
    no_mpi = pytest.mark.skip(reason="needs mpiexec and mpi4py")
    has_mpi = _mpiexec() is not None and importlib.util.find_spec("mpi4py") is not None
    for item in items:
        if "gpu" in item.keywords and not HAS_GPU:
            item.add_marker(no_gpu)
        if "mpi" in item.keywords and not has_mpi:
            item.add_marker(no_mpi)


class Library:
    """An array library: how to make one of its arrays."""

    def __init__(self, name):
        self.name = name

    def asarray(self, A):
        if self.name == "numpy":
            return np.asarray(A)
        if self.name == "torch":
            import torch

            return torch.from_numpy(np.ascontiguousarray(A))
        if self.name == "cupy":
            import cupy

            return cupy.asarray(A)
        import array_api_strict

        return array_api_strict.asarray(np.ascontiguousarray(A))


@pytest.fixture(
    params=["numpy", "torch", "array_api_strict", pytest.param("cupy", marks=pytest.mark.gpu)]
)
def xp(request):
    """Each array library in turn."""
    pytest.importorskip(request.param)
    return Library(request.param)


def _mpiexec():
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


@pytest.fixture
def mpiexec(tmp_path):
    """Run a program on some ranks: ``mpiexec(n_ranks, program, *arguments)``."""

    def run(n_ranks, program, *arguments, check=True, timeout=120):
        if "\n" in program:
            path = tmp_path / "program.py"
            path.write_text(program)
            program = str(path)
        start = [program] if program.endswith(".py") else ["-m", program]
        ranks = [_mpiexec(), "-n", str(n_ranks), sys.executable, "-m", "mpi4py"]
        command = [*ranks, *start, *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, cwd=tmp_path, env=environment
        )
        if check and done.returncode:
            raise AssertionError(f"{n_ranks} ranks failed:\n{done.stdout}\n{done.stderr}")
        return done

    return run


@pytest.fixture
def bars():
    """A small bars data set and the parameters it was drawn from."""
    from sparseprob.datasets import make_bars

    return make_bars(300, size=4, random_state=0)
