"""Robust PCA: a low-rank matrix plus sparse gross errors, batch and online; moving objects."""

from ._background import BackgroundSubtractor
from ._online import OnlineRobustPCA
from ._robust_pca import RobustPCA

__all__ = ["BackgroundSubtractor", "OnlineRobustPCA", "RobustPCA"]
