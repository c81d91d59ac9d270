"""How far a split is from the optimum of its convex problem, by weak duality."""

from ._partial_svd import spectral_norm

_NORM_TOL = 1e-5


def duality_gap(solver, rng, *, smoothing=0.0, squares=0.0):
    """Return (objective - lower bound) / objective.

    Any Y with ||Y||_2 <= 1 and |Y| <= lam bounds ||L||_* + lam ||S||_1 by <Y, M> from below where
    L + S = M; with ||M - L - S||_F^2 / (2 mu) added, by <Y, M> - mu ||Y||_F^2 / 2. Y is the
    solver's multiplier, whose entries are at most lam, over its spectral norm where that is above
    1. The singular vectors of L, near which Y has its largest singular values, start the search for
    that norm, whose relative error is far under the gaps that matter.

    Parameters
    ----------
    solver : solver with ``dual``, ``rows`` and ``objective``
    rng : numpy.random.RandomState
    smoothing : float
        mu, 0 for the problem with L + S = M.
    squares : float
        ||mu Y||_F^2.

    Returns
    -------
    gap : float
        0 only at the optimum.
    """
    rows = solver.rows
    dual = rows.made_by(lambda start, block: _block(solver, start, block))
    scale = max(1.0, spectral_norm(dual, rng, tol=_NORM_TOL, guess=solver.low.V))

    def work(start, block, sums):
        sums[0] += solver.dual(start, block, rows.memory("dual", len(block)))

    bound = float(rows.sums(work, 1)[0]) / scale
    if smoothing:
        bound -= squares / (2 * smoothing * scale**2)
    return max((solver.objective - bound) / solver.objective, 0.0)


def _block(solver, start, block):
    out = solver.rows.memory("dual", len(block))
    solver.dual(start, block, out)
    return out
