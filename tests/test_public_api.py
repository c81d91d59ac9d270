"""The public names: complete, documented, light to import."""

import importlib
import inspect
import subprocess
import sys

import pytest

import sparseprob

MODULES = [
    "sparseprob",
    *(f"sparseprob.{name}" for name in sparseprob._SUBPACKAGES),
    *(f"sparseprob.torch.{name}" for name in sparseprob.torch._SUBPACKAGES),
]
HEAVY = ("torch", "cupy", "pyro", "gpytorch", "matplotlib", "mpi4py.MPI")
# What numpydoc asks that does not suit us: extended summaries, see-also and examples everywhere,
# types on properties, and one-line descriptions of parameters whose name and shape say it all.
IGNORED = {"ES01", "SA01", "EX01", "PR07", "GL08", "RT03", "YD01", "SS06", "RT02", "PR02"}


def public_objects():
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name in getattr(module, "__all__", []):
            found = getattr(module, name)
            if not inspect.ismodule(found) and found.__module__.startswith("sparseprob"):
                yield pytest.param(found, id=f"{module_name}.{name}")


def test_all_names_exist_and_are_listed():
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        assert sorted(module.__all__) == sorted(set(module.__all__))
        for name in module.__all__:
            assert hasattr(module, name)
            assert name in dir(module)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        sparseprob.nothing  # noqa: B018


@pytest.mark.parametrize(
    "module",
    ["", ".channel", ".datasets", ".dictionary", ".polynomials", ".recovery", ".rpca", ".sketch"],
)
def test_import_loads_nothing_heavy(module):
    program = f"import sys, sparseprob{module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_bridge_names_what_to_install_without_torch():
    program = "import sys; sys.modules['torch'] = None; import sparseprob.torch"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    expected = "sparseprob.torch needs PyTorch, which is not installed; run pip install 'sparseprob"
    assert expected in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("found", list(public_objects()))
def test_docstrings_are_complete(found):
    validate = pytest.importorskip("numpydoc.validate")
    name = f"{found.__module__}.{found.__qualname__}"
    errors = [e for e in validate.validate(name)["errors"] if e[0] not in IGNORED]
    assert not errors, errors
    text = inspect.getdoc(found)
    if inspect.isclass(found) and inspect.signature(found).parameters:
        assert "Parameters\n" in text
    if inspect.isfunction(found):
        assert "Returns\n" in text or "Yields\n" in text


@pytest.mark.parametrize("found", list(public_objects()))
def test_methods_are_documented(found):
    if not inspect.isclass(found):
        pytest.skip("not a class")
    for name, method in inspect.getmembers(found, inspect.isfunction):
        if not name.startswith("_") and method.__module__.startswith("sparseprob"):
            assert inspect.getdoc(method), f"{found.__name__}.{name}"
