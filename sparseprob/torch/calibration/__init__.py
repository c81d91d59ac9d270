"""What layers see: second moments of their inputs, gathered by hooks, exact under merging."""

from ._grams import collect_grams
from ._layer_stats import LayerStats

__all__ = ["LayerStats", "collect_grams"]
