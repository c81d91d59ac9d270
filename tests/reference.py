"""Oracles: slow and obvious, written from the formulas, with dense states and direct residuals."""

from itertools import product

import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal


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


# ---------------------------------------------------------------- maximal causes
def max_rows(states, W, *, magnitude=False, rho=None):
    """Noise-free rows: the winner of s_h W_h at each feature, or the root of summed powers."""
    parts = states[:, :, None] * W  # (S, H, D)
    if rho is not None:
        t = (np.sign(parts) * np.abs(parts) ** rho).sum(axis=1)
        return np.sign(t) * np.abs(t) ** (1 / rho)
    if not magnitude:
        return np.maximum(parts.max(axis=1), 0)
    winner = np.abs(parts).argmax(axis=1)[:, None]
    return np.take_along_axis(parts, winner, axis=1)[:, 0]


def max_shares(states, W, *, magnitude=False, rho=None):
    """A_dh of each state, shape (S, H, D); 1 for the cause of a singleton."""
    rows = max_rows(states, W, magnitude=magnitude, rho=rho)[:, None]
    if rho is None:
        shares = np.abs(W) >= np.abs(rows)
    else:
        with np.errstate(divide="ignore"):
            excess = np.log(np.abs(rows)) - np.log(np.abs(W))
        shares = np.exp(-(rho - 1) * np.maximum(excess, 0))
    return states[:, :, None] * shares


def max_candidates(y, W, n_candidates, *, magnitude=False):
    """Candidates by excess over the data, or by distance from it; NaN is not observed."""
    seen = ~np.isnan(y)
    excess = W[:, seen] - y[seen]
    cost = (excess**2 if magnitude else np.maximum(excess, 0)).sum(axis=1)
    return np.argsort(cost, kind="stable")[:n_candidates]


def max_posterior(
    y, states, W, prior, noise_scale, *, temperature=1.0, anneal_prior=False, **combination
):
    """q(s) on the given states and the free energy, from the observed entries of a row."""
    seen = ~np.isnan(y)
    residual = y[seen] - max_rows(states, W, **combination)[:, seen]
    ll = -0.5 * seen.sum() * np.log(2 * np.pi * noise_scale**2)
    ll = ll - (residual**2).sum(axis=1) / (2 * noise_scale**2)
    lp = log_prior(states, prior)
    exponent = (lp + ll) / temperature if anneal_prior else lp + ll / temperature
    log_q = exponent - logsumexp(exponent)
    q = np.exp(log_q)
    return q, float(q @ (lp + ll - log_q))


def max_step(
    X, W, prior, noise_scale, n_candidates, max_active, *, magnitude=False, rho=None,
    states_of=None, **tempering,
):  # fmt: skip
    """One E-step and M-step of MCA or MMCA; new parameters, F per point, E[s], E[rows].

    `states_of(y)` gives other states than the preselected ones.
    """
    H, combination = len(W), {"magnitude": magnitude, "rho": rho}
    codes, means = np.zeros((len(X), H)), np.zeros(X.shape)
    num, den, squares, free_energy = np.zeros(W.shape), np.zeros(W.shape), 0.0, 0.0
    for n, y in enumerate(X):
        if states_of is None:
            candidates = max_candidates(y, W, n_candidates, magnitude=magnitude)
            states = truncated_states(candidates, H, max_active)
        else:
            states = states_of(y)
        q, F = max_posterior(y, states, W, prior, noise_scale, **combination, **tempering)
        rows, shares = max_rows(states, W, **combination), max_shares(states, W, **combination)
        seen, filled = ~np.isnan(y), np.nan_to_num(y)
        used = np.einsum("s,shd->hd", q, shares) * seen
        num, den = num + used * filled, den + used
        squares += q @ ((filled - rows) ** 2)[:, seen].sum(axis=1)
        codes[n], means[n], free_energy = q @ states, q @ rows, free_energy + F
    if magnitude:
        alpha = np.maximum(1 - np.exp(-den / 2.5), 0.2)
        new = alpha * num / np.maximum(den, 1e-4) + (1 - alpha) * W
        new = np.where(np.abs(new) < 1e-4, np.where(new < 0, -1e-4, 1e-4), new)
    else:
        new = np.maximum(num / den, 1e-4)
    return {
        "components": new, "prior": codes.mean(),
        "noise_scale": np.sqrt(squares / (~np.isnan(X)).sum()), "lower_bound": free_energy / len(X),
        "codes": codes, "rows": means,
    }  # fmt: skip


