"""Initial parameters: around the mean, from random rows, or given by the user."""

import numpy as np

from .. import mpi
from .._arrays import is_array, to_numpy


def initial_parameters(init, model, X, summary, H, rng):
    """Return the parameters a fit starts from; the same on every rank.

    Parameters
    ----------
    init : {"mean", "data"}, array of shape (H, D), or dict
        A dict may hold "components", "prior", "noise_scale", "offset".
    model : TruncatedModel
    X : array or row source
        The rows of this rank.
    summary : RowSummary
    H : int
    rng : numpy.random.Generator
        Equal on every rank.
    """
    params = model.initial(summary, H, rng)
    if isinstance(init, str):
        if init == "data":
            rows = _random_rows(X, summary, H, rng) - params.get("offset", 0.0)
            params["components"] = np.clip(rows, *model.bounds["components"])
        return params
    given = init if isinstance(init, dict) else {"components": init}
    unknown = set(given) - set(params)
    if unknown:
        raise ValueError(f"init has unknown entries {sorted(unknown)}; known are {sorted(params)}.")
    for name, value in given.items():
        params[name] = _checked(name, value, np.shape(params[name]), model)
    model.check_initial(params)
    return params


def _checked(name, value, shape, model):
    value = np.array(to_numpy(value) if is_array(value) else value, dtype=np.float64)
    if name == "prior" and value.ndim == 0:
        value = np.full(shape, float(value) / (shape[0] if model.shared_prior else 1))
    if value.shape != shape:
        raise ValueError(f"init[{name!r}] must have shape {shape}, got {value.shape}.")
    if not np.isfinite(value).all():
        raise ValueError(f"init[{name!r}] must be finite; replace NaN and infinity.")
    if name == "prior":
        model.check_prior(value)
    if name == "noise_scale" and not value > 0:
        raise ValueError(f"init['noise_scale'] must be positive, got {float(value)}.")
    if name == "components" and not np.abs(value).sum(axis=1).all():
        raise ValueError("init['components'] has a row of zeros; give every atom a direction.")
    return value


def _random_rows(X, summary, H, rng):
    """H random rows of the whole data; each rank contributes the rows it holds."""
    n = summary.n_rows
    chosen = rng.permutation(n)[:H] if n <= 10**6 else rng.integers(n, size=H)
    chosen = np.resize(chosen, H)
    rows = np.zeros((H, len(summary.mean)))
    with mpi.errors_together():
        for i, row in enumerate(chosen - summary.offset):
            if 0 <= row < summary.n_local:
                found = to_numpy(X[int(row) : int(row) + 1])[0]
                rows[i] = np.where(np.isnan(found), summary.mean, found)
    return mpi.row_sum(rows)
