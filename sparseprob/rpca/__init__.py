"""Robust PCA: a low-rank matrix plus sparse gross errors."""

from ._robust_pca import RobustPCA

__all__ = ["RobustPCA"]
