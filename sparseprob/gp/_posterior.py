"""Sparse Gaussian posterior of largest bound for given kernel and likelihood.

At its maximum the posterior precision is that of the prior plus weights W, minus twice the
derivatives of the expected log likelihood by the marginal variances (Opper & Archambeau, 2009). So
the posterior is found as a fixed point in the weights: its factor V is the incomplete Cholesky
factor of the sum on the pattern, its mean comes from Newton steps by conjugate gradients.
"""

from typing import Any

import numpy as np

from .._arrays import compute_namespace, to_numpy
from ._incomplete_cholesky import gram_on_pattern, incomplete_factor
from ._laplace import laplace_start
from ._sparse_solves import Factor, conjugate_gradients, posterior_variances, row_view

_LEAST_WEIGHT = 1e-8
_MOST_STEPS = 30
_CG_SHARE = 1e-3  # of the residual that a Newton step leaves
_LAPLACE_TOL = 1e-3
_LEAST_SHARE = 0.05  # of a change of the weights that is taken
_MOST_HALVINGS = 20
_PROBED = 200  # columns whose variances are compared with those of all ancestors


class Posterior:
    """Mean nu and factor V on the pattern of a bound.

    Parameters
    ----------
    bound : Bound
    """

    def __init__(self, bound):
        self.bound = bound
        self._indptr, self._indices = bound.patterns.prior
        self._rows = row_view(self._indptr, self._indices)
        self._last = self._indptr[1:] - 1
        self._is_diagonal = len(bound.patterns.posterior.indices) == len(bound.y)
        self._y = bound.y
        self.nu: Any = None
        self.W: Any = None
        self.V: Any = None
        self._of_W: Any = None
        self.n_shifts = 0

    @np.errstate(over="ignore", invalid="ignore")  # what is not finite is noticed below
    def update(self, U, likelihood, tol):
        """Find the posterior for the prior's factor U, beginning with the one of before.

        Ends when steps of the mean are shorter than tol, in prior standard deviations.
        """
        U = Factor(self._indptr, self._indices, U, self._rows)
        self._of_W = None
        if self.W is None:
            self._start(U, likelihood)
        xp, share, before = compute_namespace(self._y), 1.0, None
        for _ in range(_MOST_STEPS):
            self._factorize(U)
            variances = self.bound.marginals(self.V)
            _, slope, by_variance = likelihood.expected(self._y, self.nu, variances)
            length = self._newton_step(U, likelihood, slope, variances)
            change = xp.maximum(-2.0 * by_variance, _LEAST_WEIGHT) - self.W
            if not (np.isfinite(length) and bool(xp.isfinite(change).all())):
                self.W = None
                raise np.linalg.LinAlgError(
                    "The posterior for the start values overflows; start from a kernel with less "
                    "variance, or scale the targets."
                )
            effect = variances * change
            share, before = _share(share, before, effect), effect
            self.W = self.W + share * change
            if length <= tol / abs(float(U.data[0])) and float(xp.abs(effect).mean()) <= 10 * tol:
                break
        self._factorize(U)

    def _start(self, U, likelihood):
        """Begin with the mode and the curvature there."""
        self.nu, _, info = laplace_start(
            self._indptr, self._indices, U.data, self._y, likelihood, tol=_LAPLACE_TOL
        )
        self.n_shifts += info.n_shifts
        self.W = likelihood.derivatives(self._y, self.nu)[1]

    def _factorize(self, U):
        """Set V for the weights, and what conjugate gradients are preconditioned with."""
        if self._of_W is not None and np.array_equal(self._of_W, self.W):
            return
        Q = gram_on_pattern(self._indptr, self._indices, U.data, self.W, self._rows)
        data, n_shifts = incomplete_factor(self._indptr, self._indices, Q)
        self.n_shifts += n_shifts
        self._factor, self._of_W = Factor(self._indptr, self._indices, data, self._rows), self.W
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
        indptr, indices = self.bound.patterns.posterior
        exact = to_numpy(posterior_variances(indptr, indices, self.V, rows))
        return float(np.mean(np.abs(to_numpy(self.bound.marginals(self.V))[rows] / exact - 1)))


def _share(share, before, now):
    """Share of the change of weights to take, from the changes proposed before and now.

    If the map of the weights has slope s in the direction of the changes, a share r of them turns a
    change into 1 - r + r s of it; the share 1 / (1 - s) would end at the fixed point.
    """
    if before is None or not float(before @ before) > 0:
        return share
    left = float(before @ now) / float(before @ before)
    slope = 1.0 - (1.0 - left) / share
    return float(np.clip(1.0 / max(1.0 - slope, 1e-3), _LEAST_SHARE, 1.0))
