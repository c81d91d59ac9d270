"""Solvers that compress one linear layer at a time."""

from ._base import LayerSolver
from ._problem import LayerProblem
from ._solution import LayerSolution

__all__ = ["LayerProblem", "LayerSolution", "LayerSolver"]
