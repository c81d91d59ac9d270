"""Few batches by elimination (Li & Scarlett, 2022)."""

import numpy as np

from .. import mpi
from ._dense_posterior import posterior_from_counts
from ._exact_policy import ExactPolicy
from ._ledger import PENDING, TOLD
from ._policy_docs import described
from ._widths import elimination, width, width_options

_RULES = {"elimination": elimination}


@described
class BPE(ExactPolicy):
    r"""Batched pure exploration: few large batches, after each of which bad candidates go.

    Of a budget of T evaluations, batch i has :math:`\lceil \sqrt{T N_{i-1}} \rceil` with
    :math:`N_0 = 1`, so that there are :math:`O(\log\log T)` batches [Li2022]_. A pick is the
    remaining candidate of the largest variance, given the picks of its batch alone. After the
    feedback those remain whose upper bound, from this batch alone, reaches the best lower bound.
    Sizes of batches, use of the data and width are as derived here.

    Parameters
    ----------
    {kernel}
    beta : "elimination", float or callable, default="elimination"
        Width of the confidence bounds, which multiplies the root of the leverage. "elimination" is
        :math:`\sqrt\lambda F + \xi \sqrt{2 \log(A B / \delta)}` for A candidates and B batches. A
        callable gets the number t of the coming evaluation and the policy.
    {memory}
    {others}

    Attributes
    ----------
    n_active_ : int
        Number of candidates that remain.
    {attributes}

    Notes
    -----
    Needs `max_evals`; T is what the initial design leaves of it. The initial design eliminates
    nothing. ``predict``, ``best_`` and the posterior use the feedback of all batches.

    References
    ----------
    [Li2022]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sparseprob.bandits import BPE
    >>> X = np.linspace(0, 1, 200)[:, None]
    >>> policy = BPE(RBF(0.2), noise_variance=1e-4, max_evals=102, random_state=0).initialize(X)
    >>> policy = policy.run(lambda x: np.sin(6 * x[0]), 102)
    >>> policy.batch_sizes_
    array([10, 32, 57, 1])
    >>> policy.best_.x.round(1)
    array([0.3])
    """

    _rules = _RULES
    _parameter_constraints = ExactPolicy._parameter_constraints | {"beta": width_options(_RULES)}

    def __init__(
        self,
        kernel=None,
        *,
        beta="elimination",
        max_memory_mb=2048,
        noise_variance=1e-2,
        lam=None,
        fnorm=1.0,
        delta="auto",
        max_evals=None,
        beta_scale=1.0,
        normalize_y=False,
        n_initial=2,
        initial="random",
        maximize=True,
        random_state=None,
    ):
        self.kernel = kernel
        self.beta = beta
        self.max_memory_mb = max_memory_mb
        self.noise_variance = noise_variance
        self.lam = lam
        self.fnorm = fnorm
        self.delta = delta
        self.max_evals = max_evals
        self.beta_scale = beta_scale
        self.normalize_y = normalize_y
        self.n_initial = n_initial
        self.initial = initial
        self.maximize = maximize
        self.random_state = random_state

    @property
    def n_active_(self):
        self._check_initialized()
        return int(mpi.row_sum(float(self._active.sum())))

    def _start(self):
        if self.max_evals is None:
            raise ValueError("BPE plans its batches and needs max_evals.")
        super()._start()
        self._active = self._candidates.xp.ones(len(self._candidates.X), dtype=bool)
        self._budget = max(1, self.max_evals - len(self._queue))
        self._sizes = planned_sizes(self._budget)
        self._n_planned, self._n_done = len(self._sizes), 0
        self._open, self._n_open = -1, 0

    def _select(self):
        xp, posterior = self._candidates.xp, self._posterior
        index, leverage = self._candidates.argmax(
            xp.where(self._active, posterior.leverage, -xp.inf)
        )
        return index, self._posterior.of(index)[0], leverage

    def _picked(self, index):
        self._posterior.take(index)
        self._open = self._batch
        self._n_open += 1
        return self._n_open >= self._sizes[min(self._n_done, len(self._sizes) - 1)]

    def _learn(self, indices, values, rebuild):
        self._beta = width(self, self._rules)
        log = self._ledger.log
        mine = log[log["batch"] == self._open]
        if not len(mine) or self._open == self._batch or (mine["status"] == PENDING).any():
            return  # the initial design, outside data, or a part of the batch
        told = mine[mine["status"] == TOLD]
        self._eliminate(told["index"], self._inside(told["y"]))
        self._posterior.clear()
        self._open, self._n_open = -1, 0
        self._n_done += 1

    def _eliminate(self, indices, values):
        """Keep the candidates that may still be the best, by the feedback of a batch alone."""
        if not len(indices):
            return
        distinct, place, counts = np.unique(indices, return_inverse=True, return_counts=True)
        sums = np.bincount(place, weights=values)
        points = self._points(distinct)
        self._posterior.rebuild(distinct, points, counts, sums)
        xp, posterior = self._candidates.xp, self._posterior
        radius = self._beta * xp.sqrt(posterior.leverage)
        lower = xp.where(self._active, posterior.mean - radius, -xp.inf)
        _, best = self._candidates.argmax(lower)
        self._active &= posterior.mean + radius >= best

    def _posterior_at(self, X):
        return posterior_from_counts(self._kernel, self._lam, self._ledger, X)

    def _posterior_on_candidates(self):
        return self._posterior_at(self._candidates.X)


def planned_sizes(budget):
    """Return the sizes of the batches that use up a budget of evaluations."""
    sizes: list[int] = []
    size = 1
    while budget > sum(sizes):
        size = int(np.ceil(np.sqrt(budget * size)))
        sizes.append(min(size, budget - sum(sizes)))
    return sizes
