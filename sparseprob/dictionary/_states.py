"""The table of states with two or more active causes, built once per fit.

Expectation Truncation (J. Lücke, J. Eggert, JMLR 11:2855-2900, 2010).
"""

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np


class StateTable(NamedTuple):
    """States over the candidates with 2..max_active non-zero values, parents before children.

    Unit ``u = slot * V + k`` means: the candidate in `slot` takes its k-th non-zero value. Parents
    are numbered in the list of all ``U = n_candidates * V`` single units followed by the S states.
    """

    parent: np.ndarray  # (S,) int32, the state without its last unit
    unit: np.ndarray  # (S,) int32, the last unit
    members: np.ndarray  # (S, max_active) int32, all units in the order of slots, padded with -1
    length: np.ndarray  # (S,) int32, number of units
    n_candidates: int
    max_active: int
    n_values: int  # zero included


def n_states(n_components, n_candidates, max_active, n_values=2):
    """Number of states evaluated per row: none, every single cause, and the table."""
    return 1 + (n_values - 1) * n_components + _table_size(n_candidates, max_active, n_values)


def _table_size(n_candidates, max_active, n_values):
    return sum(comb(n_candidates, g) * (n_values - 1) ** g for g in range(2, max_active + 1))


def build_state_table(n_candidates, max_active, n_values=2, *, n_components, max_states=200_000):
    """Build the table, or say in one sentence why the numbers do not go together.

    Parameters
    ----------
    n_candidates : int
        Candidates preselected per row, H'.
    max_active : int
        Largest number of active causes of a state.
    n_values : int, default=2
        Values of a latent, zero included.
    n_components : int
        Number of latents, H.
    max_states : int, default=200_000
        Refuse larger tables.
    """
    if n_candidates > n_components:
        raise ValueError(
            f"n_candidates must not exceed n_components, got n_candidates={n_candidates} and "
            f"n_components={n_components}; lower n_candidates."
        )
    if max_active > n_candidates:
        raise ValueError(
            f"max_active must not exceed n_candidates, got max_active={max_active} and "
            f"n_candidates={n_candidates}; lower max_active or raise n_candidates."
        )
    size = _table_size(n_candidates, max_active, n_values)
    if size > max_states:
        raise ValueError(
            f"The state table would have S={size} states for n_candidates={n_candidates} and "
            f"max_active={max_active}, more than max_states={max_states}; lower n_candidates or "
            "max_active, or raise max_states."
        )
    levels, V = [np.arange(n_candidates * (n_values - 1))[:, None]], n_values - 1
    parent, unit, first = [], [], 0
    for length in range(2, max_active + 1):
        members = _states_of_length(n_candidates, length, V)
        order = _numbers(levels[-1], members[:, :-1])
        parent.append(first + order)
        unit.append(members[:, -1])
        first += len(levels[-1])
        levels.append(members)
    return StateTable(
        parent=_joined(parent),
        unit=_joined(unit),
        members=np.concatenate(
            [np.empty((0, max_active), np.int32)] + [_padded(m, max_active) for m in levels[1:]]
        ),
        length=_joined([np.full(len(m), m.shape[1]) for m in levels[1:]]),
        n_candidates=int(n_candidates),
        max_active=int(max_active),
        n_values=int(n_values),
    )


def _states_of_length(n_candidates, length, V):
    """All states with exactly `length` active slots, as units (S, length), ordered."""
    slots = np.array(list(combinations(range(n_candidates), length)), dtype=np.int64)
    slots = slots.reshape(-1, length)
    values = np.stack(np.meshgrid(*[np.arange(V)] * length, indexing="ij"), -1).reshape(-1, length)
    units = slots[:, None, :] * V + values[None]
    return units.reshape(-1, length)


def _numbers(states, wanted):
    """Positions in `states` of the rows `wanted`, all of which occur."""
    base = int(states.max(initial=0)) + 2
    weights = [base**i for i in range(states.shape[1] - 1, -1, -1)]
    if base ** states.shape[1] < 2**62:
        keys, sought = states @ np.array(weights), wanted @ np.array(weights)
        order = np.argsort(keys)
        return order[np.searchsorted(keys, sought, sorter=order)]
    numbers = {tuple(row): i for i, row in enumerate(states.tolist())}
    return np.array([numbers[tuple(row)] for row in wanted.tolist()])


def _joined(pieces):
    return np.concatenate([np.empty(0, np.int32), *pieces]).astype(np.int32)


def _padded(members, width):
    padded = np.full((len(members), width), -1, dtype=np.int32)
    padded[:, : members.shape[1]] = members
    return padded
