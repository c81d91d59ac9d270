"""mini-META: few distinct candidates, evaluated many times (Calandriello et al., 2022)."""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval

from ._exact_policy import ExactPolicy
from ._policy_docs import described
from ._widths import BATCH_SIZE


class MiniPolicy(ExactPolicy):
    """A batch is one candidate, as often as no variance may shrink too much; rules choose it."""

    _parameter_constraints = ExactPolicy._parameter_constraints | {
        "ratio_threshold": [Interval(Real, 1, None, closed="neither")],
        "max_batch_size": BATCH_SIZE,
    }

    def _begin_batch(self):
        # candidate of the open batch, its mean and leverage at the start; evaluations that the
        # batch will have, that were asked for, and that count in the variances
        self._block: tuple | None = None
        self._n_block = self._n_open = self._n_taken = 0

    def _best(self):
        """Return the candidate to evaluate, its mean and leverage."""
        raise NotImplementedError

    def _select(self):
        if self._block is None:
            return self._best()
        index, mean, leverage = self._block
        return index, mean, leverage / (1.0 + self._n_open * leverage)

    def _picked(self, index):
        if self._block is None:
            mean, leverage = self._posterior.of(index)
            self._block = index, mean, leverage
            self._n_block = self._repetitions(leverage)
            self._posterior.take(index)
            self._n_taken = 1
        self._n_open += 1
        if self._n_open < self._n_block:
            return False
        self._catch_up()
        return True

    def _repetitions(self, leverage):
        most = np.inf if self.max_batch_size is None else self.max_batch_size
        return int(min(most, max(1.0, (self.ratio_threshold - 1.0) // leverage)))

    def _catch_up(self):
        """Count in the variances whatever was asked for."""
        if self._block is not None and self._n_open > self._n_taken:
            self._posterior.take(self._block[0], self._n_open - self._n_taken)
            self._n_taken = self._n_open

    def _now(self):
        """Return the posterior that counts all evaluations asked for; changes nothing."""
        if self._block is not None and self._n_open > self._n_taken:
            return self._posterior.after(self._block[0], self._n_open - self._n_taken)
        return self._posterior

    def _learn(self, indices, values, rebuild):
        self._catch_up()
        super()._learn(indices, values, rebuild)
        self._beta *= self.ratio_threshold**0.5

    def _posterior_at(self, X):
        return self._now().at(X)

    def _posterior_on_candidates(self):
        now = self._now()
        return now.mean, now.leverage


@described
class MiniGPUCB(MiniPolicy):
    r"""GP-UCB that evaluates each pick many times before the next.

    The candidate of the largest upper bound, of leverage s, is evaluated
    :math:`\lfloor (C - 1) / s \rfloor` times, at least once, as one batch: no posterior variance
    shrinks by more than the factor C meanwhile, as derived here from the bound of `BBKB`, unless
    one evaluation does that already. Matrices are of the distinct candidates, few of which are ever
    needed [Calandriello2022]_.

    Parameters
    ----------
    {kernel}
    ratio_threshold : float, default=2.0
        C > 1; its root is a factor of the width.
    max_batch_size : int, default=None
        Largest number of evaluations in a batch.
    {beta}
    {memory}
    {others}

    Attributes
    ----------
    {attributes}

    References
    ----------
    [Calandriello2022]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sparseprob.bandits import MiniGPUCB
    >>> X, rng = np.linspace(0, 1, 200)[:, None], np.random.default_rng(0)
    >>> policy = MiniGPUCB(RBF(0.2), noise_variance=0.04, random_state=0).initialize(X)
    >>> policy = policy.run(lambda x: np.sin(6 * x[0]) + rng.normal(scale=0.2), 2000)
    >>> bool(abs(policy.best_.x[0] - np.pi / 12) < 0.1)
    True
    >>> policy.n_batches_ < 60
    True
    """

    def __init__(
        self,
        kernel=None,
        *,
        ratio_threshold=2.0,
        max_batch_size=None,
        beta="self-normalized",
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
        self.ratio_threshold = ratio_threshold
        self.max_batch_size = max_batch_size
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

    def _best(self):
        return self._best_bound(self._beta)


@described
class MiniGPEI(MiniPolicy):
    r"""Expected improvement that evaluates each pick many times before the next.

    The pick is the candidate with the largest :math:`u (z \Phi(z) + \phi(z))`, where
    :math:`u = \beta \sqrt s` and :math:`z = (\mu - \max \mu) / u`; repetitions and width are those
    of `MiniGPUCB` [Calandriello2022]_.

    Parameters
    ----------
    {kernel}
    ratio_threshold : float, default=2.0
        C > 1; its root is a factor of the width.
    max_batch_size : int, default=None
        Largest number of evaluations in a batch.
    {beta}
    {memory}
    {others}

    Attributes
    ----------
    {attributes}

    References
    ----------
    [Calandriello2022]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sparseprob.bandits import MiniGPEI
    >>> X, rng = np.linspace(0, 1, 200)[:, None], np.random.default_rng(0)
    >>> policy = MiniGPEI(RBF(0.2), noise_variance=0.04, random_state=0).initialize(X)
    >>> policy = policy.run(lambda x: np.sin(6 * x[0]) + rng.normal(scale=0.2), 2000)
    >>> bool(abs(policy.best_.x[0] - np.pi / 12) < 0.1)
    True
    """

    def __init__(
        self,
        kernel=None,
        *,
        ratio_threshold=2.0,
        max_batch_size=None,
        beta="self-normalized",
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
        self.ratio_threshold = ratio_threshold
        self.max_batch_size = max_batch_size
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

    def _best(self):
        posterior, xp = self._posterior, self._candidates.xp
        _, best_mean = self._candidates.argmax(posterior.mean)
        improvement = expected_improvement(
            posterior.mean - best_mean, self._beta * xp.sqrt(posterior.leverage), xp
        )
        index, _ = self._candidates.argmax(improvement)
        return index, *posterior.of(index)


def expected_improvement(gap, deviation, xp):
    """Return the mean of the positive part of normal variables of mean `gap`."""
    if xp is np:
        from scipy.special import ndtr
    else:
        from cupyx.scipy.special import ndtr
    deviation = xp.maximum(deviation, 1e-100)
    z = gap / deviation
    density = xp.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return deviation * (z * ndtr(z) + density)
