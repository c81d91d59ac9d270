"""Oracles of Kronecker-structured recovery: everything dense, written from the formulas."""

from functools import reduce
from itertools import product

import numpy as np


def dense(factors):
    """The Kronecker product, entry by entry."""
    shapes = [F.shape for F in factors]
    rows = list(product(*(range(m) for m, _ in shapes)))
    columns = list(product(*(range(n) for _, n in shapes)))
    return np.array(
        [
            [np.prod([F[i, j] for F, i, j in zip(factors, r, c, strict=True)]) for c in columns]
            for r in rows
        ]
    )


def prior(gammas):
    """All prior variances, last index fastest."""
    return reduce(np.kron, gammas)


def gaussian_posterior(A, gamma, noise_var, y):
    """Mean and covariance of x, and log p(y), of y = A x + e, real or complex."""
    C = noise_var * np.eye(len(A)) + (A * gamma) @ A.conj().T
    gain = (A * gamma).conj().T @ np.linalg.inv(C)
    covariance = np.diag(gamma) - gain @ (A * gamma)
    fit = (y.conj() @ np.linalg.solve(C, y)).real
    log_det = np.linalg.slogdet(C)[1]
    if np.iscomplexobj(A) or np.iscomplexobj(y):
        evidence = -len(y) * np.log(np.pi) - log_det - fit
    else:
        evidence = -0.5 * (len(y) * np.log(2 * np.pi) + log_det + fit)
    return gain @ y, covariance, evidence


def sbl_step(A, gamma, noise_var, y):
    """New variances and noise variance of one EM step without structure."""
    mean, covariance, _ = gaussian_posterior(A, gamma, noise_var, y)
    variances = np.diag(covariance).real
    residual = np.linalg.norm(y - A @ mean) ** 2
    noise = (residual + noise_var * (1 - variances / gamma).sum()) / len(y)
    return np.abs(mean) ** 2 + variances, noise


def expected_cost(moments, gammas):
    """What variances minimize in the M-step: the sum of log gamma + moments / gamma."""
    gamma = prior(gammas).reshape(moments.shape)
    return float((np.log(gamma) + moments / gamma).sum())


def block_update(moments, gammas, k):
    """The minimizer of the expected cost over the k-th vector."""
    others = [np.ones_like(g) if q == k else g for q, g in enumerate(gammas)]
    ratio = np.moveaxis(moments / prior(others).reshape(moments.shape), k, 0)
    return ratio.reshape(len(ratio), -1).mean(axis=1)


def greedy_pursuit(factors, y, limits, tol):
    """Kronecker-OMP with the dense dictionary; supports and coefficients."""
    A, shape = dense(factors), tuple(F.shape[1] for F in factors)
    unit, supports = A / np.linalg.norm(A, axis=0), [[] for _ in factors]
    x = np.zeros(A.shape[1], dtype=np.result_type(A, y))
    while np.linalg.norm(y - A @ x) > tol * np.linalg.norm(y):
        best = np.unravel_index(np.abs(unit.conj().T @ (y - A @ x)).argmax(), shape)
        before = [list(S) for S in supports]
        for S, i, limit in zip(supports, best, limits, strict=True):
            if i not in S and len(S) < limit:
                S.append(i)
        if supports == before:
            break
        chosen = [np.ravel_multi_index(where, shape) for where in product(*supports)]
        x[:] = 0
        x[chosen] = np.linalg.lstsq(A[:, chosen], y, rcond=None)[0]
        if [len(S) for S in supports] == list(limits):
            break
    return supports, x
