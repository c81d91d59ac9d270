"""What a greedy pursuit leaves behind: its result, and the path of all its steps.

S. Mohammad-Taheri, S. Brugiapaglia, "The greedy side of the LASSO", 2023, arXiv:2303.00844.
"""

from typing import Any, NamedTuple

import numpy as np

from .._arrays import compute_namespace, is_array, like, to_compute, to_numpy
from ._rules import Rule, active_decrease, decrease


class PursuitResult(NamedTuple):
    """One pursuit of one right-hand side; coefficients are those of the unit columns."""

    support: Any  # (K,) indices, in the order chosen
    coef_on_support: Any  # (K,)
    residual_norm: float
    n_iter: int
    stop_reason: str
    path: Any = None  # OMPPath


class OMPPath:
    """All steps of one pursuit, in memory proportional to the square of their number.

    Parameters
    ----------
    support : int array of shape (K,)
        Columns in the order chosen.
    coefs : array of shape (K * (K + 1) / 2,)
        Coefficients after 1, 2, ..., K steps, one after another.
    residual_norms : array of shape (K + 1,)
        Euclidean lengths of the residual before the first step and after each.
    max_correlation : array of shape (K + 1,)
        Largest modulus of the inner products of the residual and a unit column outside the
        support, before the first step and after each.
    lengths : array of shape (K,)
        Lengths of the columns of the support.
    n_features : int
        Number of columns.
    rule : Rule
        Loss, penalty and the alpha at which the path ended; 0 if it was followed to its end.
    weight : float or None
        The weight of all columns; None if weights differ, which makes the order depend on alpha.

    Attributes
    ----------
    support, coefs, residual_norms, max_correlation, lengths, n_features : see above
        `coefs` is in the library of the data, the others are NumPy.

    References
    ----------
    .. [1] S. Mohammad-Taheri, S. Brugiapaglia. "The greedy side of the LASSO: New algorithms for
       weighted sparse recovery via loss function-based orthogonal matching pursuit".
       arXiv:2303.00844, 2023.
    """

    def __init__(
        self, support, coefs, residual_norms, max_correlation, *, lengths, n_features, rule, weight
    ):
        self.support, self.coefs = support, coefs
        self.residual_norms, self.max_correlation = residual_norms, max_correlation
        self.lengths, self.n_features = lengths, n_features
        self._rule, self._weight = rule, weight

    def __len__(self):
        """Return the number of steps."""
        return len(self.support)

    def coef_on_support(self, n_steps):
        """Return the coefficients of the first columns of the support after some steps.

        Parameters
        ----------
        n_steps : int
            From 0 to the length of the path.

        Returns
        -------
        coef : array of shape (n_steps,)
        """
        if not 0 <= n_steps <= len(self):
            raise ValueError(
                f"n_steps must be from 0 to {len(self)}, the length of the path, got {n_steps!r}."
            )
        start = n_steps * (n_steps - 1) // 2
        return self.coefs[start : start + n_steps]

    def coef_at(self, n_steps):
        """Return all coefficients after some steps.

        Parameters
        ----------
        n_steps : int
            From 0 to the length of the path.

        Returns
        -------
        coef : array of shape (n_features,)
        """
        chosen = to_compute(self.coef_on_support(n_steps))
        xp = compute_namespace(chosen)
        coef = xp.zeros(self.n_features, dtype=chosen.dtype)
        coef[xp.asarray(self.support[:n_steps])] = chosen
        return like(coef, self.coefs)

    def n_steps_at_alpha(self, alpha, *, loss=None, penalty=None):
        """Return the number of steps after which the pursuit with this alpha stops.

        With equal weights the order of selection does not depend on alpha, only the end does: one
        path serves all alphas.

        Parameters
        ----------
        alpha : float
            Weight of the penalty.
        loss : {"squared", "sqrt"}, default=None
            None is the loss of the fit.
        penalty : {"l1", "l0"}, default=None
            None is the penalty of the fit.

        Returns
        -------
        n_steps : int

        Raises
        ------
        ValueError
            If weights differ, or the path was ended early by a larger alpha than this.
        """
        if self._rule.loss == "absolute":
            raise ValueError(
                "with loss='absolute' the fits depend on alpha; fit again with this alpha."
            )
        if self._weight is None:
            raise ValueError(
                "weights differ, so that the order of selection depends on alpha; "
                "fit again with this alpha."
            )
        rule = Rule(loss or self._rule.loss, penalty or self._rule.penalty, alpha)
        if self._rule.alpha > 0 and rule != self._rule:
            same = (rule.loss, rule.penalty) == (self._rule.loss, self._rule.penalty)
            if not same or alpha < self._rule.alpha:
                raise ValueError(
                    f"the path ends at alpha={self._rule.alpha!r}; "
                    "fit with alpha=0 to have the steps of every alpha."
                )
        price = rule.prices(np.float64(self._weight))
        for k in range(len(self)):
            rho = self.residual_norms[k]
            gain = decrease(rule, self.max_correlation[k], rho, price)
            unit = np.abs(to_numpy(self.coef_on_support(k))) * self.lengths[:k]
            rival = np.max(active_decrease(rule, unit, rho, price), initial=0.0)
            if gain <= rival:
                return k
        return len(self)

    def coef_at_alpha(self, alpha, *, loss=None, penalty=None):
        """Return the coefficients of the pursuit that stops by this alpha.

        Parameters
        ----------
        alpha : float
            Weight of the penalty.
        loss, penalty : str, default=None
            As in `n_steps_at_alpha`.

        Returns
        -------
        coef : array of shape (n_features,)
        """
        return self.coef_at(self.n_steps_at_alpha(alpha, loss=loss, penalty=penalty))

    def of_matrix(self, lengths, X):
        """Return a path of unit columns as one of columns with these lengths, in the library of X.

        Parameters
        ----------
        lengths : real array of shape (n_features,)
        X : array

        Returns
        -------
        path : OMPPath
        """
        lengths = lengths[self.support]
        divisors = np.concatenate([lengths[:k] for k in range(1, len(self) + 1)] or [lengths])
        coefs = (self.coefs / divisors).astype(self.coefs.dtype, copy=False)
        return OMPPath(
            self.support, like(coefs, X) if is_array(X) else coefs, self.residual_norms,
            self.max_correlation, lengths=lengths, n_features=self.n_features,
            rule=self._rule, weight=self._weight,
        )  # fmt: skip
