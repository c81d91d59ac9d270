"""The state table: every state once, parents before children, and refusals that name S."""

from itertools import combinations, product

import numpy as np
import pytest

from sparseprob.dictionary._states import build_state_table, n_states


@pytest.mark.parametrize(
    ("n_candidates", "max_active", "n_values"),
    [(1, 1, 2), (8, 4, 2), (5, 1, 3), (5, 3, 3), (6, 6, 2), (4, 4, 4), (20, 2, 2)],
)
def test_table_lists_every_state_once(n_candidates, max_active, n_values):
    table = build_state_table(n_candidates, max_active, n_values, n_components=n_candidates)
    V = n_values - 1
    wanted = {
        tuple(slot * V + k for slot, k in zip(slots, values, strict=True))
        for length in range(2, max_active + 1)
        for slots in combinations(range(n_candidates), length)
        for values in product(range(V), repeat=length)
    }
    states = [tuple(u for u in row if u >= 0) for row in table.members.tolist()]
    assert len(states) == len(set(states))
    assert set(states) == wanted
    U = n_candidates * V
    for s, state in enumerate(states):
        parent = table.parent[s]
        above = (parent,) if parent < U else states[parent - U]
        assert parent < U + s
        assert state == (*above, table.unit[s])
        assert table.length[s] == len(state)
    assert n_states(n_candidates, n_candidates, max_active, n_values) == 1 + U + len(states)


def test_deep_tables_do_not_overflow():
    table = build_state_table(70, 2, 2, n_components=100)
    assert len(table.length) == 70 * 69 // 2
    deep = build_state_table(13, 13, 3, n_components=13, max_states=10**7)
    assert len(deep.length) == 3**13 - 1 - 26
    assert (deep.parent < 26 + np.arange(len(deep.length))).all()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((6, 3, 2), "n_candidates must not exceed n_components"),
        ((4, 5, 2), "max_active must not exceed n_candidates"),
        ((5, 5, 9), "S=59008 states .* lower n_candidates or max_active"),
    ],
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        build_state_table(*sizes, n_components=5, max_states=10_000)
