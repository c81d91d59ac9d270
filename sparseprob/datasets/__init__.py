"""Data sets, patches and whitening, rows from files and rows streamed to a GPU."""

from . import test_functions
from ._bars import make_bars
from ._fields import make_spatial_field
from ._images import ImagePatches
from ._matching import match_components
from ._on_gpu import on_gpu
from ._patches import extract_patches, load_photographs
from ._rkhs_bandit import make_rkhs_bandit
from ._rows import open_rows
from ._video import make_surveillance_video
from ._whitening import ZCAWhitening, zca_whiten

__all__ = [
    "ImagePatches",
    "ZCAWhitening",
    "extract_patches",
    "load_photographs",
    "make_bars",
    "make_rkhs_bandit",
    "make_spatial_field",
    "make_surveillance_video",
    "match_components",
    "on_gpu",
    "open_rows",
    "test_functions",
    "zca_whiten",
]
