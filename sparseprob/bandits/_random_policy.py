"""Candidates at random, the floor under every other policy."""

from numbers import Integral

import numpy as np
from sklearn.utils._param_validation import Interval

from ._dense_posterior import posterior_from_counts
from ._policy import Policy
from ._policy_docs import described


@described
class RandomPolicy(Policy):
    """Evaluate candidates drawn uniformly at random.

    Parameters
    ----------
    kernel : sklearn.gaussian_process.kernels.Kernel, default=None
        Kernel of the posterior that `predict` and ``best_`` report; the picks do not depend on it.
        None is an RBF whose length-scales are a fifth of the ranges of the features.
    batch_size : int, default=1
        Evaluations of a batch.
    {others}

    Attributes
    ----------
    {attributes}

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.bandits import RandomPolicy
    >>> X = np.linspace(0, 1, 200)[:, None]
    >>> policy = RandomPolicy(batch_size=20, random_state=0).initialize(X)
    >>> policy = policy.run(lambda x: np.sin(6 * x[0]), 42)
    >>> bool(abs(policy.best_.x[0] - np.pi / 12) < 0.1)
    True
    """

    _parameter_constraints = Policy._parameter_constraints | {
        "batch_size": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        kernel=None,
        *,
        batch_size=1,
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
        self.batch_size = batch_size
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

    def _start(self):
        self._beta = 0.0

    def _select(self):
        rng = np.random.Generator(np.random.Philox(key=[self._seed, len(self._ledger)]))
        return int(rng.integers(self._candidates.total)), np.nan, np.nan

    def _picked(self, index):
        n_open = np.count_nonzero(self._ledger.log["batch"] == self._batch)
        return n_open >= self.batch_size

    def _learn(self, indices, values, rebuild):
        """Nothing to learn: the posterior is computed when it is asked for."""

    def _posterior_at(self, X):
        return posterior_from_counts(self._kernel, self._lam, self._ledger, X)
