"""Orthogonal matching pursuit through residuals, many right-hand sides side by side.

No Gram matrix: each step correlates all residuals with all columns in one product, so that
matrices may be dense, sparse or operators, on the host, on a GPU or spread over ranks. Chosen
columns are made orthonormal by two passes of Gram-Schmidt.
"""

import numpy as np

from .._arrays import to_numpy
from .._kernels._pursuit_steps import ACTIVE, MAX_ITER, NO_DECREASE, RANK, TOL, ZERO, new_steps
from ..mpi import row_sum
from ._rules import active_decrease, decrease

_FIRST_CAPACITY = 16


def residual_pursuit(columns, Y, rule, prices, limits, n_steps, *, with_path=False, start=None):
    """Pursue every right-hand side until its end.

    Parameters
    ----------
    columns : UnitColumns
    Y : array of shape (M, T)
    rule : Rule
    prices : float64 array of shape (N,), or of shape (1,) for equal prices
    limits : Limits
    n_steps : int
        The largest number of steps.
    with_path : bool
        Whether to keep every step.
    start : (support, count), default=None
        Columns that are taken before anything else is chosen, arrays (T, K) and (T,).

    Returns
    -------
    steps : Steps
        On the host.
    """
    batch = Batch(columns, Y)
    steps = new_steps(Y.shape[1], n_steps, columns.dtype, with_path)
    choose = _Choice(rule, columns.xp.asarray(prices, dtype=columns.real_dtype), limits)
    if start is not None:
        _retake(batch, *start)
    while len(batch):
        square = batch.squares()
        stop = _early_stops(batch, square, limits, n_steps)
        if not with_path:
            square = square[stop < 0]
            _finish(batch, steps, stop)
            if not len(batch):
                break
            stop = stop[stop < 0]
        moduli = batch.moduli()
        if with_path:
            steps.squares[batch.ids, batch.counts] = square
            steps.largest[batch.ids, batch.counts] = to_numpy(moduli.max(axis=0))
        j, found = choose(batch, moduli, square)
        stop = np.where(stop < 0, found, stop)
        j = j[columns.xp.asarray(stop < 0)]
        _finish(batch, steps, stop)
        if len(batch):
            _advance(batch, steps, j, limits)
    return steps


