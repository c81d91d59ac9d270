"""Probabilistic sparse coding: generative models with discrete and non-standard priors."""

from ._bsc import BinarySparseCoding
from ._schedule import LinearSchedule

BSC = BinarySparseCoding

__all__ = ["BSC", "BinarySparseCoding", "LinearSchedule"]
