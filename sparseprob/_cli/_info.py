"""``sparseprob info``: what this machine has and what of it is used."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = (
    "sparseprob", "numpy", "scipy", "numba", "scikit-learn", "array-api-compat", "h5py", "mpi4py",
    "cupy-cuda13x", "cupy-cuda12x", "torch", "gpytorch", "pyro-ppl", "matplotlib", "rich",
)  # fmt: skip


def add_parser(commands):
    """Add the command to the parser."""
    parser = commands.add_parser("info", help="print versions, threads, BLAS, GPU and MPI library")
    parser.set_defaults(run=run)


def run(options):
    """Print what there is."""
    for name, value in facts():
        print(f"{name:<18} {value}")


def facts():
    """Yield names and values of everything that shapes speed and results."""
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            yield package, "-"
    yield (
        "cores",
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    )
    yield from _threads()
    yield "GPU", _gpu()
    yield "MPI library", _mpi_library()


def _threads():
    import numba
    import numpy  # noqa: F401 - loads its BLAS
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    yield "Numba threads", numba.get_num_threads()
    for library in threadpool_info():
        kind = f"{library['internal_api']} {library['version'] or ''}".strip()
        yield f"{library['user_api']} threads", f"{library['num_threads']} ({kind})"


def _gpu():
    try:
        import cupy
    except ImportError:
        return "none: CuPy is not installed"
    if not cupy.cuda.is_available():
        return "none found by CuPy"
    count = cupy.cuda.runtime.getDeviceCount()
    names = [cupy.cuda.runtime.getDeviceProperties(i)["name"].decode() for i in range(count)]
    return f"{', '.join(names)}; CUDA runtime {cupy.cuda.runtime.runtimeGetVersion()}"


def _mpi_library():
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        return f"none: {error}"
    return MPI.Get_library_version().splitlines()[0].strip("\x00 ")
