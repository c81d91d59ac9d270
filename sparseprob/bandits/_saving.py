"""Saved policies: arrays and JSON in one npz file, written atomically, read without pickle.

Everything a policy holds is a node of a flat list; nodes refer to each other by number, so that
what was shared stays shared.
"""

import importlib
import inspect
import json
import sys
import time
import warnings
from functools import partial

import numpy as np
from sklearn.gaussian_process.kernels import Kernel

from .. import __version__, _checkpoint, mpi
from .._arrays import is_array, to_numpy
from ._batch import BanditWarning

_VERSION = 1
_SCALARS = (bool, int, float, str, type(None))
_LIBRARIES = ("numpy", "cupy", "torch", "array_api_strict")
_JSON = "__nodes__"


def save(policy, path):
    """Write a policy into a file, or under `distributed` into a file per rank and one that binds.

    Parameters
    ----------
    policy : Policy
    path : str or Path
        Replaced when everything is written, so that a crash leaves the file that was there.

    Raises
    ------
    TypeError
        If the policy holds something that no file can, such as a function.
    """
    policy._check_initialized()
    writer = _Writer(trusted=type(policy))
    with mpi.errors_together():
        writer.reference(policy, type(policy).__name__)
    text = json.dumps(writer.nodes).encode()
    arrays = writer.arrays | {_JSON: np.frombuffer(text, dtype=np.uint8)}
    many = mpi.n_ranks() > 1
    meta = {
        "policy": type(policy).__name__,
        "version": _VERSION,
        "sparseprob": __version__,
        "n_ranks": mpi.n_ranks(),
        "has_local": many,
        "elapsed": time.perf_counter() - policy._clock,
        "n_steps": mpi.broadcast(time.time_ns()) if many else 0,  # names the files of the ranks
    }
    _checkpoint.save(
        path, {"arrays": {} if many else arrays, "local": arrays if many else {}, "meta": meta}
    )


def load(cls, path):
    """Return the policy that `save` wrote.

    Parameters
    ----------
    cls : type
        The class of the policy, or a base of it.
    path : str or Path

    Returns
    -------
    policy : Policy

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is cut off, of another kind, class or version, or of another number of ranks.
    """
    with mpi.errors_together():
        content = _checkpoint.load(path)
        _check(content["meta"], cls, path)
        arrays = content["local"] if content["meta"]["has_local"] else content["arrays"]
        policy = _Reader(json.loads(bytes(arrays[_JSON])), arrays, trusted=cls).value(0)
        if not isinstance(policy, cls):
            raise ValueError(
                f"{str(path)!r} holds a {type(policy).__name__}, not a {cls.__name__}; "
                f"use {type(policy).__name__}.load."
            )
    policy._clock = time.perf_counter() - content["meta"]["elapsed"]  # of another process
    return policy


def _check(meta, cls, path):
    if "policy" not in meta:
        raise ValueError(f"{str(path)!r} is a checkpoint of a fit, not of a {cls.__name__}.")
    if meta["version"] != _VERSION:
        raise ValueError(
            f"{str(path)!r} is of version {meta['version']}, this release reads {_VERSION}; "
            f"load it with sparseprob {meta['sparseprob']}."
        )
    if meta["n_ranks"] != mpi.n_ranks():
        raise ValueError(
            f"{str(path)!r} was saved on {meta['n_ranks']} ranks and is loaded on "
            f"{mpi.n_ranks()}; use the same number."
        )
    if meta["sparseprob"] != __version__:
        warnings.warn(
            f"{str(path)!r} was saved by sparseprob {meta['sparseprob']}, this is {__version__}; "
            "the run may go on differently.",
            BanditWarning,
        )


class _Writer:
    """Turns values into nodes; `where` names the attribute in messages."""

    def __init__(self, trusted):
        self.trusted = trusted
        self.nodes: list = []
        self.arrays: dict = {}
        self._numbers: dict = {}
        self._alive: list = []  # or the id of one that is gone could be given out again

    def reference(self, value, where):
        """Return what stands for a value in JSON: itself, or the number of its node in a list."""
        if type(value) in _SCALARS:
            return value
        if id(value) not in self._numbers:
            self._numbers[id(value)] = number = len(self.nodes)
            self._alive.append(value)
            self.nodes.append(None)
            self.nodes[number] = self._node(value, where)
        return [self._numbers[id(value)]]

    def _node(self, value, where):
        if is_array(value) or isinstance(value, np.generic):
            return self._array(value, where)
        if type(value) in (list, tuple, set):
            return {type(value).__name__: [self.reference(v, f"{where}[...]") for v in value]}
        if type(value) is dict:
            return {"dict": self._items(value, where)}
        if isinstance(value, np.random.Generator):
            bits = value.bit_generator
            return {"generator": type(bits).__name__, "state": self.reference(bits.state, where)}
        if isinstance(value, np.random.RandomState):
            state = value.get_state(legacy=False)
            return {"random_state": self.reference(state, where)}
        if isinstance(value, np.dtype) and not value.hasobject and value.names is None:
            return {"dtype": value.str}
        if inspect.ismodule(value) and value.__name__ in _LIBRARIES:
            return {"module": value.__name__}
        if isinstance(value, Kernel):
            params = value.get_params(deep=False)
            return {"kernel": _name(type(value)), "items": self._items(params, where)}
        if isinstance(value, partial):
            parts = (value.func, value.args, value.keywords)
            return {"partial": [self.reference(part, where) for part in parts]}
        if inspect.isfunction(value) and _is_ours(value):
            return {"function": _name(value)}
        return self._object(value, where)

    def _items(self, mapping, where):
        return [
            [self.reference(k, where), self.reference(v, f"{where}.{k}")]
            for k, v in mapping.items()
        ]

    def _array(self, value, where):
        library = type(value).__module__.split(".")[0]
        array = np.asarray(to_numpy(value))
        if library not in _LIBRARIES or array.dtype.hasobject:
            raise TypeError(
                f"{where} is an array of {library}, dtype {array.dtype}, which cannot be saved; "
                "use pickle."
            )
        name = f"a{len(self.arrays)}"
        self.arrays[name] = array
        node: dict = {"array": name, "library": library}
        if isinstance(value, np.generic):
            node["scalar"] = True
        if library == "torch":
            node["device"] = str(value.device)
        return node

    def _object(self, value, where):
        cls = type(value)
        if not (_is_ours(cls) or cls is self.trusted):
            raise TypeError(
                f"{where} is a {cls.__module__}.{cls.__qualname__}, which cannot be saved in a "
                "file; use pickle."
            )
        if isinstance(value, tuple):
            items = [self.reference(v, f"{where}[...]") for v in value]
            return {"named": _name(type(value)), "values": items}
        state = value.__getstate__()
        state = {} if state is None else state
        if type(state) is not dict:
            raise TypeError(f"{where} has slots or a state of its own, which cannot be saved.")
        return {"object": _name(type(value)), "items": self._items(state, where)}


