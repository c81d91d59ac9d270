"""Ada-BKB: a bandit on a box instead of a finite set (Rando, Carratino, Villa & Rosasco, 2022)."""

import logging
from numbers import Integral, Real

import numpy as np
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .. import mpi
from .._arrays import to_numpy
from ._box_points import BoxPoints
from ._box_posterior import BoxPosterior
from ._box_search import SEARCHES
from ._kernel import KernelFunction
from ._kernel_fit import fit_to_feedback
from ._policy import Policy
from ._policy_docs import described
from ._setup import checked_bounds
from ._widths import posterior, width, width_options

_LOG = logging.getLogger("sparseprob")


def frozen(t, policy):
    """Return the width of BBKB, for bounds that stay while leverages shrink by the threshold."""
    spread = policy.ratio_threshold * policy._posterior.logdet - np.log(policy._delta)
    return np.sqrt(policy._lam) * policy.fnorm + np.sqrt(policy.noise_variance * spread)


_RULES = {"self-normalized": frozen, "posterior": posterior}


@described
class AdaBKB(Policy):
    r"""Upper confidence bounds in a box, whose discretization adapts to what was seen.

    Two ways to look for the point of the largest upper bound :math:`\mu(x) + \beta \sqrt{s(x)}`:

    - ``discretization="tree"``, as published [Rando2022]_: cells of the box with the kernel
      distance V from center to corner, times `fnorm`, as their radius. Of the cell with the largest
      index :math:`\min(\mathrm{ucb}(x), \mathrm{ucb}(x_\text{parent}) + V_\text{parent}) + V` at
      its center, the center is evaluated if :math:`\beta \sqrt{s} > V`, else the cell is cut in
      `n_split` parts across its longest side, measured in length-scales. Cells whose index is below
      the best lower bound are given up.
    - ``discretization="cloud"``: candidates that move after every batch, half of them Sobol points
      of the box, half around the best points at distances from a thousandth to a fifth of the box.
      It comes without a guarantee and finds far better optima in more than three dimensions.

    Both rest on the sparse posterior of BKB; points join its dictionary when they are picked, and
    batches end by the rule of `BBKB`. With `optimizer` the kernel is fitted to the feedback at the
    end of batches.

    Parameters
    ----------
    kernel : sklearn.gaussian_process.kernels.Kernel, default=None
        Covariance function. None is an RBF whose length-scales are a fifth of the sides of the box;
        with `optimizer`, a constant times a Matern kernel (nu 2.5) that starts from half of them.
    discretization : {"tree", "cloud"}, default="tree"
        Cells, or moving candidates.
    optimizer : {"fmin_l_bfgs_b"} or None, default=None
        How the kernel is fitted: by the likelihood of the feedback so far, from the given kernel
        and from the last one, within their bounds. None keeps the kernel.
    refit_every : int, default=1
        Batches from one fit to the next.
    n_hyper : int, default=500
        Evaluated points that a fit uses at most.
    beta : {"self-normalized", "posterior"}, float or callable, default="self-normalized"
        Width of the confidence bounds, which multiplies the root of the leverage. "self-normalized"
        is that of `BBKB`; "posterior" is one posterior standard deviation, ``lam**0.5``. A callable
        gets the number t of the coming evaluation and the policy.
    ratio_threshold : float, default=1.0
        A batch ends when one plus the sum of its leverages at the start of the batch exceeds this;
        with 1 every batch is one evaluation, as published.
    min_batch_size : int, default=1
        Batches are filled up to this, even past the threshold; the guarantee is lost.
    max_batch_size : int, default=None
        Batches end here at the latest.
    qbar : float, default=2.0
        Dictionaries have about qbar times as many points as the effective dimension.
    n_split : int, default=3
        Parts into which a cell is cut.
    max_depth : int, default=None
        Cuts from the box to the smallest cells; None is ten for each feature.
    max_cells : int, default=20000
        Cells of the tree; then only centers are evaluated.
    noise_variance : float, default=1e-2
        Bound :math:`\xi^2` on the variance of the noise.
    lam : float, default=None
        Ridge :math:`\lambda`, the noise variance of the posterior. None is `noise_variance`.
    fnorm : float, default=1.0
        Bound F on the norm of the function in the space of the kernel.
    delta : {"auto", "1/T"}, float or None, default="auto"
        Probability that a bound fails. "1/T" is one over `max_evals`; "auto" is that where
        `max_evals` is given, else 0.5; None is 0.5.
    max_evals : int, default=None
        Number of evaluations, those of the initial design included, after which `ask` returns none.
    beta_scale : float, default=1.0
        Factor of the width of the confidence bounds.
    normalize_y : False or "initial", default=False
        Whether feedback is standardized by the initial design.
    n_initial : int, default=1
        Size of the initial design; the first point of a tree is the center of the box.
    initial : {"random", "sobol"} or array-like of shape (n, n_features), default="sobol"
        How the other points of the initial design are drawn, or all of them.
    maximize : bool, default=True
        Whether large values are wanted.
    random_state : int, RandomState instance or None, default=None
        Draws the initial design, dictionaries and the cloud.

    Attributes
    ----------
    points_ : ndarray of shape (n_points, n_features)
        The numbered points: centers of cells, or the cloud; evaluated ones never move.
    kernel_ : sklearn.gaussian_process.kernels.Kernel
        The kernel now.
    n_cells_ : int
        Cells of the tree, those that have been cut included; 0 for a cloud.
    dictionary_indices_ : int64 array of shape (m,)
        Numbers of the points that are the dictionary.
    {attributes}

    See Also
    --------
    BBKB : Finite sets of candidates.

    Notes
    -----
    Everything runs on the host, under ``with sparseprob.distributed():`` on every rank alike; only
    evaluations of `run` are shared out.

    Published radii shrink by `n_split` with every cut, which bounds them in one dimension only;
    here they are those of the cells. So they hold for every stationary kernel that falls with the
    distance along each feature. The number of cells grows like the power of the dimension: a tree
    is for up to three features or so.

    References
    ----------
    [Rando2022]_, [Calandriello2020]_

    Examples
    --------
    >>> from sklearn.gaussian_process.kernels import RBF
    >>> from sparseprob.bandits import AdaBKB
    >>> from sparseprob.datasets.test_functions import Branin
    >>> f = Branin()
    >>> policy = AdaBKB(
    ...     discretization="cloud", optimizer="fmin_l_bfgs_b", beta="posterior", beta_scale=2.0,
    ...     min_batch_size=5, max_batch_size=5, n_initial=10, normalize_y="initial",
    ...     noise_variance=1e-5, maximize=False, random_state=0,
    ... )
    >>> policy = policy.initialize(bounds=f.bounds, n_candidates=1024).run(f, 40)
    >>> bool(f(policy.best_.x) < f.optimum_value + 0.02)
    True
    """

    _parameter_constraints: dict = Policy._parameter_constraints | {
        "discretization": [StrOptions(set(SEARCHES))],
        "optimizer": [None, StrOptions({"fmin_l_bfgs_b"})],
        "refit_every": [Interval(Integral, 1, None, closed="left")],
        "n_hyper": [Interval(Integral, 2, None, closed="left")],
        "beta": width_options(_RULES),
        "ratio_threshold": [Interval(Real, 1, None, closed="left")],
        "min_batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_batch_size": [None, Interval(Integral, 1, None, closed="left")],
        "qbar": [Interval(Real, 0, None, closed="neither")],
        "n_split": [Interval(Integral, 2, None, closed="left")],
        "max_depth": [None, Interval(Integral, 0, None, closed="left")],
        "max_cells": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        kernel=None,
        *,
        discretization="tree",
        optimizer=None,
        refit_every=1,
        n_hyper=500,
        beta="self-normalized",
        ratio_threshold=1.0,
        min_batch_size=1,
        max_batch_size=None,
        qbar=2.0,
        n_split=3,
        max_depth=None,
        max_cells=20000,
        noise_variance=1e-2,
        lam=None,
        fnorm=1.0,
        delta="auto",
        max_evals=None,
        beta_scale=1.0,
        normalize_y=False,
        n_initial=1,
        initial="sobol",
        maximize=True,
        random_state=None,
    ):
        self.kernel = kernel
        self.discretization = discretization
        self.optimizer = optimizer
        self.refit_every = refit_every
        self.n_hyper = n_hyper
        self.beta = beta
        self.ratio_threshold = ratio_threshold
        self.min_batch_size = min_batch_size
        self.max_batch_size = max_batch_size
        self.qbar = qbar
        self.n_split = n_split
        self.max_depth = max_depth
        self.max_cells = max_cells
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

    # ---- setting up -----------------------------------------------------------------------------

    def initialize(self, X=None, *, bounds=None, n_candidates=4096):
        """Start afresh in a box.

        Parameters
        ----------
        X : None
            There are no given candidates; use `BBKB` for those.
        bounds : array-like of shape (n_features, 2)
            Lower and upper ends of the box.
        n_candidates : int, default=4096
            Points of a cloud that have not been evaluated.

        Returns
        -------
        self : object
            The policy, ready for `ask`.
        """
        self._check_parameters()
        if X is not None or bounds is None:
            raise ValueError("AdaBKB searches a box: give its bounds; for candidates use BBKB.")
        low, high = checked_bounds(to_numpy(bounds))
        if not isinstance(n_candidates, Integral) or n_candidates < 1:
            raise ValueError(f"n_candidates must be a positive integer, got {n_candidates!r}.")
        if self.max_batch_size is not None and self.max_batch_size < self.min_batch_size:
            raise ValueError(
                f"max_batch_size={self.max_batch_size} is less than "
                f"min_batch_size={self.min_batch_size}."
            )
        self._seed = int(mpi.broadcast(check_random_state(self.random_state).randint(2**31 - 1)))
        self._rng = np.random.default_rng(self._seed)
        self._candidates = BoxPoints(low, high)
        self._n_candidates, self.n_features_in_ = int(n_candidates), len(low)
        self._given_kernel = self._checked_kernel()
        self._kernel = KernelFunction(self._given_kernel, self.n_features_in_)
        self._search = SEARCHES[self.discretization](self)
        self._check_prior()
        self._begin()
        return self

    def _checked_kernel(self):
        if self.kernel is not None:
            return self.kernel
        sides = self._candidates.high - self._candidates.low
        if self.optimizer is None:
            return RBF(0.2 * sides)
        return ConstantKernel(1.0) * Matern(0.5 * sides, nu=2.5)

    def _initial_design(self):
        if isinstance(self.initial, str):
            return self._search.initial(self, self.n_initial)
        return self._candidates.number(self.initial, "initial").tolist()

    def _start(self):
        self._posterior = BoxPosterior(self._kernel, self._lam, self.qbar, self._seed)
        self._n_learned, self._picked_in = 0, -1
        self._ratio, self._n_open = 1.0, 0

    # ---- batches --------------------------------------------------------------------------------

    def _upper_bounds(self):
        posterior = self._posterior
        return posterior.mean + self._beta * np.sqrt(posterior.leverage)

    def _select(self):
        number, posterior = self._search.select(self), self._posterior
        return number, float(posterior.mean[number]), float(posterior.leverage[number])

    def _picked(self, index):
        if self._picked_in != self._batch:
            self._picked_in, self._ratio, self._n_open = self._batch, 1.0, 0
        self._ratio += self._posterior.start_leverage(index)
        self._n_open += 1
        self._take(index)
        if self._n_open == self.max_batch_size:
            return True
        return self._n_open >= self.min_batch_size and self._ratio > self.ratio_threshold

    def _take(self, index):
        self._posterior.pick(index, self._candidates.X)
        self._search.picked()

    def observe(self, indices, y):
        """Take in values that were measured elsewhere, without having been asked for.

        Before the first `ask` they replace the initial design.

        Parameters
        ----------
        indices : array-like of float of shape (n, n_features), or of int of shape (n,)
            The points, or the numbers of points in ``points_``.
        y : array-like of shape (n,)
            Finite values.

        Returns
        -------
        self : object
            The policy.
        """
        self._check_initialized()
        if np.ndim(indices) == 2:
            self._check_values(y, len(indices), "raise")  # before the points get numbers
            indices = self._candidates.number(indices, "indices")
        return super().observe(indices, y)

    def _learn(self, indices, values, rebuild):
        ledger, kernel = self._ledger, self._kernel
        if self.optimizer is not None and self._n_learned % self.refit_every == 0:
            self._fit_kernel()
        self._n_learned += 1
        pending = ledger.unabsorbed_indices
        rebuild = rebuild or kernel is not self._kernel
        self._posterior.learn(
            ledger, indices, values, pending, rebuild=rebuild, kernel=self._kernel
        )
        self._beta = width(self, _RULES)
        self._search.renew(self)
        for index in pending.tolist():
            self._take(index)

    def _fit_kernel(self):
        ledger = self._ledger
        if len(ledger.indices) <= self.n_features_in_:
            return
        kernel = fit_to_feedback(
            ledger,
            self._given_kernel,
            self.noise_variance,
            starts=(self._kernel.kernel,),
            n_hyper=self.n_hyper,
        )
        self._kernel = KernelFunction(kernel, self.n_features_in_)
        _LOG.info("AdaBKB: batch %d, kernel %s", self._batch, kernel)

    # ---- answers --------------------------------------------------------------------------------

    def _posterior_at(self, X):
        return self._posterior.at(X)

    def _posterior_on_candidates(self):
        if self._posterior.is_built and len(self._posterior.mean) < self._candidates.total:
            self._posterior.score(self._candidates.X, len(self._posterior.mean))
        return self._posterior.mean, self._posterior.leverage

    def _size(self):
        return len(self._posterior.model.indices) if self._posterior.is_built else 0

    @property
    def points_(self):
        """The numbered points: centers of cells, or the cloud; evaluated ones never move."""
        self._check_initialized()
        return self._candidates.X.copy()

    @property
    def kernel_(self):
        """The kernel now."""
        self._check_initialized()
        return self._kernel.kernel

    @property
    def n_cells_(self):
        """Cells of the tree, those that have been cut included; 0 for a cloud."""
        self._check_initialized()
        return self._search.tree.n_cells if self.discretization == "tree" else 0

    @property
    def dictionary_indices_(self):
        """Numbers of the points that are the dictionary."""
        self._check_learned()
        return np.sort(self._posterior.model.indices)
