"""Oracles: slow and obvious, written from the formulas, with dense states and direct residuals."""

from itertools import product

import numpy as np
from scipy.special import logsumexp


def all_states(H, values=(1.0,)):
    """Every state of H latents, shape (K^H, H)."""
    return np.array(list(product((0.0, *values), repeat=H)))


def truncated_states(candidates, H, max_active, values=(1.0,)):
    """The states of K_n for one point: null, singletons, up to `max_active` candidates."""
    inside = np.zeros(H, dtype=bool)
    inside[candidates] = True
    states = all_states(H, values)
    n_active = (states != 0).sum(axis=1)
    only_candidates = ~(states[:, ~inside] != 0).any(axis=1)
    return states[(n_active <= 1) | (only_candidates & (n_active <= max_active))]


def log_prior(states, prior, values=(1.0,)):
    """log p(s) with p(s_h = values[k]) = prior[k]."""
    prior = np.atleast_1d(prior)
    result = np.full(states.shape, np.log1p(-prior.sum()))
    for value, p in zip(values, prior, strict=True):
        result[states == value] = np.log(p)
    return result.sum(axis=1)


def log_likelihood(y, states, W, noise_scale, offset=0.0):
    """log N(y; s W + offset, noise_scale^2 I) for each state."""
    residual = y - offset - states @ W
    D = len(y)
    return -0.5 * D * np.log(2 * np.pi * noise_scale**2) - (residual**2).sum(axis=1) / (
        2 * noise_scale**2
    )


def linear_posterior(
    y, states, W, prior, noise_scale, offset=0.0, values=(1.0,), temperature=1.0, anneal_prior=False
):
    """q(s) on the given states and the free energy F = sum q (log p(s, y) - log q)."""
    lp, ll = log_prior(states, prior, values), log_likelihood(y, states, W, noise_scale, offset)
    exponent = (lp + ll) / temperature if anneal_prior else lp + ll / temperature
    log_q = exponent - logsumexp(exponent)
    q = np.exp(log_q)
    return q, float(q @ (lp + ll - log_q))


def best_candidates(y, W, n_candidates, offset=0.0):
    """Candidates of binary sparse coding: the largest projections on unit atoms, in order."""
    score = W @ (y - offset) / np.linalg.norm(W, axis=1)
    return np.argsort(-score, kind="stable")[:n_candidates]


def bsc_step(X, W, prior, noise_scale, n_candidates, max_active, *, offset=0.0, temperature=1.0):
    """One E-step and M-step of binary sparse coding; returns new parameters, F per point, E[s]."""
    (N, D), H = X.shape, len(W)
    means, seconds, free_energy = np.zeros((N, H)), np.zeros((H, H)), 0.0
    posteriors = []
    for n, y in enumerate(X):
        states = truncated_states(best_candidates(y, W, n_candidates, offset), H, max_active)
        q, F = linear_posterior(y, states, W, prior, noise_scale, offset, temperature=temperature)
        means[n], free_energy = q @ states, free_energy + F
        seconds += np.einsum("s,sh,sk->hk", q, states, states)
        posteriors.append((q, states))
    new_W = np.linalg.solve(seconds, means.T @ (X - offset))
    squares = sum(
        q @ ((y - offset - states @ new_W) ** 2).sum(axis=1)
        for y, (q, states) in zip(X, posteriors, strict=True)
    )
    return {
        "components": new_W, "prior": means.mean(),
        "noise_scale": np.sqrt(squares / (N * D)), "lower_bound": free_energy / N, "codes": means,
    }  # fmt: skip


def bsc_log_evidence(X, W, prior, noise_scale, offset=0.0):
    """Exact log p(y) of each row by summing over all states."""
    states = all_states(len(W))
    lp = log_prior(states, prior)
    return np.array([logsumexp(lp + log_likelihood(y, states, W, noise_scale, offset)) for y in X])
