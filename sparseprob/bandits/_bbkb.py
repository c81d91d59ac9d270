"""Batch budgeted kernel bandits (Calandriello, Carratino, Lazaric, Valko & Rosasco, 2020)."""

import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from .. import mpi
from ._batch import BanditWarning
from ._sparse_policy import SparsePolicy


class BBKB(SparsePolicy):
    r"""Batches of adaptive size, from a sparse Gaussian process whose dictionary is resampled.

    A batch takes the candidates of the largest upper confidence bound
    :math:`\mu_i + \beta \sqrt{s_i}` one after another. Mean and width stay as they are, only
    variances shrink, until

    .. math:: 1 + \sum_{j \in \text{batch}} s_j > C

    with the leverages s (variances over lam) at the start of the batch; by this no variance can
    have shrunk by more than C. Early batches are single evaluations, late ones hundreds. A
    dictionary of few evaluated candidates, redrawn by their leverages, keeps the cost of a step
    from growing with time.

    Parameters
    ----------
    kernel : sklearn.gaussian_process.kernels.Kernel, default=None
        Covariance of the function. None takes RBF with a fifth of each feature's range.
    ratio_threshold : float, default=1.5
        C, at least 1. With 1 every batch is one evaluation.
    resparsify_threshold : float or None, default=4.0
        The dictionary is redrawn at the end of a batch when the same sum, over all evaluations
        since it was, exceeds this. None redraws after every batch, as published.
    batching : {"global", "global-local"}, default="global"
        "global-local" goes on from there with a bound for each candidate of its own, which is
        tighter: batches are larger, and cost one pass over the candidates for each pick.
    lam : float, default=None
        Ridge; None takes `noise_variance`.
    noise_variance : float, default=1e-2
        Variance of the noise of an evaluation.
    fnorm : float, default=1.0
        Bound of the norm of the function in the space of the kernel.
    delta : float, "auto", "1/T" or None, default="auto"
        Probability of failure. "auto" is 1 / `max_evals` if that is given, else 0.5, as is None.
    qbar : float, default=2.0
        Dictionaries have about qbar times as many points as the effective dimension; 2 to 10.
    min_batch_size : int, default=1
        Batches are filled up to this, even past the threshold. The width grows by the ratio that
        was reached instead of C, but the guarantee is lost.
    max_batch_size : int, default=None
        Batches end here at the latest.
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
        Evaluations before the first batch.
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
    logdet_ : float
        The information of all evaluations so far, as the width takes it.

    See Also
    --------
    BKB : One evaluation at a time.
    GPUCB : Exact posterior; usually as fast for up to some thousand evaluations.

    Notes
    -----
    This pays off when evaluations are many times the effective dimension. While nearly every pick
    is of a candidate never seen, batches have size 1 and the theoretical width explores nearly
    uniformly: use `GPUCB` there, and a smaller `beta_scale`. The guarantees are those of the paper
    for ``resparsify_threshold=None``.

    Candidates are compared by 31 bits of their bounds, of equals the first is taken: so repeated
    candidates are equal, and rounding does not decide.

    References
    ----------
    See [Calandriello2020]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sparseprob.bandits import BBKB
    >>> X = np.linspace(0, 1, 500)[:, None]
    >>> policy = BBKB(RBF(0.1), noise_variance=0.01, max_evals=200, random_state=0).initialize(X)
    >>> rng = np.random.default_rng(0)
    >>> while len(batch := policy.ask()):
    ...     y = np.sin(6 * batch.X[:, 0]) + 0.1 * rng.normal(size=len(batch))
    ...     policy = policy.tell(batch, y)
    >>> bool(abs(policy.best_.x[0] - np.pi / 12) < 0.05)
    True
    """

    _parameter_constraints = SparsePolicy._parameter_constraints | {
        "ratio_threshold": [Interval(Real, 1, None, closed="left")],
        "resparsify_threshold": [None, Interval(Real, 1, None, closed="left")],
        "batching": [StrOptions({"global", "global-local"})],
        "min_batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_batch_size": [None, Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        kernel=None,
        *,
        ratio_threshold=1.5,
        resparsify_threshold=4.0,
        batching="global",
        lam=None,
        noise_variance=1e-2,
        fnorm=1.0,
        delta="auto",
        qbar=2.0,
        min_batch_size=1,
        max_batch_size=None,
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
        self.ratio_threshold = ratio_threshold
        self.resparsify_threshold = resparsify_threshold
        self.batching = batching
        self.lam = lam
        self.noise_variance = noise_variance
        self.fnorm = fnorm
        self.delta = delta
        self.qbar = qbar
        self.min_batch_size = min_batch_size
        self.max_batch_size = max_batch_size
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

    def _check_parameters(self):
        super()._check_parameters()
        limit = self.resparsify_threshold
        if limit is not None and limit < self.ratio_threshold:
            raise ValueError(
                f"resparsify_threshold={limit} must be at least "
                f"ratio_threshold={self.ratio_threshold}, or None."
            )
        if self.max_batch_size is not None and self.max_batch_size < self.min_batch_size:
            raise ValueError(
                f"max_batch_size={self.max_batch_size} must be at least "
                f"min_batch_size={self.min_batch_size}."
            )

    def _start(self):
        super()._start()
        self._widest = self.ratio_threshold  # the ratio that the width allows for
        self._has_warned = False

    def _start_batch(self):
        if self._picks_so_far() and self.min_batch_size > 1:
            self._widest = max(self.ratio_threshold, self._reached())
        super()._start_batch()
        self._local: Any = None
        self._local_start: Any = None

    def _picks_so_far(self):
        return len(getattr(self, "_picks", ()))

    def _reached(self):
        """Bound of how far the batch has shrunk any variance."""
        return self._ratio if self._local is None else min(self._ratio, self._largest_local())

    def _rule(self, start_leverage):
        complete = self._threshold_is_crossed()
        n = self._picks_so_far()
        if n < self.min_batch_size:
            return False
        if self.max_batch_size is not None and n >= self.max_batch_size and not complete:
            self._warn_of_truncation()
            return True
        return complete

    def _threshold_is_crossed(self):
        if self._ratio <= self.ratio_threshold:
            return False
        if self.batching == "global":
            return True
        if self._local is None:
            points = self._on_device(self._candidates.points(self._picks))
            self._local, self._local_start = self._scores.local_ratios(self._model, points)
            return False  # the batch has one candidate more at least, as published
        point = self._on_device(self._candidates.points(self._picks[-1:]))
        self._scores.add_local_ratio(self._model, point, self._local, self._local_start)
        return self._largest_local() > self.ratio_threshold

    def _largest_local(self):
        return mpi.row_max(float(self._local.max()) if len(self._local) else 1.0)

    def _warn_of_truncation(self):
        if not self._has_warned:
            warnings.warn(
                f"A batch was cut off at max_batch_size={self.max_batch_size}; its rule allows "
                "larger ones.",
                BanditWarning,
                stacklevel=2,
            )
        self._has_warned = True

    def _redraw_is_due(self):
        limit = self.resparsify_threshold
        return limit is None or self._ratio_since_redraw > limit

    def _width(self):
        confidence = self._widest * self._logdet + np.log(1.0 / self._delta)
        return np.sqrt(self._lam) * self.fnorm + np.sqrt(self.noise_variance * confidence)
