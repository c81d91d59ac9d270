"""Greedy pursuit with the loss of least absolute deviations, which outliers do not disturb.

S. Mohammad-Taheri, S. Brugiapaglia, "The greedy side of the LASSO", 2023, arXiv:2303.00844. Columns
have unit length; everything is real, in float64 and on the host.
"""

import numpy as np

from .. import mpi
from .._arrays import is_on_gpu, to_numpy
from .._kernels._weighted_median_numba import absolute_decreases
from ._least_absolute import LeastAbsoluteFit
from ._path import OMPPath, PursuitResult
from ._pursuit import warn_dependent
from ._rules import Rule

_ROUNDING = 10 * np.finfo(np.float64).eps  # decreases below this part of ||y||_1 are none


def absolute_pursuit(A, y, *, alpha, weights, penalty, max_iter, tol=-1.0, lad_solver="descent"):
    r"""Choose columns one by one by how much they can lower a loss with a penalty.

    The loss is :math:`\|y - Az\|_1 + \alpha\,\mathrm{pen}(z)`; after each choice all coefficients
    are fitted to :math:`\|y - Az\|_1` without the penalty.

    Parameters
    ----------
    A : real array of shape (M, N)
        Columns of unit length, or of zeros, which are not chosen.
    y : real array of shape (M,)
    alpha : float
    weights : array of shape (N,) or None
        None weighs all columns by one.
    penalty : {"l1", "l0"}
        :math:`\sum_j w_j |z_j|`, or the sum of :math:`w_j^2` over the support.
    max_iter : int
        Largest size of the support.
    tol : float, default=-1.0
        The pursuit ends when the squared length of the residual is at most this.
    lad_solver : {"descent", "highs", "irls"}, default="descent"
        How absolute deviations are fitted: by descent along edges, starting from the fit before;
        by a linear program from scratch; or by reweighted least squares, then descent.

    Returns
    -------
    result : PursuitResult
        Coefficients of the unit columns, in float64. The path is one of unit columns too.
    """
    check_absolute(A, y)
    At, y = np.ascontiguousarray(A.T, dtype=np.float64), np.ascontiguousarray(y, dtype=np.float64)
    prices = Rule("absolute", penalty, alpha).prices(_weights(weights, len(At)))
    fit = LeastAbsoluteFit(At, y, min(max_iter, *At.shape), lad_solver)
    gains_of, closed, steps = _GAINS[penalty], np.zeros(len(At), dtype=bool), []
    while (reason := _early_stop(fit, tol, max_iter)) is None:
        gains = gains_of(fit, prices)
        gains[closed] = 0
        j = int(gains.argmax())
        if gains[j] <= _ROUNDING * np.abs(y).sum():
            reason = "rank" if closed.any() else "no_decrease"
        elif j in fit.support:
            reason = "active_index"
        if reason is not None:
            break
        before = _record(fit)
        if not fit.add(j):
            if not closed.any():
                warn_dependent(len(fit.support) + 1)
            closed[j] = True
            continue
        steps.append(before)
    path = _path([*steps, _record(fit)], fit, Rule("absolute", penalty, alpha))
    support, norm = np.array(fit.support, dtype=np.int64), float(np.linalg.norm(fit.residual))
    return PursuitResult(support, fit.coef, norm, len(support), reason, path)


def absolute_alpha_max(A, y, penalty, weights):
    """Return the smallest alpha at which no column is chosen; zero weights are left out.

    Parameters
    ----------
    A, y, penalty, weights : see `absolute_pursuit`

    Returns
    -------
    alpha_max : float
    """
    check_absolute(A, y)
    A, y = np.asarray(A, dtype=np.float64), np.asarray(y, dtype=np.float64)
    weights = _weights(weights, A.shape[1])
    if penalty == "l1":
        reach = np.abs(A.T @ np.sign(y)) - np.abs(A[y == 0]).sum(axis=0)
    else:
        nothing, weights = np.zeros(A.shape[1]), weights**2
        reach = absolute_decreases(np.ascontiguousarray(A.T), y, nothing, nothing)[0]
    usable = weights > 0
    return float(np.max(reach[usable] / weights[usable], initial=0.0))


def l1_decreases(fit, prices):
    """Return the decrease of ||r||_1 + alpha sum w |x| by moving each coefficient alone."""
    return absolute_decreases(fit.At, fit.residual, _all_coefficients(fit), prices)[0]


def l0_decreases(fit, prices):
    """Return the decrease of ||r||_1 + alpha sum of w^2 over the support, likewise."""
    x, r = _all_coefficients(fit), fit.residual
    gains, active = absolute_decreases(fit.At, r, x, np.zeros(len(x)))[0], np.flatnonzero(x)
    without = np.abs(r + x[active, None] * fit.At[active]).sum(axis=1)
    removal = np.abs(r).sum() - without + prices[active]
    kept = gains[active]
    gains = np.maximum(gains - prices, 0)
    gains[active] = np.maximum(kept, np.maximum(removal, 0))
    return gains


def absolute_columns(columns):
    """Return `UnitColumns` as one dense real array, or say why absolute deviations need it."""
    if mpi.n_ranks() > 1:
        raise ValueError(
            "loss='absolute' is not distributed over rows; fit it on one rank, outside "
            "distributed(), or use loss='squared' or 'sqrt'."
        )
    check_absolute(columns.A, None)
    if columns.dtype.kind == "c":
        _refuse_complex()
    return np.asarray(columns.take(np.arange(columns.shape[1])), dtype=np.float64)


def check_absolute(A, y):
    """Refuse complex data, and data on a GPU."""
    if is_on_gpu(A) or (y is not None and is_on_gpu(y)):
        raise TypeError(
            "loss='absolute' is computed on the host; pass NumPy arrays (X.get(), y.get()), "
            "or use loss='squared' or 'sqrt', which run on the GPU."
        )
    if "c" in (np.dtype(A.dtype).kind, "" if y is None else np.dtype(y.dtype).kind):
        _refuse_complex()


def _refuse_complex():
    raise ValueError(
        "loss='absolute' is for real data; loss='squared' and loss='sqrt' take complex data."
    )


def _weights(weights, n):
    return np.ones(n) if weights is None else np.asarray(to_numpy(weights), dtype=np.float64)


def _all_coefficients(fit):
    x = np.zeros(len(fit.At))
    x[fit.support] = fit.coef
    return x


def _early_stop(fit, tol, max_iter):
    if not fit.y.any():
        return "zero_target"
    if fit.residual @ fit.residual <= tol:
        return "tol"
    return "max_iter" if len(fit.support) >= min(max_iter, *fit.At.shape) else None


def _record(fit):
    """Return coefficients, length of the residual and largest correlation before a step."""
    correlation = np.abs(fit.At @ fit.residual)
    correlation[fit.support] = 0
    return fit.coef, np.linalg.norm(fit.residual), correlation.max()


def _path(records, fit, rule):
    coefs, norms, correlations = zip(*records, strict=True)
    return OMPPath(
        np.array(fit.support, dtype=np.int64), np.concatenate(coefs), np.array(norms),
        np.array(correlations), lengths=np.ones(len(fit.support)), n_features=len(fit.At),
        rule=rule, weight=None,
    )  # fmt: skip


_GAINS = {"l1": l1_decreases, "l0": l0_decreases}
