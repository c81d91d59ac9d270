"""Budgeted kernel bandits (Calandriello, Carratino, Lazaric, Valko & Rosasco, 2019)."""

import numpy as np

from ._sparse_policy import SparsePolicy


class BKB(SparsePolicy):
    r"""One evaluation at a time, from a sparse Gaussian process redrawn after each.

    The candidate of the largest :math:`\mu_i + \beta \sqrt{s_i}` is evaluated, then the dictionary
    is drawn anew from all evaluated candidates by their leverages s (variances over lam). With
    :math:`t` evaluations, n_i of candidate i,

    .. math:: \beta = \sqrt{\mathrm{lam}}\, F
        + \sqrt{\xi^2 (\log(t) \sum_i n_i s_i + \log(1 / \delta))}.

    Parameters
    ----------
    kernel : sklearn.gaussian_process.kernels.Kernel, default=None
        Covariance of the function. None takes RBF with a fifth of each feature's range.
    lam : float, default=None
        Ridge; None takes `noise_variance`.
    noise_variance : float, default=1e-2
        Variance of the noise of an evaluation.
    fnorm : float, default=1.0
        Bound F of the norm of the function in the space of the kernel.
    delta : float, "auto", "1/T" or None, default="auto"
        Probability of failure. "auto" is 1 / `max_evals` if that is given, else 0.5, as is None.
    qbar : float, default=2.0
        Dictionaries have about qbar times as many points as the effective dimension; 2 to 10.
    max_evals : int, default=None
        Number T of evaluations after which `ask` returns none.
    beta_scale : float, default=1.0
        Multiplies the width.
    exact_start : bool, default=True
        Whether the dictionary is extended instead of computed afresh while draws keep all that was
        evaluated. The picks are the same.
    normalize_y : False or "initial", default=False
        "initial" takes mean and deviation of the initial design off all feedback.
    n_initial : int, default=2
        Evaluations of the initial design.
    initial : {"random", "sobol"} or array-like of int, default="random"
        How they are chosen; or the candidates to evaluate.
    maximize : bool, default=True
        Whether large values are sought; False seeks small ones.
    storage : {"auto", "dense", "stream"}, default="auto"
        "dense" keeps the embedding of all candidates, "stream" computes it again where it is
        needed; "auto" is dense where it fits `max_memory_mb`. The picks are the same.
    max_memory_mb : float, default=None
        Limit of the embeddings that are kept; None is 2048 on the host and half of the free
        memory on a GPU.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    dictionary_indices_ : int64 array of shape (m,)
        Candidates that are the dictionary.
    n_dictionary_builds_ : int
        How often the embedding was computed from scratch.
    n_dictionary_fallbacks_ : int
        How often a draw kept no candidate, so that the one of the largest weight was kept.

    See Also
    --------
    BBKB : The same in batches, many times faster.

    References
    ----------
    See [Calandriello2019]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sparseprob.bandits import BKB
    >>> X = np.linspace(0, 1, 200)[:, None]
    >>> policy = BKB(RBF(0.1), noise_variance=0.01, max_evals=60, random_state=0).initialize(X)
    >>> rng = np.random.default_rng(0)
    >>> while len(batch := policy.ask()):
    ...     y = np.sin(6 * batch.X[:, 0]) + 0.1 * rng.normal(size=len(batch))
    ...     policy = policy.tell(batch, y)
    >>> bool(abs(policy.best_.x[0] - np.pi / 12) < 0.1)
    True
    """

    def __init__(
        self,
        kernel=None,
        *,
        lam=None,
        noise_variance=1e-2,
        fnorm=1.0,
        delta="auto",
        qbar=2.0,
        max_evals=None,
        beta_scale=1.0,
        exact_start=True,
        normalize_y=False,
        n_initial=2,
        initial="random",
        maximize=True,
        storage="auto",
        max_memory_mb=None,
        random_state=None,
    ):
        self.kernel = kernel
        self.lam = lam
        self.noise_variance = noise_variance
        self.fnorm = fnorm
        self.delta = delta
        self.qbar = qbar
        self.max_evals = max_evals
        self.beta_scale = beta_scale
        self.exact_start = exact_start
        self.normalize_y = normalize_y
        self.n_initial = n_initial
        self.initial = initial
        self.maximize = maximize
        self.storage = storage
        self.max_memory_mb = max_memory_mb
        self.random_state = random_state

    def _rule(self, start_leverage):
        return True

    def _width(self):
        information = np.log(self._ledger.n_absorbed) * self._sum_of_leverages()
        confidence = information + np.log(1.0 / self._delta)
        return np.sqrt(self._lam) * self.fnorm + np.sqrt(self.noise_variance * confidence)
