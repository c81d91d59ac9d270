"""Thompson sampling from the exact posterior (Chowdhury & Gopalan, 2017), also asynchronous."""

import numpy as np

from .. import mpi
from .._arrays import to_numpy
from ._exact_policy import ExactPolicy
from ._policy_docs import described
from ._prior_root import PriorRoot
from ._widths import BATCH_SIZE, igp_sampling, posterior, width_options

_RULES = {"igp": igp_sampling, "posterior": posterior}


@described
class GPTS(ExactPolicy):
    r"""Thompson sampling: each pick is the best candidate of a function drawn at random.

    A function is drawn on all candidates from the normal distribution of mean :math:`\mu` and
    covariance :math:`(\beta^2 / \lambda)` times the posterior's, and evaluated where it is largest
    [Chowdhury2017]_. Picks of a batch are independent draws that know the feedback of earlier
    batches; without batches, a pick knows all evaluations that are finished when it is asked for
    [Kandasamy2018]_, so that no worker ever waits.

    Parameters
    ----------
    {kernel}
    batch_size : int or None, default=1
        Evaluations of a batch. None is asynchronous: `ask` returns one evaluation by default, goes
        on while others are pending, and each `tell` is learned at once.
    beta : {"igp", "posterior"}, float or callable, default="igp"
        Width of the draws, which multiplies the root of the leverage. "igp" is
        :math:`\sqrt\lambda F + \xi \sqrt{2(\gamma + 1 + \log(2/\delta))}` with the information
        :math:`\gamma` of the evaluations; "posterior" is ``lam**0.5``, draws from the posterior
        itself. A callable gets the number t of the coming evaluation and the policy.
    {memory}
    {others}

    Attributes
    ----------
    {attributes}

    Notes
    -----
    A draw is one from the prior, moved to the feedback: the prior's draw and noise at the evaluated
    candidates are taken off the feedback, and the posterior mean of the rest is added. Draws from
    the prior are exact, up to 1e-10 of its variance, for at most 5000 candidates and for smooth
    kernels on any number. Else the prior is that of the first 1024 pivots of its Cholesky factor,
    and what they leave of a variance is drawn for each candidate by itself: an approximation, as
    derived here, that draws rougher functions. `posterior_std_` does not count pending evaluations.

    References
    ----------
    [Chowdhury2017]_, [Kandasamy2018]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sparseprob.bandits import GPTS
    >>> X = np.linspace(0, 1, 200)[:, None]
    >>> policy = GPTS(RBF(0.2), batch_size=5, beta="posterior", random_state=0).initialize(X)
    >>> policy = policy.run(lambda x: np.sin(6 * x[0]), 52)
    >>> bool(abs(policy.best_.x[0] - np.pi / 12) < 0.05)
    True
    """

    _rules = _RULES
    _parameter_constraints = ExactPolicy._parameter_constraints | {
        "batch_size": BATCH_SIZE,
        "beta": width_options(_RULES),
    }

    def __init__(
        self,
        kernel=None,
        *,
        batch_size=1,
        beta="igp",
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
        super()._start()
        self._asynchronous = self.batch_size is None
        self._root = PriorRoot(self._candidates, self._kernel, self.max_memory_mb * 2**20)
        self._n_drawn = 0

    def _begin_batch(self):
        self._n_open = 0

    def _waiting(self):
        return np.empty(0, dtype=np.int64)  # pending evaluations do not count anywhere

    def _select(self):
        index, _ = self._candidates.argmax(self._draw(self._n_drawn))
        return index, *self._posterior.of(index)

    def _draw(self, number):
        """Return the function of a pick on the candidates; the same number gives the same draw."""
        posterior = self._posterior
        rng = np.random.Generator(np.random.Philox(key=[self._seed, number]))
        sample = self._root.draw(rng)
        counts = posterior.counts
        noise = np.sqrt(self._lam * counts) * rng.standard_normal(len(counts))
        at_evaluated = self._at_evaluated(sample)
        sample += posterior.combine(posterior.mean_weights(-counts * at_evaluated - noise))
        return posterior.mean + (self._beta / np.sqrt(self._lam)) * sample

    def _at_evaluated(self, sample):
        """Return a draw at the distinct evaluated candidates, on the host of every rank."""
        rows = self._posterior.indices - self._candidates.offset
        own = (rows >= 0) & (rows < len(sample))
        values = np.zeros(len(rows))
        values[own] = to_numpy(sample[self._candidates.xp.asarray(rows[own])])
        return mpi.row_sum(values)

    def _picked(self, index):
        self._n_drawn += 1
        self._n_open += 1
        return self.batch_size is not None and self._n_open >= self.batch_size

    def _learn(self, indices, values, rebuild):
        if not rebuild:
            distinct, counts = np.unique(indices, return_counts=True)
            for index, times in zip(distinct.tolist(), counts.tolist(), strict=True):
                self._posterior.take(index, times)
        n_open = self._n_open
        super()._learn(indices, values, rebuild)
        if (self._ledger.log["batch"] == self._batch).any():
            self._n_open = n_open  # a part of the batch, or outside data in its midst
