"""Fits by least absolute deviations, column after column, proved optimal by their multipliers.

I. Barrodale, F. D. K. Roberts, SIAM J. Numer. Anal. 10:839-848, 1973; the dual linear program after
H. M. Wagner, Journal of the American Statistical Association 54:206-212, 1959.
"""

import numpy as np
from scipy.linalg import qr
from scipy.optimize import linprog

from .._kernels import _least_absolute_numba as kernel

_PROOF = 1 + 1e-8  # largest multiplier of a fit that counts as proved
_DEPENDENT = 1e-8  # what a unit column has beyond the others, at most, if it depends on them
_APART = 1e-8  # of the largest measurement: by what residuals of zero are moved to break ties
_ROUNDS = 5  # of descent from freshly solved coefficients


class LeastAbsoluteFit:
    """The minimizer of ||y - A_S v||_1 for a growing support S.

    Parameters
    ----------
    At : float64 array of shape (N, M)
        Unit columns of A, one a row, C-contiguous.
    y : float64 array of shape (M,)
    capacity : int
        Largest size of the support, at most M.
    solver : {"descent", "highs", "irls"}
        Every solver ends with an interpolation of as many rows as there are columns.

    Attributes
    ----------
    support : list of int
    coef : array of shape (k,)
    residual : array of shape (M,)
        Zero at interpolated rows.
    """

    def __init__(self, At, y, capacity, solver="descent"):
        self.At, self.y, self.support = At, y, []
        self.coef, self.residual = np.zeros(0), y.copy()
        self._solve = _SOLVERS[solver]
        self._tableau = np.empty((capacity, len(y)))
        self._basis = np.empty(capacity, dtype=np.int64)
        self._memory = np.empty((2, len(y) + 1))

    def add(self, j):
        """Fit with one more column; False, and nothing is changed, if it depends on the others."""
        k = len(self.support)
        T, a = self._tableau, self.At[j]
        T[k] = a - a[self._basis[:k]] @ T[:k]
        if np.abs(T[k]).max() <= _DEPENDENT * np.abs(a).max():
            return False
        if kernel.enter(T, k, self._basis, self.residual, *self._memory) < 0:
            return False
        self.support.append(j)
        self._interpolate()
        self._solve(self)
        return True

    def descend(self):
        """Descend along edges from the present vertex; return whether the minimum is proved."""
        k, largest = len(self.support), np.inf
        max_pivots = 50 + 10 * k + 2 * len(self.y)
        for _ in range(_ROUNDS):
            n_pivots, largest = kernel.descend(
                self._tableau, k, self._basis, self.residual, max_pivots, *self._memory
            )
            if n_pivots == 0:
                break
            self._interpolate()
        return largest <= _PROOF

    def descend_without_ties(self):
        """Descend with other rows of zero residual moved apart; return whether it is proved.

        Optimal signs of the moved rows are multipliers of the data as they are.
        """
        k, r = len(self.support), self.residual.copy()
        tied = np.flatnonzero(r == 0)
        spread = (0.5 + tied * 0.6180339887 % 1) * np.where(tied % 2, 1, -1)
        r[tied] = _APART * np.abs(self.y).max() * spread
        r[self._basis[:k]] = 0
        max_pivots = 50 + 10 * k + 2 * len(r)
        kernel.descend(self._tableau, k, self._basis, r, max_pivots, *self._memory)
        u = np.sign(r)
        u[self._basis[:k]] = 0
        u[self._basis[:k]] = -self._tableau[:k] @ u
        self._interpolate()
        gap = np.abs(self.residual).sum() - self.y @ u
        return np.abs(u).max() <= _PROOF and gap <= 1e-10 * np.abs(self.y).sum()

    def move_to(self, v):
        """Take coefficients near the minimum, and of the vertices around them the best in sight."""
        before = self.coef, self.residual.copy(), self._basis.copy(), self._tableau.copy()
        B = self.At[self.support].T
        distance = np.abs(self.y - B @ v)
        floor = 1e-12 * distance.max() or 1.0
        order = qr((B / (distance + floor)[:, None]).T, pivoting=True, mode="r")[1]
        self._basis[: len(v)] = order[: len(v)]
        self._interpolate()
        if np.abs(self.residual).sum() > np.abs(before[1]).sum():
            self.coef, self.residual, self._basis, self._tableau = before

    def _interpolate(self):
        """Solve for the coefficients that pass through the basis, and for the tableau."""
        k = len(self.support)
        columns, basis = self.At[self.support], self._basis[:k]
        through = columns[:, basis]  # its transpose times the coefficients is y at the basis
        self.coef = np.linalg.solve(through.T, self.y[basis])
        self._tableau[:k] = np.linalg.solve(through, columns)
        self._tableau[:k, basis] = np.eye(k)
        self.residual = self.y - self.coef @ columns
        rounding = np.abs(self.y) + np.abs(self.coef) @ np.abs(columns)
        self.residual[np.abs(self.residual) <= 4 * np.finfo(float).eps * rounding] = 0
        self.residual[basis] = 0


def least_absolute_program(B, y):
    """Minimize ||y - B v||_1 by the dual program: max y'u with B'u = 0 and |u| <= 1.

    Parameters
    ----------
    B : float64 array of shape (M, k)
    y : float64 array of shape (M,)

    Returns
    -------
    v : float64 array of shape (k,)
        The multipliers of the equations, with the sign turned.
    """
    found = linprog(-y, A_eq=B.T, b_eq=np.zeros(B.shape[1]), bounds=(-1, 1), method="highs")
    if found.status != 0:
        raise FloatingPointError(f"HiGHS could not fit absolute deviations: {found.message}")
    return -found.eqlin.marginals


def _by_descent(fit):
    """Descend along edges; HiGHS where more zero residuals than columns leave the proof open."""
    if not (fit.descend() or fit.descend_without_ties()):
        _by_program(fit)


def _by_program(fit):
    fit.move_to(least_absolute_program(fit.At[fit.support].T, fit.y))


def _by_reweighting(fit, max_iter=50, tol=1e-6):
    """Reweighted least squares from the present fit, then descent from the nearest vertex."""
    B, v = fit.At[fit.support].T, fit.coef
    scale = np.abs(fit.y).max()
    for n_iter in range(max_iter):
        weights = 1 / np.sqrt(np.maximum(np.abs(fit.y - B @ v), scale * max(0.5**n_iter, 1e-8)))
        new = np.linalg.lstsq(B * weights[:, None], fit.y * weights, rcond=None)[0]
        change, v = np.abs(new - v).max(), new
        if change <= tol * np.abs(v).max() and 0.5**n_iter < tol:
            break
    fit.move_to(v)
    _by_descent(fit)


_SOLVERS = {"descent": _by_descent, "highs": _by_program, "irls": _by_reweighting}
