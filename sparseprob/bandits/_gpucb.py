"""GP-UCB on a finite set (Srinivas, Krause, Kakade & Seeger, 2010)."""

from ._exact_policy import ExactPolicy
from ._policy_docs import described


@described
class GPUCB(ExactPolicy):
    r"""Upper confidence bounds of the exact Gaussian process, one evaluation at a time.

    Evaluates :math:`\arg\max_x \mu(x) + \beta \sqrt{s(x)}` [Srinivas2010]_ with the exact posterior
    mean :math:`\mu` and leverage :math:`s = \sigma^2 / \lambda`. A step takes
    :math:`O(A q)` operations and the run :math:`O(A q)` memory, for A candidates and q distinct
    ones evaluated; use `BBKB` where that is too much or where evaluations can run in parallel.

    Parameters
    ----------
    {kernel}
    {beta}
    {memory}
    {others}

    Attributes
    ----------
    {attributes}

    References
    ----------
    [Srinivas2010]_, [Chowdhury2017]_

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sparseprob.bandits import GPUCB
    >>> X = np.linspace(0, 1, 200)[:, None]
    >>> policy = GPUCB(RBF(0.2), noise_variance=1e-4, max_evals=30, random_state=0).initialize(X)
    >>> policy = policy.run(lambda x: np.sin(6 * x[0]), 30)
    >>> policy.best_.x.round(1)
    array([0.3])
    """

    def __init__(
        self,
        kernel=None,
        *,
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

    def _select(self):
        return self._best_bound(self._beta)

    def _picked(self, index):
        self._posterior.take(index)
        return True
