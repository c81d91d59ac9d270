"""Weights of the penalty: the largest that matters, and one that needs no knowledge of the noise.

S. Mohammad-Taheri, S. Brugiapaglia, "The greedy side of the LASSO", 2023, arXiv:2303.00844.
"""

import numpy as np

from .._arrays import to_numpy
from ._absolute import absolute_alpha_max, absolute_columns


def alpha_max(columns, y, loss, penalty, weights=None):
    """Return the smallest alpha at which a pursuit chooses nothing.

    Parameters
    ----------
    columns : UnitColumns
    y : array of shape (M,)
        Local rows of one right-hand side.
    loss : {"squared", "sqrt", "absolute"}
    penalty : {"l1", "l0"}
    weights : real array of shape (N,), default=None
        Columns of weight zero are left out: no alpha keeps them from being chosen.

    Returns
    -------
    alpha : float
        Zero if nothing depends on alpha.
    """
    weights = np.ones(columns.shape[1]) if weights is None else to_numpy(weights)
    if loss == "absolute":
        return absolute_alpha_max(absolute_columns(columns), y, penalty, weights)
    c = to_numpy(columns.xp.abs(columns.correlate(y[:, None]))[:, 0]).astype(np.float64)
    rho = float(np.sqrt(to_numpy(columns.squared_norms(y[:, None]))[0]))
    usable = weights > 0
    if rho == 0 or not usable.any():
        return 0.0
    c, weights = np.minimum(c[usable], rho), weights[usable].astype(np.float64)
    return float(_LARGEST[loss, penalty](c, rho, weights).max())


def noise_blind_alpha(n_rows, n_columns):
    """Return the alpha of the square-root loss that stops at the level of any Gaussian noise.

    Parameters
    ----------
    n_rows, n_columns : int

    Returns
    -------
    alpha : float
    """
    # Pure noise has ||A^H r|| / ||r|| near tau; the pursuit stops at 2 alpha sqrt(1 - alpha^2).
    tau = min(0.999, np.sqrt(2 * np.log(n_columns) / n_rows))
    return float(np.sqrt((1 - np.sqrt(1 - tau**2)) / 2))


_LARGEST = {
    ("squared", "l1"): lambda c, rho, w: 2 * c / w,
    ("squared", "l0"): lambda c, rho, w: (c / w) ** 2,
    ("sqrt", "l1"): lambda c, rho, w: c / (rho * w),
    ("sqrt", "l0"): lambda c, rho, w: c**2 / (rho + np.sqrt((rho - c) * (rho + c))) / w**2,
}
