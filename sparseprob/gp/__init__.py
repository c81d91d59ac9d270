"""Gaussian processes for many points, by sparse inverse Cholesky factors and neighbors."""

from ._dklgp_classifier import DKLGPClassifier
from ._dklgp_poisson import DKLGPPoissonRegressor
from ._dklgp_regressor import DKLGPRegressor
from ._incomplete_cholesky import ichol0
from ._inverse_cholesky import sic_factor, vecchia_loglik
from ._neighbors import ball_sparsity, nearest_predecessors
from ._ordering import maximin_order
from ._swsgp_classifier import SWSGPClassifier
from ._swsgp_regressor import SWSGPRegressor
from ._vecchia import VecchiaGPRegressor

__all__ = [
    "DKLGPClassifier",
    "DKLGPPoissonRegressor",
    "DKLGPRegressor",
    "ball_sparsity",
    "ichol0",
    "maximin_order",
    "nearest_predecessors",
    "SWSGPClassifier",
    "SWSGPRegressor",
    "VecchiaGPRegressor",
    "sic_factor",
    "vecchia_loglik",
]