# ---------------------------------------------------------------- discrete and ternary models
def joint_candidates(y, W, prior, noise_scale, n_candidates, values, offset=0.0):
    """Candidates of models with several values: the most probable single causes, in order."""
    H = len(W)
    score = np.full(H, -np.inf)
    for value in values:
        states = value * np.eye(H)
        joint = log_prior(states, prior, values) + log_likelihood(y, states, W, noise_scale, offset)
        score = np.maximum(score, joint)
    return np.argsort(-score, kind="stable")[:n_candidates]


def discrete_step(
    X, W, prior, noise_scale, values, n_candidates, max_active, *, temperature=1.0, tied=False
):
    """One E-step and M-step of a linear model with any alphabet; NaN in X was not observed.

    With NaN, parameters after the step are not given.
    """
    (N, D), H, V = X.shape, len(W), len(values)
    means, seconds, counts, free_energy = np.zeros((N, H)), np.zeros((H, H)), np.zeros(V), 0.0
    posteriors = []
    for n, row in enumerate(X):
        seen = ~np.isnan(row)
        y, A = row[seen], W[:, seen]
        candidates = joint_candidates(y, A, prior, noise_scale, n_candidates, values)
        if V == 1:
            candidates = best_candidates(y, A, n_candidates)
        states = truncated_states(candidates, H, max_active, values)
        q, F = linear_posterior(
            y, states, A, prior, noise_scale, values=values, temperature=temperature
        )
        means[n], free_energy = q @ states, free_energy + F
        seconds += np.einsum("s,sh,sk->hk", q, states, states)
        counts += [q @ (states == value).sum(axis=1) for value in values]
        posteriors.append((q, states))
    result = {"lower_bound": free_energy / N, "codes": means}
    if np.isnan(X).any():
        return result
    new_W, new_prior = np.linalg.solve(seconds, means.T @ X), counts / (N * H)
    squares = sum(
        q @ ((y - states @ new_W) ** 2).sum(axis=1)
        for y, (q, states) in zip(X, posteriors, strict=True)
    )
    return result | {
        "components": new_W, "noise_scale": np.sqrt(squares / (N * D)),
        "prior": np.full(V, new_prior.mean()) if tied else new_prior,
    }  # fmt: skip


# ---------------------------------------------------------------- spike and slab
def _matrix(covariance, size):
    """A covariance matrix from a number, variances, or itself."""
    covariance = np.asarray(covariance, dtype=float)
    return covariance if covariance.ndim == 2 else np.diag(np.broadcast_to(covariance, (size,)))


def slab_state(y, s, params, temperature=1.0, anneal_prior=False):
    """Exponent of q(s), integrand of F, mean and covariance of all z, for one row and state.

    Everything in data space, with D x D covariances; NaN is not observed.
    """
    seen, beta = ~np.isnan(y), 1 / temperature
    W, mu = params["components"][:, seen] * s[:, None], params["slab_mean"]
    psi = _matrix(params["slab_covariance"], len(s))
    sigma = _matrix(params["noise_variance"], len(y))[np.ix_(seen, seen)]
    prior = np.broadcast_to(params["prior"], s.shape)
    lp = np.where(s > 0, np.log(prior), np.log1p(-prior)).sum()
    C = sigma / beta + W.T @ psi @ W
    D, logdet = seen.sum(), np.linalg.slogdet(sigma)[1]
    # N(y; m, S)^beta = constant * N(y; m, S / beta)
    constant = 0.5 * ((1 - beta) * (D * np.log(2 * np.pi) + logdet) - D * np.log(beta))
    exponent = constant + multivariate_normal(W.T @ mu, C).logpdf(y[seen])
    gain = psi @ W @ np.linalg.inv(C)
    mean, cov = mu + gain @ (y[seen] - W.T @ mu), psi - gain @ W.T @ psi
    divergence = 0.5 * (
        np.trace(np.linalg.solve(psi, cov)) + (mean - mu) @ np.linalg.solve(psi, mean - mu)
        - len(s) + np.linalg.slogdet(psi)[1] - np.linalg.slogdet(cov)[1]
    )  # fmt: skip
    ll = multivariate_normal(W.T @ mean, sigma).logpdf(y[seen])
    ll -= 0.5 * np.trace(np.linalg.solve(sigma, W.T @ cov @ W))
    exponent += beta * lp if anneal_prior else lp
    return exponent, lp + ll - divergence, mean, cov


