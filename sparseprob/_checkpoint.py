"""Checkpoint files: arrays and JSON in one npz file, written atomically, read without pickle."""

import json
import os
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from . import mpi

_FORMAT = "sparseprob checkpoint 1"


@contextmanager
def atomic_path(path):
    """Yield a temporary name beside `path` that replaces it when the block succeeds."""
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        yield name
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    finally:
        if os.path.exists(name):
            os.unlink(name)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save(path, state):
    """Write a state: `state["arrays"]` by rank 0, `state["local"]` (arrays of rows) by each rank.

    Local arrays go first, into files of their own named after the iteration, so that a crash
    between the files leaves the previous checkpoint whole.
    """
    path = Path(path)
    with mpi.errors_together():
        if state["local"]:
            _write(_local_path(path, state["meta"]), state["local"], {})
    with mpi.errors_together():  # also: no rank renames the main file before all local files stand
        if mpi.rank() == 0:
            _write(path, state["arrays"], state["meta"])
    for old in path.parent.glob(f"{path.name}.*.rank{mpi.rank():04d}"):
        if old != _local_path(path, state["meta"]):
            old.unlink()


def _write(path, arrays, meta):
    with atomic_path(path) as name, open(name, "wb") as file:
        np.savez(file, **arrays, __format__=_FORMAT, __meta__=json.dumps(meta))


def load(path):
    """Read a checkpoint into `{"arrays", "meta", "local"}`, or refuse it in one sentence."""
    path = Path(path)
    arrays, meta = _read(path)
    local = _read(_local_path(path, meta))[0] if meta.get("has_local") else {}
    return {"arrays": arrays, "meta": meta, "local": local}


def _read(path):
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint at {str(path)!r}; start without resuming.")
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{str(path)!r} is not a readable checkpoint ({error}); it is truncated or another "
            "kind of file, so start without resuming."
        ) from error
    if str(content.pop("__format__", "")) != _FORMAT:
        raise ValueError(
            f"{str(path)!r} was not written by sparseprob's Checkpoint; name another file."
        )
    return content, json.loads(str(content.pop("__meta__")))


def _local_path(path, meta):
    return path.with_name(f"{path.name}.{meta['n_steps']:06d}.rank{mpi.rank():04d}")


def check_same(saved, current, what):
    """Raise a ValueError naming the first field in which two dicts differ."""
    for name, value in current.items():
        if saved.get(name) != value:
            raise ValueError(
                f"The checkpoint does not fit the {what}: {name} was {saved.get(name)!r} and is "
                f"{value!r}; use the same {what} or start without resuming."
            )
