"""Top-k inference: the most probable states of each point with their true probabilities."""

import numpy as np

from .._arrays import compute_namespace, to_numpy
from .._kernels._state_search_numba import listed_posterior
from ._state_arrays import normalized, state_marginals, states_of
from ._states import build_state_table

_ENERGY_BYTES = 64 * 2**20  # energies of all states of a chunk stay below this


def rows_per_chunk(n_states, dtype):
    """Rows whose state energies fit into a moderate buffer."""
    return max(1, _ENERGY_BYTES // (n_states * np.dtype(dtype).itemsize))


def top_states(model, Y, context, table, top_k):
    """Most probable states of a chunk.

    Returns
    -------
    states : ndarray of shape (n, k, H)
    log_prob : ndarray of shape (n, k), float64
        Normalized over K_n, descending.
    marginals : ndarray of shape (n, V, H)
    """
    xp = compute_namespace(Y)
    candidates, energies = model.state_energies(Y, context, table)
    q, log_norm, _ = normalized(energies)
    k, H = min(top_k, len(energies)), len(context.components)
    order = _largest(energies, k)
    log_prob = xp.take_along_axis(energies, order, axis=0) - log_norm
    states = states_of(order, candidates, table, model.values, H)
    marginals = state_marginals(q, candidates, table, len(model.values), H)
    return states, to_numpy(log_prob.T), to_numpy(xp.moveaxis(marginals, 2, 0))


def top_kept_states(model, search, Y, context, table, rows, top_k):
    """Most probable states of a chunk among those that a search finds; as `infer_rows` returns."""
    H, V = len(context.components), len(model.values)
    kept, places, energies = model.improved_states(Y, context, table, search, rows)
    _, _, marginals = listed_posterior(kept, places, energies, model.values, H, np.float64)
    k = min(top_k, energies.shape[1])
    order = np.argsort(-energies, axis=1, kind="stable")[:, :k]
    log_prob = np.take_along_axis(energies, order, axis=1)
    log_prob -= np.logaddexp.reduce(energies, axis=1)[:, None]
    units = np.take_along_axis(kept[places], order[:, :, None], axis=1).astype(np.int64)
    states = np.zeros((len(rows), k, H))
    row, number, place = np.nonzero(units < H * V)
    unit = units[row, number, place]
    states[row, number, unit // V] = model.values[unit % V]
    return {
        "states": states, "log_prob": log_prob, "marginals": np.moveaxis(marginals, 2, 0),
        "n_candidates": np.full(len(rows), H), "max_active": np.full(len(rows), kept.shape[2]),
    }  # fmt: skip


def _largest(energies, k):
    """Row numbers (k, n) of the k largest entries of each column, descending."""
    xp = compute_namespace(energies)
    if k < len(energies):
        order = xp.argpartition(-energies, k - 1, axis=0)[:k]
    else:
        order = xp.broadcast_to(xp.arange(k)[:, None], energies.shape)
    inner = xp.argsort(-xp.take_along_axis(energies, order, axis=0), axis=0)
    return xp.take_along_axis(order, inner, axis=0)


def infer_rows(model, Y, context, table, *, top_k, adaptive, limits, max_states):
    """Infer the rows of a chunk, widening the state set where the best state hits the limit.

    Returns a dict of ndarrays: states, log_prob, marginals, n_candidates, max_active.
    """
    states, log_prob, marginals = top_states(model, Y, context, table, top_k)
    n, H = len(Y), states.shape[2]
    result = {
        "states": states, "log_prob": log_prob, "marginals": marginals,
        "n_candidates": np.full(n, table.n_candidates), "max_active": np.full(n, table.max_active),
    }  # fmt: skip
    xp = compute_namespace(Y)
    while adaptive:
        n_candidates, max_active = table.n_candidates + 1, table.max_active + 1
        full = (result["states"][:, 0] != 0).sum(axis=1) == table.max_active
        redo = np.flatnonzero(full & (result["max_active"] == table.max_active))
        n_candidates = min(n_candidates, limits[0])
        if not redo.size or max_active > min(limits[1], n_candidates):
            break
        table = build_state_table(
            n_candidates, max_active, table.n_values, n_components=H, max_states=max_states
        )
        wider = top_states(model, Y[xp.asarray(redo)], context, table, top_k)
        for name, value in zip(("states", "log_prob", "marginals"), wider, strict=True):
            k = min(result[name].shape[1], value.shape[1]) if name != "marginals" else None
            result[name][redo] = value[:, :k]
        result["n_candidates"][redo], result["max_active"][redo] = n_candidates, max_active
    return result
