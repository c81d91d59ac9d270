"""Whole-array formulas for spike-and-slab states: slower than the kernel, but for any row.

Each row may have couplings of its own, as with missing entries, and slabs may be correlated. States
are numbered as in `_state_arrays`. The recursions are those of ``_kernels._slab_support``.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from .._arrays import compute_namespace
from ._linear_model import add_pairs
from ._state_arrays import add_rows, normalized


class SlabPoints(NamedTuple):
    """What the energies of a chunk depend on; latents in units of their slabs' deviations."""

    projections: object  # (H, n)
    diagonal: object  # (H, n) or (H, 1), couplings of latents with themselves
    couplings: object  # function (i, j) of two slots, gives the couplings (n,) of the candidates
    candidates: object  # (n_candidates, n)
    ratio: object  # (H,), prior means
    bias: object  # (H,), log-odds
    correlation: object  # (H, H) of the slabs, or None where they are independent


@dataclass
class WeightedSums:
    """Sums over states of q v and q (v v' + M), for vectors v and matrices M of their latents."""

    first: Any  # (H, n)
    squares: Any  # (H, n), diagonal of the second sum
    pairs: dict = field(default_factory=dict)  # (i, j) with i > j -> (n,), for two candidates

    def add(self, w, slots, places, vector, matrix, sign):
        """Add a state with weights w (n,)."""
        for k, i in enumerate(slots):
            self.first[places[i]] += w * vector[k]
            self.squares[places[i]] += w * (sign * matrix[k][k] + vector[k] ** 2)
            for m, j in enumerate(slots[:k]):
                part = w * (sign * matrix[k][m] + vector[k] * vector[m])
                self.pairs[i, j] = self.pairs.get((i, j), 0) + part


class SlabMoments(NamedTuple):
    """Truncated posterior of the points of a chunk, float64."""

    log_norm: object  # (n,)
    mean_gain: object  # (n,), of the log-likelihood relative to the null state
    marginals: object  # (H, n)
    codes: WeightedSums  # of z, V: moments of s z
    pulls: WeightedSums | None  # of x, -E: what moves slabs that are correlated


def single_energies(projections, diagonal, ratio, bias):
    """Energies (H, n) of the singletons relative to the null state."""
    xp, r = compute_namespace(projections), ratio[:, None]
    gain = (0.5 * projections + r) * projections - 0.5 * r**2 * diagonal
    return bias[:, None] + gain / (1 + diagonal) - 0.5 * xp.log1p(diagonal)


def slab_energies(points, table):
    """Energies (1 + H + S, n) of all states."""
    xp, (H, n) = compute_namespace(points.projections), points.projections.shape
    energies = xp.empty((1 + H + len(table.length), n), dtype=points.projections.dtype)
    energies[0] = 0.0
    energies[1 : 1 + H] = single_energies(
        points.projections, points.diagonal, points.ratio, points.bias
    )
    for s, _, state in _walk(points, table):
        energies[1 + H + s] = state.energy
    return energies


def slab_moments(points, table):
    """Truncated posterior over all states, and its moments."""
    xp, (H, n) = compute_namespace(points.projections), points.projections.shape
    q, log_norm, _ = normalized(slab_energies(points, table))
    B, r, a = points.projections, points.ratio[:, None], points.diagonal
    mean, variance, single = (B + r) / (1 + a), 1 / (1 + a), q[1 : 1 + H]
    marginals, pulls = single.copy(), None
    codes = WeightedSums(single * mean, single * (variance + mean**2))
    if points.correlation is not None:
        x = mean - r
        pulls = WeightedSums(single * x, single * (variance - 1 + x**2))
    columns = xp.arange(n)
    places = [(h, columns) for h in points.candidates]
    for s, slots, state in _walk(points, table):
        w = q[1 + H + s]
        for i in slots:
            marginals[places[i]] += w
        codes.add(w, slots, places, state.mean, state.covariance, 1)
        if pulls is not None:
            pulls.add(w, slots, places, state.pull, state.rest, -1)
    mean_gain = (codes.first * B).sum(axis=0) - 0.5 * (codes.squares * a).sum(axis=0)
    for (i, j), moment in codes.pairs.items():
        mean_gain -= points.couplings(i, j) * moment
    return SlabMoments(log_norm, mean_gain, marginals, codes, pulls)


class _State(NamedTuple):
    """A state: lists of arrays (n,) over its latents; see ``_kernels._slab_support``."""

    energy: object
    mean: list  # E[z]
    covariance: list  # V
    mixed: list  # F
    rest: list  # E
    pull: list  # x


class _Candidates(NamedTuple):
    """Arrays (n,) for each candidate, or pair of them."""

    projection: list
    ratio: list
    bias: list
    coupling: list
    correlation: list | None


def _gathered(points):
    xp, n = compute_namespace(points.projections), points.projections.shape[1]
    who, columns = list(points.candidates), xp.arange(n)
    diagonal = xp.broadcast_to(points.diagonal, points.projections.shape)
    coupling = [
        [points.couplings(i, j) for j in range(i)] + [diagonal[who[i], columns]]
        for i in range(len(who))
    ]
    R = points.correlation
    return _Candidates(
        [points.projections[h, columns] for h in who],
        [points.ratio[h] for h in who],
        [points.bias[h] for h in who],
        coupling,
        None if R is None else [[R[h, g] for g in who[:i]] for i, h in enumerate(who)],
    )


