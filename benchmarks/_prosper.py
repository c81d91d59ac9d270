"""One EM step of ProSper's models, from a source checkout of ml-uol/prosper.

ProSper was written for NumPy before 1.24. The patches it needs today are these aliases, set before
it is imported: ``np.int = int``, ``np.bool = bool``, ``np.object = object``, ``np.float = float``,
``np.str = str``, ``np.linalg.linalg = np.linalg``. It also needs the packages ``six``, ``tables``
and ``mpi4py``.
"""

import contextlib
import sys
import time
import warnings
from importlib import import_module

import numpy as np

_ALIASES = {"int": int, "bool": bool, "object": object, "float": float, "str": str}
_CLASSES = {"bsc": "BSC_ET", "mca": "MCA_ET", "gsc": "GSC"}
_NOISES = ("Ncut_factor", "anneal_prior", "data_noise")


def step(path, model, X, start, n_candidates, max_active):
    """Run one EM step of "bsc", "mca" or "gsc"; return the new parameters and its seconds.

    `start` holds the parameters under ProSper's names; W has shape (D, H).
    """
    for name, kind in _ALIASES.items():
        if name not in np.__dict__:
            setattr(np, name, kind)
    np.linalg.linalg = np.linalg
    sys.path.insert(0, str(path))
    from prosper.em.annealing import LinearAnnealing

    D, H = start["W"].shape
    cls = getattr(import_module(f"prosper.em.camodels.{model}_et"), _CLASSES[model])
    theirs = cls(D, H, n_candidates, max_active)
    annealing = LinearAnnealing(10)
    annealing["T"] = [(0, 1.0)]
    for name in (*_NOISES, *(f"{parameter}_noise" for parameter in start)):
        annealing[name] = [(0, 0.0)]
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")  # it exponentiates log-probabilities that underflow
        began = time.perf_counter()
        new = theirs.step(annealing, dict(start), {"y": X})
    return new, time.perf_counter() - began