class Batch:
    """Right-hand sides and their fits; those that have ended are taken out.

    Parameters
    ----------
    columns : UnitColumns
    Y : array of shape (M, n)

    Attributes
    ----------
    ids : int array of shape (n,)
        Numbers of the right-hand sides that are left.
    counts : int array of shape (n,)
        Columns taken so far.
    support, coef : arrays of shape (n, capacity)
        Behind the last column the support repeats its first.
    """

    def __init__(self, columns, Y):
        xp, n = columns.xp, Y.shape[1]
        self.columns, self.xp = columns, xp
        self.ids, self.counts = np.arange(n), np.zeros(n, dtype=np.int64)
        self.dropped = np.full(n, -1, dtype=np.int64)
        self._R = xp.array(Y.T, order="C")
        self.y_squares = self.squares()
        self._closed = None
        capacity = _FIRST_CAPACITY
        self._Q = xp.zeros((n, capacity, Y.shape[0]), dtype=columns.dtype)
        self._V = xp.zeros((n, capacity, capacity), dtype=columns.dtype)  # of R in A_S = Q R
        self.support = xp.zeros((n, capacity), dtype=np.int64)
        self.coef = xp.zeros((n, capacity), dtype=columns.dtype)

    def __len__(self):
        return len(self.ids)

    def squares(self):
        """Return the squared lengths of the residuals, on the host."""
        return to_numpy(self.columns.squared_norms(self._R.T))

    def moduli(self):
        """Return the moduli of the correlations (N, n), zero where nothing may be chosen."""
        residuals = self.xp.ascontiguousarray(self._R.T)
        moduli = self.xp.abs(self.columns.correlate(residuals))
        moduli[self.support[:, : self._used].T, self.xp.arange(len(self))] = 0
        if self._closed is not None:
            moduli[self._closed] = 0
        return moduli

    @property
    def _used(self):
        return int(self.counts.max(initial=0))

    def keep(self, kept):
        """Take out the right-hand sides that are not marked in the host array `kept`."""
        if kept.all():
            return
        for name in ("ids", "counts", "dropped", "y_squares"):
            setattr(self, name, getattr(self, name)[kept])
        marked = self.xp.asarray(kept)
        for name in ("_R", "_Q", "_V", "support", "coef"):
            setattr(self, name, getattr(self, name)[marked])
        if self._closed is not None:
            self._closed = self._closed[:, marked]

    def take(self, j, dependent, wanted=None):
        """Add column j[t] to fit t, unless it lies in the span of the columns of the fit.

        Parameters
        ----------
        j : int array of shape (n,)
        dependent : float
            Squared distance to the span below which a column counts as part of it.
        wanted : bool array of shape (n,), default=None
            Fits that shall be changed, on the host; None means all.

        Returns
        -------
        taken : bool array of shape (n,)
            On the host.
        """
        xp, rows = self.xp, self.xp.arange(len(self))
        self._grow(self._used + 1)
        # Behind the last column there are zeros: a GPU takes all, rather than copy a part first.
        used = self._used if xp is np else self.support.shape[1]
        a, h = self._off_the_span(xp.ascontiguousarray(self.columns.take(j).T), used)
        distance, product = row_sum(
            (xp.abs(a) ** 2).sum(axis=1, dtype=np.float64), (a.conj() * self._R).sum(axis=1)
        )
        taken = to_numpy(distance) > dependent
        self._close(j, ~taken if wanted is None else ~taken & wanted)
        if wanted is not None:
            taken &= wanted
        scale = xp.asarray(taken) / xp.sqrt(xp.maximum(distance, max(dependent / 4, 1e-30)))
        scale = scale.astype(self.columns.real_dtype)
        z = product.astype(self.columns.dtype, copy=False) * scale
        q, at = a * scale[:, None], xp.asarray(self.counts)
        self._R -= q * z[:, None]
        v = -xp.matmul(self._V[:, :used, :used], h[:, :, None])[:, :, 0] * scale[:, None]
        self._Q[rows, at], self._V[rows, :used, at] = q, v
        self._V[rows, at, at] = scale
        self.coef[:, :used] += v * z[:, None]
        self.coef[rows, at] += scale * z
        first = xp.asarray(taken & (self.counts == 0))
        self.support[first] = j[first][:, None]
        self.support[rows, at] = xp.where(xp.asarray(taken), j, self.support[:, 0])
        self.counts = self.counts + taken
        return taken

    def _off_the_span(self, a, used):
        """Return a (n, M) less its part in the span of Q, and the products with Q."""
        xp, h = self.xp, 0
        Q = self._Q[:, :used]
        for _ in range(2 if used else 0):  # "twice is enough"
            p = row_sum(xp.matmul(Q, a.conj()[:, :, None])[:, :, 0].conj())
            p = p.astype(a.dtype, copy=False)
            a = a - xp.matmul(p[:, None, :], Q)[:, 0]
            h = h + p
        return a, h if used else xp.zeros((len(a), 0), dtype=a.dtype)

    def _close(self, j, dropped):
        """Mark columns as unselectable for the fits named by the host array `dropped`."""
        if not dropped.any():
            return
        if self._closed is None:
            self._closed = self.xp.zeros((self.columns.shape[1], len(self)), dtype=bool)
        rows = self.xp.asarray(np.flatnonzero(dropped))
        self._closed[j[rows], rows] = True
        self.dropped = np.where(dropped & (self.dropped < 0), self.counts, self.dropped)

    def _grow(self, capacity):
        missing = capacity - self.support.shape[1]
        if missing <= 0:
            return
        more = (0, max(missing, self.support.shape[1]))
        pad = self.xp.pad
        self._Q = pad(self._Q, ((0, 0), more, (0, 0)))
        self._V = pad(self._V, ((0, 0), more, more))
        self.coef = pad(self.coef, ((0, 0), more))
        self.support = pad(self.support, ((0, 0), more))
        self.support[:, -more[1] :] = self.support[:, :1]


