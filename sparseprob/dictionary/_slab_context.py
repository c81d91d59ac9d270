"""What an E-step of spike-and-slab sparse coding needs of the parameters; see `_slab_model`."""

from typing import NamedTuple

import numpy as np
from scipy import linalg


class SlabContext(NamedTuple):
    """Everything an E-step needs besides the rows; arrays in the library and dtype of the chunk."""

    components: object  # (H, D)
    atoms: object  # (H, D), sqrt(psi) W
    projection: object  # (H, D), beta sqrt(psi) W S^-1
    coupling: object  # (H, H), beta sqrt(psi) G sqrt(psi)
    ratio: object  # (H,)
    bias: object  # (H,), log-odds, tempered with the prior
    select: object  # (3, H), scores quadratic in the projections
    correlation: object  # (H, H) of the slabs, None where they are independent
    scale: object  # (H,) float64, sqrt(psi)
    log_odds: object  # (H,) float64
    temperature: float
    anneal_prior: bool


def slab_context(params, xp, dtype, temperature, anneal_prior, *, joint):
    """Prepare Gram matrix, prior means and selection scores; `joint` adds log-odds to scores."""
    W, psi, beta = params["components"], params["slab_covariance"], 1.0 / temperature
    correlated = psi.ndim == 2
    scale = np.sqrt(np.diag(psi) if correlated else psi)
    log_odds = np.log(params["prior"]) - np.log1p(-params["prior"])
    atoms, ratio = scale[:, None] * W, params["slab_mean"] / scale
    projection = beta * _times_precision(atoms, params["noise_variance"])
    coupling = projection @ atoms.T
    select = _selection(np.diag(coupling) / beta, ratio, beta)
    if joint:
        select[0] += log_odds
    arrays = {
        "components": W, "atoms": atoms, "projection": projection,
        "coupling": (coupling + coupling.T) / 2, "ratio": ratio,
        "bias": (beta if anneal_prior else 1.0) * log_odds, "select": select,
        "correlation": psi / np.outer(scale, scale) if correlated else None,
    }  # fmt: skip
    return SlabContext(
        **{
            name: None if a is None else xp.asarray(a, dtype=dtype, order="C")
            for name, a in arrays.items()
        },
        scale=xp.asarray(scale),
        log_odds=xp.asarray(log_odds),
        temperature=float(temperature),
        anneal_prior=bool(anneal_prior),
    )


def _times_precision(A, noise):
    """Rows of A times the inverse of the noise covariance."""
    if noise.ndim < 2:
        return A / noise
    return linalg.cho_solve(linalg.cho_factor(noise, lower=True), A.T).T


def _selection(square, ratio, beta):
    """Scores of singletons, quadratic in beta b: log N(y; W mu, S + psi W W') - log N(y; 0, S).

    An atom W_h = 0 comes last.
    """
    constant = -0.5 * ratio**2 * square / (1 + square) - 0.5 * np.log1p(square)
    linear, quadratic = ratio / (1 + square), 0.5 / (1 + square)
    there = square > 0
    return np.stack([
        np.where(there, constant, -np.inf),
        np.where(there, linear / beta, 0.0),
        np.where(there, quadratic / beta**2, 0.0),
    ])  # fmt: skip


def plain_projections(B, context):
    """Projections W S^-1 y (n, H) from those that the energies are computed with."""
    return B.T * (context.temperature / context.scale).astype(B.dtype)