class _Reader:
    """Turns nodes back into values."""

    def __init__(self, nodes, arrays, trusted):
        self.nodes, self.arrays, self.trusted = nodes, arrays, trusted
        self._values: dict = {}

    def value(self, number):
        """Return the value of a node, the same object each time."""
        if number not in self._values:
            node = self.nodes[number]
            read = getattr(self, f"_read_{next(iter(node))}", None)
            if read is None:
                raise ValueError(f"The file holds a {next(iter(node))!r}, unknown to this release.")
            self._values[number] = read(node, number)
        return self._values[number]

    def _resolve(self, reference):
        return self.value(reference[0]) if isinstance(reference, list) else reference

    def _mapping(self, items):
        return {self._resolve(key): self._resolve(value) for key, value in items}

    def _read_array(self, node, number):
        array, library = self.arrays[node["array"]], node["library"]
        if node.get("scalar"):
            return array[()]
        if library == "numpy":
            return array
        return _library(library).asarray(
            array, **({"device": node["device"]} if "device" in node else {})
        )

    def _read_list(self, node, number):
        found = self._values[number] = []  # known before its items: they may refer to it
        found.extend(self._resolve(item) for item in node["list"])
        return found

    def _read_dict(self, node, number):
        found = self._values[number] = {}
        found.update(self._mapping(node["dict"]))
        return found

    def _read_tuple(self, node, number):
        return tuple(self._resolve(item) for item in node["tuple"])

    def _read_set(self, node, number):
        return {self._resolve(item) for item in node["set"]}

    def _read_generator(self, node, number):
        kinds = {cls.__name__: cls for cls in np.random.BitGenerator.__subclasses__()}
        bits = kinds[node["generator"]](0)
        bits.state = self._resolve(node["state"])
        return np.random.Generator(bits)

    def _read_random_state(self, node, number):
        state = self._resolve(node["random_state"])
        found = np.random.RandomState(0)  # noqa: NPY002 - the caller's own kind
        found.set_state(state)
        return found

    def _read_dtype(self, node, number):
        return np.dtype(node["dtype"])

    def _read_module(self, node, number):
        return _library(node["module"])

    def _read_partial(self, node, number):
        function, args, keywords = (self._resolve(part) for part in node["partial"])
        return partial(function, *args, **keywords)

    def _read_function(self, node, number):
        found = _look_up(node["function"])
        if not (inspect.isfunction(found) and _is_ours(found)):
            raise ValueError(f"The file holds a function {node['function']}, unknown here.")
        return found

    def _read_kernel(self, node, number):
        return self._class(node["kernel"])(**self._mapping(node["items"]))

    def _read_named(self, node, number):
        return self._class(node["named"])(*[self._resolve(item) for item in node["values"]])

    def _read_object(self, node, number):
        cls = self._class(node["object"])
        found = self._values[number] = cls.__new__(cls)
        state = self._mapping(node["items"])
        if hasattr(cls, "__setstate__"):
            found.__setstate__(state)
        else:
            found.__dict__.update(state)
        return found

    def _class(self, name):
        """Return a class of ours, of scikit-learn's kernels, or a kernel that is loaded already."""
        if name == _name(self.trusted):
            return self.trusted
        found = _look_up(name)
        known = isinstance(found, type) and (_is_ours(found) or issubclass(found, Kernel))
        if not known:
            raise ValueError(
                f"The file holds a {name}, which is unknown here; import the module that defines "
                "it first, if it is a kernel of yours."
            )
        return found


def _name(thing):
    return f"{thing.__module__}:{thing.__qualname__}"


def _is_ours(thing):
    return thing.__module__.startswith("sparseprob.")


def _look_up(name):
    """Return what a name stands for, or None; only modules of ours are imported for it."""
    module_name, _, path = name.partition(":")
    if module_name.startswith("sparseprob."):
        importlib.import_module(module_name)
    found = sys.modules.get(module_name)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _library(name):
    if name not in _LIBRARIES:
        raise ValueError(f"The file holds an array of an unknown library {name!r}.")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"The policy lives in {name}, which is missing here.") from error
