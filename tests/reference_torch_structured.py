"""Monarch, Kronecker and mixer matrices by definition, slow and obvious."""

import numpy as np


def monarch_matrix(left, right, shape):
    """Every entry by its sum over t."""
    (J, n_outputs, width), (k, _, n_inputs) = left.shape, right.shape
    r = width // k
    M = np.zeros((n_outputs * J, k * n_inputs), np.result_type(left, right))
    for j in range(J):
        for n in range(n_outputs):
            for b in range(k):
                for i in range(n_inputs):
                    M[n * J + j, b * n_inputs + i] = sum(
                        left[j, n, b * r + t] * right[b, j * r + t, i] for t in range(r)
                    )
    return M[: shape[0], : shape[1]]


def nearest_monarch(M, k, J, rank):
    """Project sub-matrix after sub-matrix, cut out of M by its indices."""
    d_out, d_in = M.shape
    n_inputs, best = -(-d_in // k), np.zeros_like(M)
    for j in range(J):
        for b in range(k):
            rows, columns = np.arange(j, d_out, J), np.arange(d_in)[b * n_inputs :][:n_inputs]
            if columns.size:
                U, s, Vh = np.linalg.svd(M[np.ix_(rows, columns)], full_matrices=False)
                best[np.ix_(rows, columns)] = (U[:, :rank] * s[:rank]) @ Vh[:rank]
    return best


def block_metric(C, k):
    """C where both inputs are in the same of k blocks, zero elsewhere."""
    block = np.arange(len(C)) // -(-len(C) // k)
    return np.where(block[:, None] == block, C, 0)


def transposition(rows, columns):
    """Matrix that takes vec of (rows, columns), row after row, to vec of the transpose."""
    P = np.zeros((rows * columns, rows * columns))
    for i in range(rows):
        for j in range(columns):
            P[j * rows + i, i * columns + j] = 1
    return P


def block_diagonal(blocks):
    blocks = list(blocks)
    M = np.zeros((sum(len(B) for B in blocks), sum(B.shape[1] for B in blocks)), blocks[0].dtype)
    row = column = 0
    for B in blocks:
        M[row : row + len(B), column : column + B.shape[1]] = B
        row, column = row + len(B), column + B.shape[1]
    return M


def kronecker_sum(V, W):
    return sum(np.kron(v, w) for v, w in zip(V, W, strict=True))


def alternating_kronecker(M, shape_V, shape_W, rng, n_iter=500):
    """One product by alternating least squares, entry by entry."""
    (a, b), (c, d) = shape_V, shape_W
    W = rng.normal(size=shape_W)
    V = np.zeros(shape_V)
    for _ in range(n_iter):
        for i in range(a):
            for j in range(b):
                V[i, j] = (M[i * c : (i + 1) * c, j * d : (j + 1) * d] * W).sum() / (W**2).sum()
        for i in range(c):
            for j in range(d):
                W[i, j] = (M[i::c, j::d] * V).sum() / (V**2).sum()
    return np.kron(V, W)


def cka_of_kernels(X, Y):
    """Similarity of the centered kernels of two representations."""
    H = np.eye(len(X)) - 1 / len(X)
    K, L = H @ X @ X.conj().T @ H, H @ Y @ Y.conj().T @ H
    return (np.trace(K @ L) / np.sqrt(np.trace(K @ K) * np.trace(L @ L))).real
