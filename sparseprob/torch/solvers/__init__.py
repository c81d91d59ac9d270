"""Solvers that compress one linear layer at a time."""

from ._awp import AWP
from ._base import LayerSolver
from ._best_of import BestOf
from ._cospadi import CoSpaDi
from ._dictionary_solution import DictionarySolution
from ._dsformer import DSFormer
from ._kronecker import Kronecker
from ._kronecker_solution import KroneckerSolution
from ._low_rank import LowRank
from ._low_rank_solution import LowRankSolution
from ._magnitude import MagnitudePruner
from ._monarch import Monarch
from ._monarch_solution import MonarchSolution
from ._problem import LayerProblem
from ._refit import Refit
from ._solution import LayerSolution
from ._sparse_solution import SparseSolution
from ._sparsegpt import SparseGPTPruner
from ._wanda import WandaPruner

__all__ = [
    "AWP",
    "BestOf",
    "CoSpaDi",
    "DSFormer",
    "DictionarySolution",
    "Kronecker",
    "KroneckerSolution",
    "LayerProblem",
    "LayerSolution",
    "LayerSolver",
    "LowRank",
    "LowRankSolution",
    "MagnitudePruner",
    "Monarch",
    "MonarchSolution",
    "Refit",
    "SparseGPTPruner",
    "SparseSolution",
    "WandaPruner",
]
