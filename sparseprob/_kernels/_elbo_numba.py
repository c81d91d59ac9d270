"""Evidence lower bound of sparse inverse Cholesky posteriors, column by column (Cao et al., 2023).

Column i sees its ancestors A_i only. With T the rows and columns A_i of the posterior factor V, and
u column i of the prior factor U, it solves w = T^-1 e_last and h = T^-1 u, and for gradients
s = T^-T w and t = T^-T h. Members of A_i that no entry of V leads to are left out on the way.
"""

import numpy as np
from numba import njit, prange

_BLOCK = 64  # columns that a buffer takes at a time, in turn with the other buffers


@njit(cache=True, nogil=True)
def _mark(members, where):
    for a in range(members.shape[0]):
        where[members[a]] = a


@njit(cache=True, nogil=True)
def _unmark(members, where):
    for a in range(members.shape[0]):
        where[members[a]] = -1


@njit(cache=True, nogil=True)
def _solve_one(members, indptr, indices, V, where, w):
    """Replace w by T^-1 w and return its squared length; w is zero where nothing leads to."""
    total = 0.0
    for a in range(members.shape[0] - 1, -1, -1):
        if w[a] == 0.0:
            continue
        last = indptr[members[a] + 1] - 1
        value = w[a] / V[last]
        w[a] = value
        total += value * value
        for e in range(indptr[members[a]], last):
            place = where[indices[e]]
            if place >= 0:
                w[place] -= V[e] * value
    return total


@njit(cache=True, parallel=True)
def marginal_columns(columns, anc_indptr, anc_indices, indptr, indices, V, n_buffers, out):
    """Write the posterior variance of every column, ``|V^-1 e_i|^2`` on its ancestors, into out.

    Parameters
    ----------
    columns : int64 array of shape (b,)
    anc_indptr : int64 array of shape (n + 1,)
    anc_indices : int32 array
        Ancestors of every column, ascending, the column itself last.
    indptr : int64 array of shape (n + 1,)
    indices : int32 array of shape (nnz,)
        Pattern of V, likewise.
    V : float64 array of shape (nnz,)
    n_buffers : int
        Pieces of work that run side by side.
    out : float64 array of shape (b,)
    """
    n, longest = indptr.shape[0] - 1, _longest(columns, anc_indptr)
    for buffer in prange(n_buffers):
        where, w = np.full(n, -1, np.int32), np.empty(longest)
        for start in range(buffer * _BLOCK, columns.shape[0], n_buffers * _BLOCK):
            for c in range(start, min(start + _BLOCK, columns.shape[0])):
                i = columns[c]
                members = anc_indices[anc_indptr[i] : anc_indptr[i + 1]]
                size = members.shape[0]
                _mark(members, where)
                w[:size] = 0.0
                w[size - 1] = 1.0
                out[c] = _solve_one(members, indptr, indices, V, where, w)
                _unmark(members, where)


@njit(cache=True)
def _longest(columns, indptr):
    longest = 1
    for c in range(columns.shape[0]):
        longest = max(longest, indptr[columns[c] + 1] - indptr[columns[c]])
    return longest


@njit(cache=True, parallel=True)
def elbo_gradient_columns(
    columns, prior_indptr, prior_indices, U, anc_indptr, anc_indices, indptr, indices, V, delta,
    by_variance, terms, dU, dV, dnu,
):  # fmt: skip
    """Terms of the bound without the likelihood, and the gradient of the bound.

    The term of column i is ``log U_ii - log V_ii - (U_i . delta)^2 / 2 - |V^-1 U_i|^2 / 2``.

    Parameters
    ----------
    columns : int64 array of shape (b,)
    prior_indptr, prior_indices, U
        The factor of the prior by columns; its patterns lie within the ancestors.
    anc_indptr, anc_indices, indptr, indices, V
        See `marginal_columns`.
    delta : float64 array of shape (n,)
        Posterior less prior mean.
    by_variance : float64 array of shape (b,)
        Derivatives of the expected log likelihood by the marginal variances.
    terms : float64 array of shape (b,)
        Written.
    dU : float64 array of the shape of U
        Written, for these columns.
    dV : float64 array of shape (n_buffers, nnz)
    dnu : float64 array of shape (n_buffers, n)
        Added to; their sums over buffers are the gradients. That of dnu lacks the likelihood's.
    """
    n, n_buffers = indptr.shape[0] - 1, dV.shape[0]
    longest = _longest(columns, anc_indptr)
    widest = _longest(np.arange(n), indptr)
    for buffer in prange(n_buffers):
        where, vectors = np.full(n, -1, np.int32), np.empty((4, longest))
        places, entries = np.empty(longest * widest, np.int32), np.empty(longest * widest, np.int64)
        ends = np.empty(longest + 1, np.int64)
        for start in range(buffer * _BLOCK, columns.shape[0], n_buffers * _BLOCK):
            for c in range(start, min(start + _BLOCK, columns.shape[0])):
                i = columns[c]
                members = anc_indices[anc_indptr[i] : anc_indptr[i + 1]]
                own = slice(prior_indptr[i], prior_indptr[i + 1])
                _mark(members, where)
                terms[c] = _column(
                    members, prior_indices[own], U[own], indptr, indices, V, delta,
                    by_variance[c], where, vectors, (places, entries, ends),
                    dU[own], dV[buffer], dnu[buffer],
                )  # fmt: skip
                _unmark(members, where)


