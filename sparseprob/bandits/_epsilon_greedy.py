"""Epsilon-greedy picks: mostly the best mean of a sparse Gaussian process, sometimes any."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval

from ._policy_docs import described
from ._sparse_policy import SparsePolicy

_REDRAW = 4.0  # bound on the ratio of variances at which the dictionary is drawn anew


@described
class EpsilonGreedy(SparsePolicy):
    r"""The candidate of the best posterior mean, or with probability epsilon any candidate.

    The mean is that of `BBKB`'s sparse Gaussian process [Calandriello2020]_, whose dictionary is
    redrawn as the leverages of the picks add up. Cheap, without a guarantee.

    Parameters
    ----------
    {kernel}
    epsilon : float, default=0.1
        Probability of a candidate drawn uniformly at random.
    batch_size : int, default=1
        Evaluations of a batch.
    qbar : float, default=2.0
        Dictionaries have about qbar times as many points as the effective dimension.
    exact_start : bool, default=True
        Whether the dictionary is extended instead of computed afresh while draws keep all that was
        evaluated.
    storage : {"auto", "dense", "stream"}, default="auto"
        Whether the embedding of all candidates is kept, or computed again where it is needed.
    max_memory_mb : float, default=None
        Limit of the embeddings that are kept; None is 2048 on the host and half of the free memory
        on a GPU.
    {others}

    Attributes
    ----------
    {attributes}

    References
    ----------
    [Calandriello2020]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sparseprob.bandits import EpsilonGreedy
    >>> X = np.linspace(0, 1, 200)[:, None]
    >>> policy = EpsilonGreedy(RBF(0.2), noise_variance=1e-4, random_state=0).initialize(X)
    >>> policy = policy.run(lambda x: np.sin(6 * x[0]), 60)
    >>> bool(abs(policy.best_.x[0] - np.pi / 12) < 0.1)
    True
    """

    _parameter_constraints = SparsePolicy._parameter_constraints | {
        "epsilon": [Interval(Real, 0, 1, closed="both")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        kernel=None,
        *,
        epsilon=0.1,
        batch_size=1,
        qbar=2.0,
        exact_start=True,
        storage="auto",
        max_memory_mb=None,
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
        self.epsilon = epsilon
        self.batch_size = batch_size
        self.qbar = qbar
        self.exact_start = exact_start
        self.storage = storage
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

    def _select(self):
        rng = np.random.Generator(np.random.Philox(key=[self._seed, len(self._ledger)]))
        if rng.random() >= self.epsilon:
            return super()._select()  # the width is zero
        return self._look_up(int(rng.integers(self._candidates.total)))

    def _rule(self, start_leverage):
        return len(self._picks) >= self.batch_size

    def _width(self):
        return 0.0

    def _redraw_is_due(self):
        return self._ratio_since_redraw > _REDRAW
