"""Ridge regression of rows that stand for 1 / p rows each, by the SVD of the scaled rows."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass
class WeightedRidge:
    r"""The fit that minimizes :math:`\sum_i |y_i - x_i \beta - b|^2 / p_i + \alpha |\beta|^2`.

    Parameters
    ----------
    A : ndarray of shape (n, d)
        Sampled rows, in double precision.
    Y : ndarray of shape (n, t)
        Their targets.
    p : ndarray of shape (n,)
        Probabilities that they are in the sample.
    alpha : float
        Penalty of the squared coefficients, as for all rows.
    fit_intercept : bool
        Whether there is a `b`, which is not penalized.
    """

    A: np.ndarray
    Y: np.ndarray
    p: np.ndarray
    alpha: float = 0.0
    fit_intercept: bool = True

    def __post_init__(self):
        weights = 1 / self.p
        self.size = weights.sum()
        self.root = np.sqrt(weights)[:, None]
        self.x_mean, self.y_mean = (self._mean(M, weights) for M in (self.A, self.Y))
        rows = self.root * (self.A - self.x_mean)
        self.U, s, self.Vt = np.linalg.svd(rows, full_matrices=False)
        kept = s > np.finfo(s.dtype).eps * max(rows.shape) * s.max(initial=0.0)
        self.rank = int(kept.sum())
        self.U, self.Vt, self.s = self.U[:, kept], self.Vt[kept], s[kept]
        self.targets = self.root * (self.Y - self.y_mean)

    def _mean(self, M, weights):
        return weights @ M / self.size if self.fit_intercept else np.zeros(M.shape[1])

    @cached_property
    def coef(self):
        """Coefficients of shape (d, t); the shortest of the solutions if there are several."""
        return self.Vt.T @ (self._inverse[:, None] * (self.U.T @ self.targets))

    @property
    def _inverse(self):
        """Reciprocals of the singular values, shrunk; nothing is squared that may overflow."""
        return 1 / (self.s + self.alpha / self.s)

    @cached_property
    def intercept(self):
        """Intercepts of shape (t,)."""
        return self.y_mean - self.x_mean @ self.coef

    @cached_property
    def residuals(self):
        """Deviations of the rows from the fit, of shape (n, t)."""
        return self.Y - self.y_mean - (self.A - self.x_mean) @ self.coef

    @cached_property
    def left_out_residuals(self):
        """Deviations of the rows from the fits to all other rows; NaN where these do not exist."""
        return _divided(self.residuals, 1 - self._leverages[:, None])

    @cached_property
    def _leverages(self):
        leverages = (self.U**2) @ (self.s * self._inverse)
        return leverages + (self.root[:, 0] ** 2 / self.size if self.fit_intercept else 0.0)

    @cached_property
    def coef_std(self):
        """Standard deviations of the coefficients around those of all rows, of shape (d, t)."""
        rows = (self.U * self._inverse) @ self.Vt
        missing = self.root * np.sqrt(1 - self.p)[:, None]
        # residuals of the other rows: a row that pulls the fit to itself looks too good in its own
        shifts = np.where(missing > 0, self.left_out_residuals * missing, 0.0)
        size = np.abs(rows).max(initial=0.0) or 1.0
        return size * np.sqrt(((rows / size) ** 2).T @ shifts**2)

    @cached_property
    def left_out_r2(self):
        """Share of the variance of each target that fits to the other rows explain.

        A row without which a coefficient is not determined counts as not explained.
        """
        weights = 1 / self.p
        with np.errstate(divide="ignore", invalid="ignore"):
            # the mean of the other rows is what stands against the fit to them
            scale = self.size / (self.size - weights)[:, None] if self.fit_intercept else 1.0
            deviations = (self.Y - self.y_mean) * scale
            left_out = self.left_out_residuals
            residuals = np.where(np.isnan(left_out), deviations, left_out)
            total = weights @ deviations**2
            r2 = 1 - (weights @ residuals**2) / total
        return np.where(total > 0, r2, np.nan)


def _divided(values, by):
    safe = by > 1e-10
    return np.where(safe, values / np.where(safe, by, 1.0), np.nan)
