"""Samples of tables from which products, correlations and regressions over joins are estimated."""

from ._correlation import JoinCorrelationSketch
from ._linear import CountSketcher, GaussianSketcher, SignSketcher
from ._linear_sketch import LinearSketch
from ._matrix_sketch import MatrixSketch, NoOverlapWarning
from ._minhash import MinHashSketch, WeightedMinHashSketcher
from ._moments import JoinMoments
from ._priority import PrioritySketcher
from ._product import matrix_product
from ._ridge import SketchedRidge
from ._sampled_sketch import Match, SampledSketch
from ._search import JoinCandidate, JoinSearch
from ._tables import sketch_table
from ._threshold import ThresholdSketcher

__all__ = [
    "CountSketcher",
    "GaussianSketcher",
    "JoinCandidate",
    "JoinCorrelationSketch",
    "JoinMoments",
    "JoinSearch",
    "LinearSketch",
    "Match",
    "MatrixSketch",
    "MinHashSketch",
    "NoOverlapWarning",
    "PrioritySketcher",
    "SampledSketch",
    "SignSketcher",
    "SketchedRidge",
    "ThresholdSketcher",
    "WeightedMinHashSketcher",
    "matrix_product",
    "sketch_table",
]
