"""Which settings to try next, from the scores so far: a fitted kernel and a policy's batch."""

import warnings

import numpy as np
from scipy.optimize import minimize
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from .. import mpi
from .._threads import blas_threads_for
from ._batch import BanditWarning

_DEVIATION = 1.0  # of the logarithms of kernel parameters around their first values
_LEAST_NOISE = 1e-4
MOST_ASKS = 20  # of a policy for each new candidate
_WIDTH = 2.0  # deviations, where the policy has nothing new to offer


class Proposals:
    """Rows of a set of points, proposed in batches by a policy that is shown the scores.

    Parameters
    ----------
    points : ndarray of shape (n, n_features)
        In the unit cube; their beginnings cover it evenly.
    policy : Policy
        A template, which is cloned for each batch.
    n_initial : int
        Rows of the first batch.
    seed : int
    """

    def __init__(self, points, policy, n_initial, seed):
        self.points, self.policy = points, policy
        self.n_initial, self.seed = n_initial, seed
        self.rows: list = []
        self.scores: list = []

    def next(self, n):
        """Return at most n rows that were not proposed before (`n_initial` the first time)."""
        if not self.rows:
            return list(range(self.n_initial))
        if np.isnan(self.scores).all() or self.points.shape[1] == 0:
            return self._fresh(n)
        with mpi.each_rank_alone():
            return self._asked(n)

    def take(self, rows, scores):
        """Take in the scores, NaN for failures, of rows that were proposed."""
        self.rows.extend(rows)
        self.scores.extend(scores)

    def _fresh(self, n):
        """Return the first rows that were not proposed."""
        known = set(self.rows)
        return [row for row in range(len(self.points)) if row not in known][:n]

    def _asked(self, n):
        y = normal_scores(self.scores)
        kernel, noise = fit_kernel(self._start_kernel(), self.points[self.rows], y)
        policy = clone(self.policy).set_params(
            kernel=kernel, noise_variance=noise, random_state=self.seed + len(self.rows)
        )
        policy.initialize(self.points).observe(self.rows, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BanditWarning)
            new = self._new_picks(policy, n)
            self._fill(policy, new, 1 if policy.batch_closed_ else n)
        return new

    def _new_picks(self, policy, n):
        """Return what the policy asks for in one batch, without what is known."""
        known, new = set(self.rows), []
        for _ in range(MOST_ASKS * n):
            batch = policy.ask(1)
            if not len(batch):
                break
            row = int(batch.indices[0])
            if row not in known:
                known.add(row)
                new.append(row)
            if len(new) == n:
                break
        return new

    def _fill(self, policy, new, n):
        """Add rows of the highest confidence bounds while the policy asks for known ones only."""
        while len(new) < n:
            mean = policy.mean_
            bound = mean + _WIDTH * policy.posterior_std_
            bound[[*self.rows, *new]] = -np.inf
            new.append(int(np.argmax(bound)))
            policy.observe(new[-1:], mean[new[-1:]])

    def _start_kernel(self):
        if self.policy.kernel is not None:
            return self.policy.kernel
        lengths = np.full(self.points.shape[1], 0.5)
        return ConstantKernel(1.0) * Matern(lengths, nu=2.5)


def normal_scores(scores):
    """Return normal quantiles of the ranks of scores; failures rank last.

    What a policy sees does not change when the scores go through an increasing function, and no
    failed or hopeless setting widens their scale.
    """
    ranks = rankdata(np.where(np.isnan(scores), -np.inf, scores))
    return ndtri((ranks - 0.5) / len(ranks))


def fit_kernel(kernel, X, y):
    """Return a kernel fitted to points, and the variance of the noise, for y of unit scale.

    The posterior mode of the logarithms of all parameters, whose prior is normal around those of
    the given kernel: a handful of points cannot send a length-scale to the end of its range.
    """
    noisy = clone(kernel) + WhiteKernel(0.02, (_LEAST_NOISE, 1.0))

    def mode(loss, theta, bounds):
        def with_prior(t):
            value, slope = loss(t)
            off = (t - theta) / _DEVIATION
            return value + 0.5 * off @ off, slope + off / _DEVIATION

        found = minimize(with_prior, theta, method="L-BFGS-B", jac=True, bounds=bounds)
        return found.x, found.fun

    regressor = GaussianProcessRegressor(noisy, alpha=1e-10, optimizer=mode)
    with warnings.catch_warnings(), blas_threads_for(len(X) ** 3):
        warnings.simplefilter("ignore", ConvergenceWarning)  # parameters at their bounds
        fitted = regressor.fit(X, y).kernel_
    return fitted.k1, float(max(fitted.k2.noise_level, _LEAST_NOISE))
