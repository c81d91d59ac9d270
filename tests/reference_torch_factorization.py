"""Factorized layers by definition, slow and obvious."""

from itertools import product

import numpy as np


def layer_loss(W, V, X):
    """Mean over calibration rows of the squared errors of the outputs, one row at a time."""
    return sum(float(((W - V) @ x) @ ((W - V) @ x)) for x in X) / len(X)


def relative_error(W, V, X):
    return (layer_loss(W, V, X) / layer_loss(W, np.zeros_like(W), X)) ** 0.5


def best_low_rank(W, C, rank):
    """Minimizer of tr((W - V) C (W - V)^T) by the symmetric square root of C."""
    values, vectors = np.linalg.eigh(C)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    U, s, Vt = np.linalg.svd(W @ root)
    return (U[:, :rank] * s[:rank]) @ Vt[:rank] @ np.linalg.inv(root), s


def dense_codes(indices, values, n_atoms):
    """Codes (n, k), entry by entry; repeated indices add up."""
    S = np.zeros((len(indices), n_atoms))
    for i, (row, numbers) in enumerate(zip(indices, values, strict=True)):
        for a, v in zip(row, numbers, strict=True):
            S[i, a] += v
    return S


def best_segment_code(a, D, n_segments):
    """Least squares over all choices of one atom a segment; least squared error."""
    k = len(D)
    size = k // n_segments
    best = np.inf
    for choice in product(range(size), repeat=n_segments):
        atoms = D[[g * size + c for g, c in enumerate(choice)]]
        v = np.linalg.lstsq(atoms.T, a, rcond=None)[0]
        best = min(best, float(((a - v @ atoms) ** 2).sum()))
    return best
