"""Probabilistic sparse coding: generative models with discrete and non-standard priors."""

from ._bsc import BinarySparseCoding
from ._dsc import DiscreteSparseCoding
from ._gsc import GaussianSparseCoding
from ._images import estimate_noise, restore_image
from ._ksvd import KSVD
from ._mca import MaximalCausesAnalysis, MaximumMagnitudeCausesAnalysis
from ._mop import MixtureOfPoissons
from ._schedule import LinearSchedule
from ._tsc import TernarySparseCoding

BSC = BinarySparseCoding
DSC = DiscreteSparseCoding
GSC = GaussianSparseCoding
MCA = MaximalCausesAnalysis
MMCA = MaximumMagnitudeCausesAnalysis
MOP = MixtureOfPoissons
TSC = TernarySparseCoding

__all__ = [
    "BSC",
    "DSC",
    "GSC",
    "KSVD",
    "MCA",
    "MMCA",
    "MOP",
    "TSC",
    "BinarySparseCoding",
    "DiscreteSparseCoding",
    "GaussianSparseCoding",
    "MaximalCausesAnalysis",
    "MaximumMagnitudeCausesAnalysis",
    "MixtureOfPoissons",
    "TernarySparseCoding",
    "LinearSchedule",
    "estimate_noise",
    "restore_image",
]
