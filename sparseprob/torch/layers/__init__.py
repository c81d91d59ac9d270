"""Layers that stand in for linear ones."""

from ._base import StructuredLinear

__all__ = ["StructuredLinear"]
