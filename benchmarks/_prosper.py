"""One step of ProSper's binary sparse coding, from a source checkout of ml-uol/prosper.

ProSper was written for NumPy before 1.24. The patches it needs today are these aliases, set before
it is imported: ``np.int = int``, ``np.bool = bool``, ``np.object = object``, ``np.float = float``.
It also needs the packages ``six``, ``tables`` and ``mpi4py``.
"""

import sys
import time

import numpy as np

_ALIASES = {"int": int, "bool": bool, "object": object, "float": float}


def step(path, X, init, n_candidates, max_active):
    """Run one EM step; return the new parameters and its seconds."""
    for name, kind in _ALIASES.items():
        if name not in np.__dict__:
            setattr(np, name, kind)
    sys.path.insert(0, str(path))
    from prosper.em.annealing import LinearAnnealing
    from prosper.em.camodels.bsc_et import BSC_ET

    H, D = init["components"].shape
    model = BSC_ET(D, H, n_candidates, max_active)
    annealing = LinearAnnealing(10)
    annealing["T"] = [(0, 1.0)]
    for name in ("Ncut_factor", "anneal_prior", "W_noise", "pi_noise", "sigma_noise", "data_noise"):
        annealing[name] = [(0, 0.0)]
    start = {"W": init["components"].T, "pi": init["prior"], "sigma": init["noise_scale"]}
    began = time.perf_counter()
    new = model.step(annealing, start, {"y": X})
    seconds = time.perf_counter() - began
    return {"components": new["W"].T, "prior": new["pi"], "noise_scale": new["sigma"]}, seconds
