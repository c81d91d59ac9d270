"""Steps of projected gradient descent on all rows of a weight, each in one pass over memory.

W is the weight, V the iterate, D = W - V, and G = D C holds minus half the gradient.
"""

import numpy as np
from numba import njit, prange

_options = {"cache": True, "nogil": True}  # products with C take most of the time


@njit(**_options)
def ascend(V, D, G, step, losses):
    """Write tr(D C D^T) of each row to `losses`, and V + step * G to G."""
    for i in range(V.shape[0]):
        total = 0.0
        for j in range(V.shape[1]):
            g = G[i, j]
            total += g * D[i, j]
            G[i, j] = V[i, j] + step * g
        losses[i] = total


@njit(**_options)
def take(W, Z, mask, V, D, changes):
    """Let V be Z on the mask, D follow; write the squared change of each row to `changes`."""
    zero = Z.dtype.type(0)
    for i in range(V.shape[0]):
        total = 0.0
        for j in range(V.shape[1]):
            new = Z[i, j] if mask[i, j] else zero
            difference = new - V[i, j]
            total += difference * difference
            V[i, j] = new
            D[i, j] = W[i, j] - new
        changes[i] = total


@njit(**_options)
def keep_better(V, losses, best, best_losses):
    """Copy the rows of V whose loss is below that of the best so far."""
    for i in range(V.shape[0]):
        if losses[i] < best_losses[i]:
            best_losses[i] = losses[i]
            best[i] = V[i]


@njit(cache=True, parallel=True)
def prune_columns(W, kept, U, n, m, scale, zero, top, errors):
    """Prune and round columns of W from left to right, each correcting those after it.

    Parameters
    ----------
    W : array of shape (d_out, d)
        Changed in place.
    kept : bool array of shape (d_out, d)
        Which weights stay; written here where m > 0, n of each m columns.
    U : array of shape (d, d)
        Upper Cholesky factor of the inverse Gram matrix, the part of these columns.
    scale, zero : arrays of shape (d_out, d)
        Levels (q - zero) * scale of the weights that stay, q = 0, ..., top.
    top : int
        0 for weights that are not rounded.
    errors : array of shape (d_out, d)
        What later columns have to make up for, in units of rows of U.
    """
    d = W.shape[1]
    for i in prange(W.shape[0]):
        row, error, keep = W[i], errors[i], kept[i]
        for j in range(d):
            if m > 0 and j % m == 0:
                _choose(row, U, j, n, m, keep)
            value = row[j] if keep[j] else 0.0
            if keep[j] and top > 0:
                code = np.rint(row[j] / scale[i, j]) + zero[i, j]
                value = (min(max(code, 0.0), top) - zero[i, j]) * scale[i, j]
            error[j] = (row[j] - value) / U[j, j]
            row[j] = value
            if error[j] != 0:
                for k in range(j + 1, d):
                    row[k] -= error[j] * U[j, k]


@njit(cache=True)
def _choose(row, U, first, n, m, keep):
    """Keep the n of m columns that would be missed most; of equal ones the first."""
    for j in range(first, first + m):
        score = (row[j] / U[j, j]) ** 2
        before = 0
        for k in range(first, first + m):
            other = (row[k] / U[k, k]) ** 2
            before += other > score or (other == score and k < j)
        keep[j] = before < n
