"""Sparse recovery: greedy pursuit, thresholding, sparse Bayesian learning."""

from ._cosamp import CoSaMP
from ._hard_threshold import hard_threshold
from ._htp import HardThresholdingPursuit
from ._iht import IterativeHardThresholding
from ._kronecker_omp import KroneckerOMP
from ._kronecker_sbl import KroneckerSBL
from ._omp import OrthogonalMatchingPursuit, orthogonal_mp
from ._path import OMPPath
from ._sbl import SparseBayesianLearning
from ._subspace_pursuit import SubspacePursuit
from ._weighted_omp import WeightedOMP
from ._weighted_omp_cv import WeightedOMPCV

__all__ = [
    "CoSaMP",
    "HardThresholdingPursuit",
    "IterativeHardThresholding",
    "KroneckerOMP",
    "KroneckerSBL",
    "OMPPath",
    "OrthogonalMatchingPursuit",
    "SparseBayesianLearning",
    "SubspacePursuit",
    "WeightedOMP",
    "WeightedOMPCV",
    "hard_threshold",
    "orthogonal_mp",
]
