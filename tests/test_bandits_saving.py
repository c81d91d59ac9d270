"""Saved policies: they go on as if nothing had happened, and bad files are refused."""

import copy
import json
import pickle

import joblib
import numpy as np
import pytest
from instances import POLICIES
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.gaussian_process import kernels as sk

from sparseprob import _checkpoint
from sparseprob.bandits import BanditWarning, RandomPolicy, _saving

X = np.random.default_rng(0).random((150, 2))


def objective(x):
    """Noise that depends on the point alone, so that all runs see the same."""
    return float(np.sin(5 * x[0]) * np.cos(3 * x[1]) + 0.05 * np.sin(1e4 * x.sum()))


def start(policy):
    model = clone(policy)
    if type(model).__name__ == "AdaBKB":
        return model.initialize(bounds=[(0, 1), (0, 1)])
    return model.initialize(X)


def steps(model):
    history = model.history_
    return {name: history[name] for name in history.dtype.names if name != "wall"}


def assert_same(model, expected):
    for name, column in steps(expected).items():
        assert_array_equal(steps(model)[name], column, err_msg=name)
    assert_array_equal(model.predict(X, return_std=True), expected.predict(X, return_std=True))
    assert model.best_.index == expected.best_.index


def through_a_file(model, tmp_path):
    model.save(tmp_path / "policy.npz")
    return type(model).load(tmp_path / "policy.npz")


COPIES = {
    "file": through_a_file,
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "joblib": lambda model, path: joblib.load(joblib.dump(model, path / "policy.joblib")[0]),
}
NAMES = [type(policy).__name__ for policy in POLICIES]


@pytest.mark.parametrize("policy", POLICIES, ids=NAMES)
def test_a_saved_policy_takes_the_steps_of_an_uninterrupted_one(policy, tmp_path):
    expected = start(policy).run(objective, 60)
    model = start(policy)
    for n in (1, 12, 17, 30):  # in the initial design, and wherever in a batch it is then
        model = through_a_file(model.run(objective, n), tmp_path)
    assert_same(model, expected)


@pytest.mark.parametrize("policy", POLICIES, ids=NAMES)
@pytest.mark.parametrize("way", [name for name in COPIES if name != "file"])
def test_copies_go_on_too(policy, way, tmp_path):
    model = start(policy).run(objective, 15)
    again = COPIES[way](model, tmp_path)
    assert_same(again.run(objective, 12), model.run(objective, 12))


@pytest.mark.parametrize("policy", POLICIES, ids=NAMES)
def test_pending_and_failed_evaluations_are_kept(policy, tmp_path):
    def prepared():
        model = start(policy).run(objective, 14)
        first = model.ask(1)
        model.ask(1)
        return model.tell(first, None, failed="drop")

    model = through_a_file(prepared(), tmp_path)
    expected = prepared()
    assert_array_equal(model.pending_.ids, expected.pending_.ids)
    assert_array_equal(model.pending_.X, expected.pending_.X)
    assert_same(model.run(objective, 20), expected.run(objective, 20))


def test_a_policy_that_was_asked_nothing_can_be_saved(tmp_path):
    model = through_a_file(start(RandomPolicy(random_state=0)), tmp_path)
    assert_same(model.run(objective, 5), start(RandomPolicy(random_state=0)).run(objective, 5))


class Stationary(sk.RBF):
    """A kernel of the user's."""


@pytest.mark.parametrize(
    "kernel",
    [
        2.0 * sk.RBF([0.2, 0.3]) + sk.Matern(0.5, (0.1, 1.0), nu=1.5),
        sk.RationalQuadratic(0.3, 2.0) * sk.ExpSineSquared(0.5, 2.0),
        sk.DotProduct(0.5) ** 2 + sk.ConstantKernel(0.1, "fixed"),
        sk.Exponentiation(sk.RBF(0.4), 3),
        sk.PairwiseKernel(gamma=2.0, metric="laplacian"),
        Stationary(0.3),
    ],
    ids=str,
)
def test_kernels_come_back(kernel, tmp_path):
    model = through_a_file(start(RandomPolicy(kernel, random_state=0)), tmp_path)
    assert model.kernel == kernel
    assert type(model.kernel) is type(kernel)
    assert_array_equal(model.kernel.bounds, kernel.bounds)
    assert_array_equal(model.kernel(X[:5], X), kernel(X[:5], X))


@pytest.mark.parametrize("bits", ["PCG64", "PCG64DXSM", "Philox", "SFC64", "MT19937"])
def test_generators_come_back(bits, tmp_path):
    model = start(RandomPolicy())
    model._rng = np.random.Generator(getattr(np.random, bits)(3))
    model._rng.integers(2**16, dtype=np.uint16)  # half a word is left over
    model.random_state = np.random.RandomState(5)  # noqa: NPY002
    model.random_state.normal()
    again = through_a_file(model, tmp_path)
    assert_array_equal(again._rng.integers(2**16, size=9), model._rng.integers(2**16, size=9))
    assert_array_equal(again.random_state.normal(size=9), model.random_state.normal(size=9))