@njit(cache=True, nogil=True)
def _column(
    members, pattern, u, indptr, indices, V, delta, by_variance, where, vectors, found, du, dV, dnu
):
    """Term of one column; its gradient is written to du and added to dV and dnu."""
    size, last = members.shape[0], pattern.shape[0] - 1
    w, h, s, t = vectors[0], vectors[1], vectors[2], vectors[3]
    w[:size], h[:size] = 0.0, 0.0
    w[size - 1] = 1.0
    projected = 0.0
    for a in range(last + 1):
        h[where[pattern[a]]] = u[a]
        projected += u[a] * delta[pattern[a]]
    squares = _solve_both(members, indptr, indices, V, where, w, h, found)
    _transposed_and_add(members, indptr, V, by_variance, w, h, s, t, found, dV)
    i = members[size - 1]
    own = V[indptr[i + 1] - 1]
    dV[indptr[i + 1] - 1] -= 1.0 / own
    for a in range(last + 1):
        dnu[pattern[a]] -= projected * u[a]
        du[a] = -projected * delta[pattern[a]] - t[where[pattern[a]]]
    du[last] += 1.0 / u[last]
    return np.log(u[last] / own) - 0.5 * (projected * projected + squares)


@njit(cache=True, nogil=True)
def _solve_both(members, indptr, indices, V, where, w, h, found):
    """Replace w and h by T^-1 w and T^-1 h; note the entries of T on the way.

    The entries of column a of T are ``ends[a + 1], ..., ends[a] - 1`` of the lists.
    """
    places, entries, ends = found
    n_found, squares = 0, 0.0
    for a in range(members.shape[0] - 1, -1, -1):
        ends[a + 1] = n_found
        if w[a] == 0.0 and h[a] == 0.0:
            continue
        last = indptr[members[a] + 1] - 1
        value, other = w[a] / V[last], h[a] / V[last]
        w[a], h[a] = value, other
        squares += other * other
        for e in range(indptr[members[a]], last):
            place = where[indices[e]]
            if place >= 0:
                places[n_found], entries[n_found] = place, e
                n_found += 1
                w[place] -= V[e] * value
                h[place] -= V[e] * other
    ends[0] = n_found
    return squares


@njit(cache=True, nogil=True)
def _transposed_and_add(members, indptr, V, by_variance, w, h, s, t, found, dV):
    """Solve s = T^-T w and t = T^-T h; add t h^T - 2 by_variance s w^T to dV on its pattern."""
    places, entries, ends = found
    factor = -2.0 * by_variance
    for a in range(members.shape[0]):
        if w[a] == 0.0 and h[a] == 0.0:
            s[a], t[a] = 0.0, 0.0
            continue
        value, other = w[a], h[a]
        left, right = factor * w[a], h[a]
        for f in range(ends[a + 1], ends[a]):
            place, e = places[f], entries[f]
            value -= V[e] * s[place]
            other -= V[e] * t[place]
            dV[e] += t[place] * right + s[place] * left
        last = indptr[members[a] + 1] - 1
        s[a], t[a] = value / V[last], other / V[last]
        dV[last] += t[a] * right + s[a] * left


@njit(cache=True, parallel=True)
def projected_variances(
    neighbors, weights, anc_indptr, anc_indices, indptr, indices, V, n_buffers, out
):
    """Write ``|V^-1 b|^2`` into out for every query, b holding its weights at its neighbors.

    V is restricted to the union of the neighbors' ancestors; with no ``anc_indices`` it is whole.

    Parameters
    ----------
    neighbors : int32 array of shape (q, m)
    weights : float64 array of shape (q, m)
    anc_indptr, anc_indices, indptr, indices, V, n_buffers
        See `marginal_columns`.
    out : float64 array of shape (q,)
    """
    n, whole = indptr.shape[0] - 1, anc_indices.shape[0] == 0
    for buffer in prange(n_buffers):
        where, b = np.full(n, -1, np.int32), np.zeros(n)
        members = np.arange(n).astype(np.int32)
        if whole:
            where[:] = members
        for start in range(buffer * _BLOCK, neighbors.shape[0], n_buffers * _BLOCK):
            for q in range(start, min(start + _BLOCK, neighbors.shape[0])):
                if whole:
                    size = neighbors[q].max() + 1
                else:
                    size = _union(neighbors[q], anc_indptr, anc_indices, where, members)
                b[:size] = 0.0
                for a in range(neighbors.shape[1]):
                    b[where[neighbors[q, a]]] = weights[q, a]
                out[q] = _solve_one(members[:size], indptr, indices, V, where, b)
                if not whole:
                    _unmark(members[:size], where)


@njit(cache=True, nogil=True)
def _union(points, anc_indptr, anc_indices, where, members):
    """Write the union of the points' ancestors into members, ascending; mark their places."""
    size = 0
    for a in range(points.shape[0]):
        for e in range(anc_indptr[points[a]], anc_indptr[points[a] + 1]):
            if where[anc_indices[e]] < 0:
                where[anc_indices[e]] = 0
                members[size] = anc_indices[e]
                size += 1
    members[:size].sort()
    _mark(members[:size], where)
    return size


@njit(cache=True)
def closure(indptr, indices, first, counts, out):
    """All ancestors of every column: the pattern's closure, ascending, the column itself last.

    With an empty out, counts them only.

    Parameters
    ----------
    indptr, indices
        Pattern of the factor.
    first : int64 array of shape (n + 1,)
        Where to write every column's.
    counts : int64 array of shape (n,)
        Written.
    out : int32 array
    """
    n = indptr.shape[0] - 1
    seen = np.full(n, -1, np.int64)
    for j in range(n):
        seen[j] = j
        count = 0
        for i in range(j, -1, -1):  # every ancestor is met after all columns that lead to it
            if seen[i] != j:
                continue
            count += 1
            for e in range(indptr[i], indptr[i + 1]):
                seen[indices[e]] = j
        counts[j] = count
        if out.shape[0] > 0:
            place = first[j]
            for i in range(j + 1):
                if seen[i] == j:
                    out[place] = i
                    place += 1
