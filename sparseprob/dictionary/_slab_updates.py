"""M-step of spike-and-slab sparse coding: exact maximizers of the free energy.

A.-S. Sheikh, J. A. Shelton, J. Lücke, JMLR 15:2653-2687, 2014; the noise uses E[(sz)(sz)'] in full,
and the slabs their conditional moments, as maximization demands.
"""

import numpy as np

from ._linalg import solve_symmetric

LOWEST_PRIOR = 5e-5
_LOWEST_NOISE = 1e-8  # of the mean variance of a feature
_LOWEST_SLAB = 1e-6  # of the mean square of a latent that is active


def new_components(W, S1, S2, fixed):
    """Atoms (H, D) that maximize the free energy; those that are `fixed` stay."""
    W, free = W.copy(), ~fixed
    if free.any():
        right = S1[free] - S2[np.ix_(free, fixed)] @ W[fixed]
        W[free] = solve_symmetric(S2[np.ix_(free, free)], right)
    return W


def new_noise(kind, W, S1, S2, squares, counts, variance):
    """Noise variance: (), (D,) or (D, D), from sums with the new atoms.

    `squares` are the sums of y^2 (D,), or of y y' (D, D) for "full"; `counts` (D,) of observed
    entries; `variance` is the mean variance of a feature.
    """
    lowest = _LOWEST_NOISE * variance
    if kind == "full":
        cross = W.T @ S1
        residual = squares - cross - cross.T + W.T @ S2 @ W
        residual = (residual + residual.T) / (2 * counts.max())
        return residual + lowest * np.eye(len(residual))
    residual = squares - 2 * (W * S1).sum(axis=0) + (W * (S2 @ W)).sum(axis=0)
    if kind == "diag":
        return np.maximum(residual / counts, lowest)
    return np.array(max(residual.sum() / counts.sum(), lowest))


def new_slabs(statistics, params, used):
    """Slab means (H,) and covariance (H,) or (H, H); latents not `used` keep theirs.

    Correlated slabs: EM in which the inactive ones are integrated under their conditional.
    """
    mu, psi = params["slab_mean"], params["slab_covariance"]
    if psi.ndim == 2:
        n = float(statistics["n_rows"])
        step = psi @ (statistics["pulls"] / n)
        change = psi @ (statistics["pull_squares"] / n) @ psi - np.outer(step, step)
        psi = psi + (change + change.T) / 2
        return mu + step, _well_conditioned(psi)
    counts = np.where(used, statistics["counts"][0], 1.0)
    mean, square = statistics["codes"] / counts, np.diag(statistics["second"]) / counts
    mu = np.where(used, mean, mu)
    return mu, np.where(used, np.maximum(square - mean**2, _LOWEST_SLAB * square), psi)


def _well_conditioned(psi):
    """Raise the eigenvalues of the correlations that are nearly zero."""
    deviation = np.sqrt(np.diag(psi))
    values, vectors = np.linalg.eigh(psi / np.outer(deviation, deviation))
    if values[0] >= _LOWEST_SLAB:
        return psi
    correlation = vectors * np.maximum(values, _LOWEST_SLAB) @ vectors.T
    return correlation * np.outer(deviation, deviation)


def new_prior(counts, n_rows, prior, correction, max_active, homogeneous):
    """Probabilities (H,) that a latent is active."""
    new = counts / n_rows
    if correction == "et":
        p = active_count_probabilities(prior, max_active)
        new = new * prior.sum() * p.sum() / (np.arange(max_active + 1) @ p)
    if homogeneous:
        new = np.full_like(new, new.mean())
    return np.clip(new, LOWEST_PRIOR, 1 - LOWEST_PRIOR)


def active_count_probabilities(prior, max_active):
    """Probabilities that 0, ..., max_active of the latents are active (Poisson binomial)."""
    p = np.zeros(max_active + 1)
    p[0] = 1.0
    for one in prior:
        p[1:] = (1 - one) * p[1:] + one * p[:-1]
        p[0] *= 1 - one
    return p