def test_what_is_shared_stays_shared_and_is_stored_once(tmp_path):
    model = start(RandomPolicy(random_state=0))
    model._twice = {"rng": model._rng, "rows": [model._candidates.X, model._candidates.X]}
    model._twice["itself"] = model._twice
    again = through_a_file(model, tmp_path)
    assert again._twice["rng"] is again._rng
    assert again._twice["rows"][0] is again._twice["rows"][1] is again._candidates.X
    assert again._twice["itself"] is again._twice
    with np.load(tmp_path / "policy.npz") as file:
        assert sum(np.array_equal(file[name], X) for name in file.files) == 1


def test_values_of_every_kind_come_back(tmp_path):
    values = {
        "numbers": (1, 2.5, -0.0, np.inf, True, None, 2**100, "text"),
        "scalars": [np.float32(0.1), np.int8(3), np.bool_(True), np.datetime64("2020-01-01")],
        "arrays": [np.zeros((0, 3)), np.array("a"), np.ones(2, dtype=[("a", int), ("b", "f4")])],
        "keys": {1: "a", (1, 2): "b", None: "c", 2.5: {"d"}},
        "dtype": np.dtype(np.float32),
        "fortran": np.asfortranarray(np.eye(3)),
    }
    model = start(RandomPolicy())
    model._values = values
    again = through_a_file(model, tmp_path)._values
    assert again["numbers"] == values["numbers"]
    assert np.signbit(again["numbers"][2])
    assert again["keys"] == values["keys"]
    assert again["dtype"] == values["dtype"]
    assert again["fortran"].flags.f_contiguous
    for name in ("scalars", "arrays"):
        for found, expected in zip(again[name], values[name], strict=True):
            assert type(found) is type(expected)
            assert found.dtype == expected.dtype
            assert_array_equal(found, expected)


def test_not_a_number_comes_back(tmp_path):
    model = start(RandomPolicy())
    assert np.isnan(model._beta) or model._beta == 0
    model._beta = float("nan")
    assert np.isnan(through_a_file(model, tmp_path)._beta)


def test_the_clock_goes_on(tmp_path):
    model = start(RandomPolicy(random_state=0))
    model._clock -= 1000.0
    again = through_a_file(model.run(objective, 3), tmp_path).run(objective, 2)
    assert 1000 <= again.history_["wall"][2] <= again.history_["wall"][3] < 1100


def test_files_hold_no_pickles_and_no_code(tmp_path):
    start(RandomPolicy(random_state=0)).run(objective, 5).save(tmp_path / "policy.npz")
    with np.load(tmp_path / "policy.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    assert not any(array.dtype.hasobject for array in arrays.values())
    assert isinstance(json.loads(bytes(arrays["__nodes__"])), list)


class Own(RandomPolicy):
    """A policy of the user's."""


def test_policies_of_the_user_are_loaded_by_their_class(tmp_path):
    model = start(Own(random_state=0)).run(objective, 5)
    model.save(tmp_path / "policy.npz")
    assert_same(Own.load(tmp_path / "policy.npz"), model)
    with pytest.raises(ValueError, match="test_bandits_saving:Own, which is unknown here"):
        RandomPolicy.load(tmp_path / "policy.npz")


def test_a_failed_save_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "policy.npz"
    model = start(RandomPolicy(random_state=0)).run(objective, 5)
    model.save(path)
    before = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(_checkpoint.np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        model.run(objective, 5).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["policy.npz"]


def test_functions_are_refused_by_name(tmp_path):
    model = start(RandomPolicy(random_state=0))
    model._width = {"rule": lambda t: t}
    with pytest.raises(TypeError, match=r"RandomPolicy._width.rule is a builtins.function, which"):
        model.save(tmp_path / "policy.npz")
    assert not list(tmp_path.iterdir())


def saved(tmp_path, change=lambda meta, nodes: None):
    """A file of a policy, tampered with."""
    path = tmp_path / "policy.npz"
    start(RandomPolicy(random_state=0)).run(objective, 5).save(path)
    content = _checkpoint.load(path)
    nodes = json.loads(bytes(content["arrays"].pop("__nodes__")))
    change(content["meta"], nodes)
    content["arrays"]["__nodes__"] = np.frombuffer(json.dumps(nodes).encode(), dtype=np.uint8)
    _checkpoint.save(path, content)
    return path


def another_version(meta, nodes):
    meta.update(version=99, sparseprob="7.0")


def another_kind(meta, nodes):
    del meta["policy"]


def another_class(meta, nodes):
    nodes[0]["object"] = "subprocess:Popen"


def another_function(meta, nodes):
    place = next(i for i, node in enumerate(nodes) if "function" in node)
    nodes[place]["function"] = "os:system"


def an_unknown_node(meta, nodes):
    nodes[0] = {"lambda": "x"}


def an_unknown_library(meta, nodes):
    place = next(i for i, node in enumerate(nodes) if "array" in node)
    nodes[place]["library"] = "antigravity"


def more_ranks(meta, nodes):
    meta["n_ranks"] = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_version, "is of version 99, this release reads 1; load it with sparseprob 7.0"),
        (another_kind, "is a checkpoint of a fit, not of a RandomPolicy"),
        (another_class, "holds a subprocess:Popen, which is unknown here"),
        (another_function, "holds a function os:system, unknown here"),
        (an_unknown_node, "holds a 'lambda', unknown to this release"),
        (an_unknown_library, "unknown library 'antigravity'"),
        (more_ranks, "was saved on 3 ranks and is loaded on 1; use the same number"),
    ],
)
def test_files_of_another_kind_are_refused(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        RandomPolicy.load(saved(tmp_path, change))


def test_other_releases_are_warned_of(tmp_path):
    path = saved(tmp_path, lambda meta, nodes: meta.update(sparseprob="0.0.1"))
    with pytest.warns(BanditWarning, match="was saved by sparseprob 0.0.1"):
        RandomPolicy.load(path)


def test_damaged_and_missing_files_are_refused(tmp_path):
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="is not a readable checkpoint .* truncated"):
        RandomPolicy.load(path)
    with pytest.raises(FileNotFoundError, match="There is no checkpoint at"):
        RandomPolicy.load(tmp_path / "nothing.npz")
    with pytest.raises(FileNotFoundError):
        start(RandomPolicy()).save(tmp_path / "no" / "folder.npz")


