"""Sparse Gaussian posterior of largest bound for given kernel and likelihood.

At its maximum the posterior precision is that of the prior plus weights W, minus twice the
derivatives of the expected log likelihood by the marginal variances (Opper & Archambeau, 2009). So
the posterior is found as a fixed point in the weights: its factor V is the incomplete Cholesky
factor of the sum on the pattern, its mean comes from Newton steps by conjugate gradients.
"""

import numpy as np

from .._arrays import like, to_numpy
from ._incomplete_cholesky import gram_on_pattern, incomplete_factor
from ._laplace import laplace_start
from ._sparse_solves import Factor, conjugate_gradients, posterior_variances, row_view

_LEAST_WEIGHT = 1e-8
_MOST_STEPS = 30
_CG_SHARE = 1e-3  # of the residual that a Newton step leaves
_LAPLACE_TOL = 1e-3
_MOST_HALVINGS = 20
_PROBED = 200  # columns whose variances are compared with those of all ancestors


class Posterior:
    """Mean nu and factor V on the pattern of a bound; on the host but for the variances.

    Parameters
    ----------
    bound : Bound
    """

    def __init__(self, bound):
        self.bound = bound
        self._prior = tuple(map(to_numpy, bound.patterns.prior))
        self._rows = row_view(*self._prior)
        self._last = to_numpy(bound.patterns.prior.indptr)[1:] - 1
        self._is_diagonal = len(bound.patterns.posterior.indices) == len(bound.y)
        self._y = to_numpy(bound.y)
        self.nu = self.W = self.V = None
        self.n_shifts = 0

    def update(self, U, likelihood, tol):
        """Find the posterior for the prior's factor U, beginning with the one of before.

        Ends when steps of the mean are shorter than tol, in prior standard deviations.
        """
        U = Factor(*self._prior, to_numpy(U), self._rows)
        self._of_W = None
        on_host = likelihood.on_host()
        if self.W is None:
            self._start(U, likelihood)
        for _ in range(_MOST_STEPS):
            self._factorize(U)
            variances = to_numpy(self.bound.marginals(self.device_V))
            _, slope, by_variance = on_host.expected(self._y, self.nu, variances)
            before, self.W = self.W, np.maximum(-2.0 * by_variance, _LEAST_WEIGHT)
            length = self._newton_step(U, on_host, slope, variances)
            if not (np.isfinite(length) and np.isfinite(self.W).all()):
                self.W = None
                raise np.linalg.LinAlgError("The posterior could not be found for this kernel.")
            change = np.abs(np.log(self.W / before)).mean()
            if length <= tol / abs(U.data[0]) and change <= 10 * tol:
                break
        self._factorize(U)

    @property
    def device_nu(self):
        """The mean where the points are."""
        return like(self.nu, self.bound.points)

    @property
    def device_V(self):
        """The factor where the points are."""
        return like(self.V, self.bound.points)

    def _start(self, U, likelihood):
        """Begin with the mode and the curvature there."""
        self.nu, _, info = laplace_start(
            *self._prior, U.data, self._y, likelihood.on_host(), tol=_LAPLACE_TOL
        )
        self.n_shifts += info.n_shifts
        self.W = likelihood.on_host().derivatives(self._y, self.nu)[1]

    def _factorize(self, U):
        """Set V for the weights, and what conjugate gradients are preconditioned with."""
        if self._of_W is not None and np.array_equal(self._of_W, self.W):
            return
        Q = gram_on_pattern(*self._prior, U.data, self.W, self._rows)
        data, n_shifts = incomplete_factor(*self._prior, Q)
        self.n_shifts += n_shifts
        self._factor, self._of_W = Factor(*self._prior, data, self._rows), self.W
        self.V = np.sqrt(Q[self._last]) if self._is_diagonal else data

    def _newton_step(self, U, likelihood, slope, variances):
        """Move the mean up the bound, variances held; return the root mean square of the step."""
        gradient = slope - U.product(U.product_transposed(self.nu))
        step = conjugate_gradients(
            lambda x: U.product(U.product_transposed(x)) + self.W * x,
            self._factor.solve_gram,
            gradient,
            rtol=_CG_SHARE,
        ).x

        def objective(nu):
            with np.errstate(over="ignore", invalid="ignore"):
                fit = likelihood.expected(self._y, nu, variances)[0].sum()
                return fit - 0.5 * (U.product_transposed(nu) ** 2).sum()

        now, promised = objective(self.nu), gradient @ step
        noise = 1e-13 * max(1.0, abs(now))
        for halving in range(_MOST_HALVINGS):
            share = 0.5**halving
            if objective(self.nu + share * step) >= now + 1e-4 * share * promised - noise:
                self.nu = self.nu + share * step
                break
        return np.sqrt(np.mean(step * step))

    def bias(self, rng):
        """Mean relative error of marginal variances for seeing the chosen ancestors only."""
        n = len(self._y)
        rows = np.sort(rng.permutation(n)[:_PROBED])
        pattern = tuple(map(to_numpy, self.bound.patterns.posterior))
        exact = posterior_variances(*pattern, self.V, rows)
        return float(
            np.mean(np.abs(to_numpy(self.bound.marginals(self.device_V))[rows] / exact - 1))
        )
