"""Batched Gaussian-process bandits: maximize an unknown function over many candidates."""

from ._adabkb import AdaBKB
from ._batch import BanditWarning, Batch, BestResult
from ._bbkb import BBKB
from ._bkb import BKB
from ._bpe import BPE
from ._epsilon_greedy import EpsilonGreedy
from ._gpbucb import GPBUCB
from ._gpts import GPTS
from ._gpucb import GPUCB
from ._mini import MiniGPEI, MiniGPUCB
from ._nystrom import NystromGPRegressor
from ._random_policy import RandomPolicy
from ._search_cv import BanditSearchCV

__all__ = [
    "AdaBKB",
    "BBKB",
    "BKB",
    "BanditSearchCV",
    "BanditWarning",
    "Batch",
    "BPE",
    "BestResult",
    "EpsilonGreedy",
    "GPBUCB",
    "GPTS",
    "GPUCB",
    "MiniGPEI",
    "MiniGPUCB",
    "NystromGPRegressor",
    "RandomPolicy",
]