def test_policies_of_another_class_are_refused(tmp_path):
    path = saved(tmp_path)
    other = next(type(p) for p in POLICIES if type(p) is not RandomPolicy)
    with pytest.raises(ValueError, match=rf"holds a RandomPolicy, not a {other.__name__}; use Ran"):
        other.load(path)


def test_a_base_class_loads_what_is_there(tmp_path):
    assert type(_saving.load(RandomPolicy.__mro__[1], saved(tmp_path))) is RandomPolicy


def test_libraries_come_back(xp, tmp_path):
    model = RandomPolicy(random_state=0).initialize(xp.asarray(X)).run(objective, 7)
    again = through_a_file(model, tmp_path)
    assert type(again.mean_) is type(model.mean_) is type(xp.asarray(X))
    assert type(again._candidates.X) is type(model._candidates.X)
    assert_same(again, model)


@pytest.mark.gpu
@pytest.mark.parametrize("policy", POLICIES, ids=NAMES)
def test_saved_policies_go_on_on_the_gpu(policy, tmp_path):
    import cupy

    if type(policy).__name__ == "AdaBKB":
        pytest.skip("its cells are made on the host")

    def f(x):
        return objective(cupy.asnumpy(x))

    expected = clone(policy).initialize(cupy.asarray(X)).run(f, 40)
    model = clone(policy).initialize(cupy.asarray(X)).run(f, 22)
    again = through_a_file(model, tmp_path).run(f, 18)
    assert_array_equal(again.history_["index"], expected.history_["index"])
    assert isinstance(again.mean_, cupy.ndarray)


RANKS = """
import sys
import numpy as np
from instances import POLICIES
from sklearn.base import clone
from sparseprob import distributed, row_slice

def objective(x):
    return float(np.sin(5 * x[0]) * np.cos(3 * x[1]) + 0.05 * np.sin(1e4 * x.sum()))

if __name__ == "__main__":
    X = np.random.default_rng(0).random((150, 2))
    found = {}
    with distributed() as comm:
        for policy in POLICIES:
            name = type(policy).__name__
            if name == "AdaBKB":
                continue
            model = clone(policy).initialize(X[row_slice(150)]).run(objective, 20)
            model.save("first.npz")
            model.save(name + ".npz")
            model.save(name + ".npz")  # the files of the first time go
            again = type(policy).load(name + ".npz").run(objective, 15)
            model.run(objective, 15)
            assert (again.history_["index"] == model.history_["index"]).all(), name
            found[name] = again.history_["index"]
        if comm.rank == 0:
            np.savez("found.npz", **found)
"""


@pytest.mark.mpi
def test_ranks_save_their_parts_and_go_on(tmp_path, mpiexec, monkeypatch):
    from pathlib import Path

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    mpiexec(2, RANKS)
    found = np.load(tmp_path / "found.npz")
    for policy in POLICIES:
        if type(policy).__name__ in found:
            alone = clone(policy).initialize(X).run(objective, 35)
            assert_array_equal(found[type(policy).__name__], alone.history_["index"])
    assert len(list(tmp_path.glob("first.npz*"))) == 3
    assert len(list(tmp_path.glob("RandomPolicy.npz*"))) == 3
    with pytest.raises(ValueError, match="was saved on 2 ranks and is loaded on 1"):
        RandomPolicy.load(tmp_path / "RandomPolicy.npz")
