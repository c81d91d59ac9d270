"""Layers that stand in for linear ones."""

from ._base import StructuredLinear
from ._dense_sparse import DenseSparseLinear
from ._dictionary import DictionaryLinear
from ._kronecker import KroneckerLinear, PermutedKroneckerLinear
from ._low_rank import LowRankLinear
from ._masked import MaskedLinear
from ._mixer import (
    MixerBlock,
    StaticSparseLinear,
    effective_width,
    max_effective_width,
    n_connections,
)
from ._monarch import MonarchLinear
from ._semi_structured import SemiStructuredLinear

__all__ = [
    "DenseSparseLinear",
    "DictionaryLinear",
    "KroneckerLinear",
    "LowRankLinear",
    "MaskedLinear",
    "MixerBlock",
    "MonarchLinear",
    "PermutedKroneckerLinear",
    "SemiStructuredLinear",
    "StaticSparseLinear",
    "StructuredLinear",
    "effective_width",
    "max_effective_width",
    "n_connections",
]