def slab_posterior(y, states, params, **tempering):
    """q(s) on the given states, the free energy, and means and covariances of z by state."""
    exponent, value, means, covs = zip(
        *(slab_state(y, s, params, **tempering) for s in states), strict=True
    )
    log_q = np.array(exponent) - logsumexp(exponent)
    q = np.exp(log_q)
    return q, float(q @ (np.array(value) - log_q)), np.array(means), np.array(covs)


def slab_candidates(y, params, n_candidates):
    """The singletons with the largest likelihood, without their priors, in order."""
    even = params | {"prior": np.full(len(params["components"]), 0.5)}
    scores = [slab_state(y, s, even)[0] for s in np.eye(len(params["components"]))]
    return np.argsort(-np.array(scores), kind="stable")[:n_candidates]


def slab_step(X, params, n_candidates, max_active, *, variance=0.0, **tempering):
    """One E-step and M-step of spike and slab: new parameters, F, E[s], E[s z], E[s z s' z']."""
    (N, D), H = X.shape, len(params["components"])
    codes, spikes, free_energy = np.zeros((N, H)), np.zeros((N, H)), 0.0
    second, all_z, all_zz, found = np.zeros((H, H)), np.zeros(H), np.zeros((H, H)), []
    for n, y in enumerate(X):
        states = truncated_states(slab_candidates(y, params, n_candidates), H, max_active)
        q, F, means, covs = slab_posterior(y, states, params, **tempering)
        free_energy += F
        spikes[n], codes[n] = q @ states, q @ (states * means)
        squares = covs + means[:, :, None] * means[:, None, :]
        second += np.einsum("s,si,sj,sij->ij", q, states, states, squares)
        all_z, all_zz = all_z + q @ means, all_zz + np.einsum("s,sij->ij", q, squares)
        found.append((q, states, means, covs))
    W = np.linalg.solve(second, codes.T @ X)
    residual = np.zeros((D, D))
    for y, (q, states, means, covs) in zip(X, found, strict=True):
        for w, s, m, cov in zip(q, states, means, covs, strict=True):
            r, A = y - (s * m) @ W, W * s[:, None]
            residual += w * (np.outer(r, r) + A.T @ cov @ A)
    residual /= N
    noise = {0: np.trace(residual) / D, 1: np.diag(residual), 2: residual + variance * np.eye(D)}
    mu, psi = codes.sum(axis=0) / spikes.sum(axis=0), np.diag(second) / spikes.sum(axis=0)
    psi = psi - mu**2
    if np.ndim(params["slab_covariance"]) == 2:  # inactive z count too
        mu = all_z / N
        psi = all_zz / N - np.outer(mu, mu)
    return {
        "components": W, "prior": spikes.mean(axis=0), "slab_mean": mu, "slab_covariance": psi,
        "noise_variance": noise[np.ndim(params["noise_variance"])], "lower_bound": free_energy / N,
        "spikes": spikes, "codes": codes, "second": second,
    }  # fmt: skip


def slab_log_evidence(X, params):
    """Exact log p(y) of each row: a mixture of Gaussians over all supports."""
    states = all_states(len(params["components"]))
    return np.array([logsumexp([slab_state(y, s, params)[0] for s in states]) for y in X])
