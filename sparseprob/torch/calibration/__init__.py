"""What layers see: second moments of their inputs, gathered by hooks, exact under merging."""

from ._layer_stats import LayerStats

__all__ = ["LayerStats"]