def _walk(points, table):
    """Yield number, slots and `_State` of each state of the table, depth first."""
    if not len(table.length):
        return
    each = _gathered(points)
    add = _with_independent if each.correlation is None else _with_correlated
    empty = _State(0.0, [], [], [], [], [])
    path, slots = [empty], [-1]
    for s in np.lexsort(table.members.T[::-1]).tolist():
        n, before = int(table.length[s]), slots
        slots = table.members[s, :n].tolist()
        if slots[0] != before[0]:
            path = [empty, add(empty, [], slots[0], each)]
        path = [*path[:n], add(path[n - 1], slots[:-1], slots[-1], each)]
        yield s, slots, path[n]


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def _bordered(M, column, corner):
    """A symmetric matrix with one row and column more."""
    return [[*row, x] for row, x in zip(M, column, strict=True)] + [[*column, corner]]


def _with_independent(state, slots, j, each):
    """State with candidate j added, where slabs are independent."""
    xp = compute_namespace(each.projection[j])
    p, r = [each.coupling[j][i] for i in slots], each.ratio[j]
    u = [_dot(row, p) for row in state.covariance]
    v = each.projection[j] - _dot(p, state.mean)
    left = each.coupling[j][j] - _dot(p, u)
    share = 1 / (1 + left)
    m = (v + r) * share
    gain = ((0.5 * v + r) * v - 0.5 * r**2 * left) * share
    scaled = [x * share for x in u]
    covariance = [
        [V + y * x for V, x in zip(row, u, strict=True)]
        for row, y in zip(state.covariance, scaled, strict=True)
    ]
    return _State(
        state.energy + each.bias[j] + gain - 0.5 * xp.log1p(left),
        [*(old - x * m for old, x in zip(state.mean, u, strict=True)), m],
        _bordered(covariance, [-y for y in scaled], share),
        [], [], [],
    )  # fmt: skip


def _with_correlated(state, slots, j, each):
    """State with candidate j added, where slabs are correlated."""
    xp = compute_namespace(each.projection[j])
    p, rho = [each.coupling[j][i] for i in slots], each.ratio[j]
    r = [each.correlation[j][i] for i in slots]
    n = range(len(slots))
    V, F, E, x = state.covariance, state.mixed, state.rest, state.pull
    u, g = [_dot(row, p) for row in V], [_dot(row, r) for row in F]
    f = [sum(F[i][k] * p[i] for i in n) for k in n]
    e = [_dot(row, r) for row in E]
    left, cross, rest = each.coupling[j][j] - _dot(p, u), 1 + _dot(p, g), 1 - _dot(r, e)
    scale = left * rest + cross**2
    v = each.projection[j] - _dot(p, state.mean)
    first, pull = v - rho * left, _dot(r, x) - rho * _dot(r, f)
    t1, t2 = (rest * first + cross * pull) / scale, (cross * first - left * pull) / scale
    t11, t12, t22 = rest / scale, cross / scale, left / scale
    gain = rho * v - 0.5 * rho**2 * left + 0.5 * (first * t1 + pull * t2)
    u1, u2 = _rows(u, g, t11, -t12), _rows(u, g, t12, t22)
    f1, f2 = _rows(f, e, t11, t12), _rows(f, e, t12, -t22)
    mixed = [
        [*(F[k][i] + u1[k] * f[i] + u2[k] * e[i] for i in n), -u2[k]] for k in n
    ] + [[*(-y for y in f1), t12]]  # fmt: skip
    covariance = [[V[k][i] + u1[k] * u[i] - u2[k] * g[i] for i in n] for k in n]
    others = [[E[k][i] - f1[k] * f[i] - f2[k] * e[i] for i in n] for k in n]
    return _State(
        state.energy + each.bias[j] + gain - 0.5 * xp.log(scale),
        [*(state.mean[k] - u[k] * (rho + t1) + g[k] * t2 for k in n), rho + t1],
        _bordered(covariance, [-y for y in u1], t11),
        mixed,
        _bordered(others, f2, t22),
        [*(x[k] - f[k] * (rho + t1) - e[k] * t2 for k in n), t2],
    )


def _rows(a, b, s, t):
    return [x * s + y * t for x, y in zip(a, b, strict=True)]


def summed(sums, candidates):
    """Second sums (H, H) over points."""
    total = compute_namespace(sums.squares).diag(sums.squares.sum(axis=1))
    for (i, j), part in sums.pairs.items():
        add_pairs(total, candidates[i], candidates[j], part)
    return total


def imputed(absent, candidates, codes, context):
    """Sums over points (H, D) of E[s z (W (s z))'] where entries are absent."""
    atoms, n_slots = context.atoms, len(candidates)
    total = (codes.squares @ absent) * atoms
    for i in range(n_slots):
        others = [j for j in range(n_slots) if (max(i, j), min(i, j)) in codes.pairs]
        expected = sum(
            codes.pairs[max(i, j), min(i, j)][:, None] * atoms[candidates[j]] for j in others
        )
        if others:
            add_rows(total, candidates[i], expected * absent)
    return total * context.scale[:, None]
