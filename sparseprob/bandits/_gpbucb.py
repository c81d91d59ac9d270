"""Batches by hallucinated feedback: GP-BUCB and GP-AUCB (Desautels, Krause & Burdick, 2014)."""

from numbers import Real

import numpy as np
from sklearn.utils._param_validation import Interval

from ._exact_policy import ExactPolicy
from ._policy_docs import described
from ._widths import BATCH_SIZE


@described
class GPBUCB(ExactPolicy):
    r"""Upper confidence bounds in batches: variances shrink with each pick, the mean waits.

    Within a batch each pick maximizes :math:`\mu(x) + e^C \beta \sqrt{s(x)}`, where :math:`\mu` and
    :math:`\beta` are those of the last feedback and the leverage s counts all picks
    [Desautels2014]_. The factor :math:`e^C` makes up for feedback that is not there: C bounds
    :math:`I = \tfrac12 \sum \log(1 + s)` over the picks of the batch, each with its leverage at its
    pick.

    Parameters
    ----------
    {kernel}
    batch_size : int or None, default=10
        Evaluations of a batch. None, with `info_threshold`, is GP-AUCB: batches end by the
        threshold alone.
    info_threshold : float, default=None
        C, in nats: the batch ends with the pick that brings I above it. None takes, as derived
        here, the I of the picks so far in place of C, so that the factor grows within a batch
        from one.
    inflate : bool, default=True
        Whether the width has the factor :math:`e^C`. Without it the guarantee is lost and the
        regret usually smaller.
    {beta}
    {memory}
    {others}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    BBKB : Larger batches, from a bound on the variances that is tighter.

    References
    ----------
    [Desautels2014]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sparseprob.bandits import GPBUCB
    >>> X = np.linspace(0, 1, 200)[:, None]
    >>> policy = GPBUCB(RBF(0.2), batch_size=8, noise_variance=1e-4, random_state=0).initialize(X)
    >>> policy = policy.run(lambda x: np.sin(6 * x[0]), 34)
    >>> policy.batch_sizes_
    array([8, 8, 8, 8])
    >>> policy.best_.x.round(1)
    array([0.3])
    """

    _parameter_constraints = ExactPolicy._parameter_constraints | {
        "batch_size": BATCH_SIZE,
        "info_threshold": [Interval(Real, 0, None, closed="neither"), None],
        "inflate": ["boolean"],
    }

    def __init__(
        self,
        kernel=None,
        *,
        batch_size=10,
        info_threshold=None,
        inflate=True,
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
        self.batch_size = batch_size
        self.info_threshold = info_threshold
        self.inflate = inflate
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

    def _start(self):
        if self.batch_size is None and self.info_threshold is None:
            raise ValueError("Batches need an end: give batch_size or info_threshold.")
        super()._start()

    def _begin_batch(self):
        self._n_open, self._gain = 0, 0.0

    def _select(self):
        return self._best_bound(self._beta)

    def _picked(self, index):
        leverage = self._posterior.take(index)
        self._n_open += 1
        self._gain += 0.5 * float(np.log1p(leverage))
        if self.inflate and self.info_threshold is None:
            self._beta = self._base * float(np.exp(self._gain))
        full = self.batch_size is not None and self._n_open >= self.batch_size
        return full or (self.info_threshold is not None and self._gain > self.info_threshold)

    def _learn(self, indices, values, rebuild):
        super()._learn(indices, values, rebuild)
        self._base = self._beta
        if self.inflate:
            bound = self._gain if self.info_threshold is None else self.info_threshold
            self._beta *= float(np.exp(bound))