class _Choice:
    """The choice of the next column of each right-hand side of a batch."""

    def __init__(self, rule, prices, limits):
        self.rule, self.prices, self.limits = rule, prices, limits

    def __call__(self, batch, moduli, square):
        """Return the columns, and on the host -1 or why there is none."""
        xp, rows = batch.xp, batch.xp.arange(len(batch))
        rho = xp.asarray(np.sqrt(square), dtype=moduli.dtype)
        if len(self.prices) == 1:  # then the largest correlation lowers the objective most
            j = moduli.argmax(axis=0)
            gain = decrease(self.rule, moduli[j, rows], rho, self.prices)
        else:
            gains = decrease(self.rule, moduli, rho, self.prices[:, None])
            gains[moduli == 0] = 0
            j = gains.argmax(axis=0)
            gain = gains[j, rows]
        gain, c = to_numpy(gain), to_numpy(moduli[j, rows])
        rival = to_numpy(self._rivals(batch, rho))
        end = np.where(batch.dropped >= 0, RANK, NO_DECREASE)
        stop = np.where(gain <= rival, np.where(rival > 0, ACTIVE, end), -1)
        rounding = self.limits.negligible * np.sqrt(batch.y_squares)
        return j, np.where((stop < 0) & (c <= rounding), end, stop)

    def _rivals(self, batch, rho):
        """Return the largest decrease by moving a coefficient of the support."""
        used = int(batch.counts.max())
        if self.rule.code == 0 or used == 0:
            return np.zeros(len(batch))
        prices = self.prices
        if len(prices) > 1:
            prices = prices[batch.support[:, :used]]
        x = batch.xp.abs(batch.coef[:, :used])
        return active_decrease(self.rule, x, rho[:, None], prices).max(axis=1)


def _early_stops(batch, square, limits, n_steps):
    """Return why there is no further step, as far as residuals tell, or -1."""
    stop = np.where(batch.counts >= n_steps, MAX_ITER, -1)
    stop[square <= limits.tol] = TOL
    stop[batch.y_squares <= 0] = ZERO
    return stop


def _retake(batch, support, count):
    """Take the columns of given supports, in their order."""
    for k in range(int(count.max(initial=0))):
        wanted = k < count
        j = np.where(wanted, support[:, k], 0)
        batch.take(batch.xp.asarray(j), 0.0, wanted)


def _advance(batch, steps, j, limits):
    taken = batch.take(j, limits.dependent)
    if steps.largest.shape[1] == 0 or not taken.any():
        return
    for k in np.unique(batch.counts[taken]):
        rows = np.flatnonzero(taken & (batch.counts == k))
        coef = to_numpy(batch.coef[batch.xp.asarray(rows), :k])
        steps.coefs[batch.ids[rows], k * (k - 1) // 2 : k * (k + 1) // 2] = coef


def _finish(batch, steps, stop):
    """Write down the fits that have a reason to stop and take them out of the batch."""
    done = np.flatnonzero(stop >= 0)
    if not len(done):
        return
    ids, used = batch.ids[done], int(batch.counts.max())
    inside = np.arange(used) < batch.counts[done][:, None]
    on_device = batch.xp.asarray(done)
    support, coef = (to_numpy(a[on_device, :used]) for a in (batch.support, batch.coef))
    steps.support[ids, :used] = np.where(inside, support, -1)
    steps.coef[ids, :used] = np.where(inside, coef, 0)
    steps.count[ids], steps.stop[ids] = batch.counts[done], stop[done]
    steps.dropped[ids] = batch.dropped[done]
    squares = batch.squares()
    steps.square[ids] = squares[done]
    batch.keep(stop < 0)
