"""Sequential sparse Bayesian learning (M. E. Tipping, A. C. Faul, AISTATS 2003).

Columns enter, change their prior variance, and leave one at a time: the change that raises the
evidence most. With C the covariance of the measurements, every column a_j is judged by

    S_j = a_j^H C^{-1} a_j,   Q_j = a_j^H C^{-1} y,

and s_j, q_j: the same with the column itself taken out of C. Evidence as a function of its variance
is l(g) = -log(1 + g s) + g |q|^2 / (1 + g s), largest at g = (|q|^2 - s) / s^2 if that is positive.
"""

from typing import NamedTuple

import numpy as np

from ..mpi import each_rank_alone
from ._sbl_posterior import ActiveColumns, posterior, small_posterior
from ._sbl_updates import EvidenceSearch


class Change(NamedTuple):
    """The best change of the model: column, place in the active set or -1, new variance."""

    gain: float
    column: int
    place: int
    variance: float


class SequentialSearch(EvidenceSearch):
    """Columns enter and leave by the gain in evidence; an iteration is a sweep of such changes.

    Active Gram columns, (N, k) numbers, are kept; noise and all sums are renewed after a sweep.
    """

    _least_sweep, _noise_steps = 20, 10

    def __init__(self, columns, Y, *, min_gain=None, **options):
        self.min_gain = 0.75 * np.log(columns.shape[1]) if min_gain is None else float(min_gain)
        super().__init__(columns, Y, **options)

    def _start(self, gamma):
        super()._start(self.xp.zeros_like(gamma))
        if not self.converged:
            self._model = _ActiveModel(self.columns, self.Y, self.noise_var)

    def step(self):
        """Make a sweep of changes, then learn the noise."""
        if self.converged:
            return
        model, before, noise_before = self._model, self.gamma, self.noise_var
        settled = self._sweep()
        self.gamma = self.xp.zeros_like(before)
        self.gamma[model.indices] = model.variances.astype(before.dtype)
        self.active = model.active_columns()
        self._learn_noise()
        model.refresh(self.noise_var)
        self._record()
        self.converged = settled and self._has_settled(before, noise_before)

    def _sweep(self):
        """Make changes until none is worth it; return whether that came before the limit."""
        model = self._model
        for _ in range(max(self._least_sweep, len(model.members))):
            change = self._best_change()
            if not change.gain > 0:
                return True
            if change.place < 0:
                model.add(change.column, change.variance)
            else:
                model.revalue(change.place, change.variance)
        return False

    def _best_change(self):
        """Return the change that raises the evidence most; its gain is -inf if there is none."""
        xp, model, T = self.xp, self._model, float(self.Y.shape[1])
        outside, inside, S, diagonal = self.total(
            (xp.abs(model.Q) ** 2).sum(axis=1, dtype=np.float64),
            (xp.abs(model.mean) ** 2).sum(axis=1),
            T * model.S,
            T * xp.diagonal(model.covariance).real,
        )
        n = self.n_snapshots
        best = self._best_addition(outside / n, S / n)
        if len(model.members):
            best = max(best, self._best_revaluation(inside / n, diagonal / n))
        return best

    def _best_addition(self, q2, s):
        xp, tiny = self.xp, 1e3 * np.finfo(self.columns.real_dtype).eps / self.noise_var
        free = self._usable & (s > tiny) & (q2 > s)  # dependent on active ones: s is rounding
        free[self._model.indices] = False
        ratio = xp.where(free, q2 / xp.where(free, s, 1), 1)
        gains = ratio - 1 - xp.log(ratio)
        column = int(xp.argmax(gains))
        gain = self._scale * float(gains[column]) - self.min_gain
        if not gain > self.tol:
            return Change(-np.inf, -1, -1, 0.0)
        return Change(gain, column, -1, float((q2[column] - s[column]) / s[column] ** 2))

    def _best_revaluation(self, squares, diagonal):
        """Best new variance of an active column; zero means that it leaves."""
        xp, old = self.xp, self._model.variances
        s = xp.maximum(1 / diagonal - 1 / old, 1e-12 / old)  # of the mean and variance: exact
        q2 = squares / diagonal**2
        new = xp.maximum((q2 - s) / s**2, 0)
        best = self._scale * _evidence_of(new, s, q2)
        leaves = (best < self.min_gain) | (new == 0)
        new, best = xp.where(leaves, 0, new), xp.where(leaves, self.min_gain, best)
        worth = leaves | (abs(xp.log(xp.where(leaves, old, new) / old)) > self.tol)
        gains = xp.where(worth, best - self._scale * _evidence_of(old, s, q2), -np.inf)
        place = int(xp.argmax(gains))
        return Change(float(gains[place]), self._model.members[place], place, float(new[place]))

    @property
    def _scale(self):
        """Evidence per unit of gain."""
        return self.n_snapshots * (1.0 if self.Y.dtype.kind == "c" else 0.5)

    def _learn_noise(self):
        """Take some EM steps for the noise alone, in the space of the active columns."""
        gamma = self.gamma[self.active.indices]
        self.posterior = posterior(self.active, gamma, self.noise_var)
        for _ in range(self._noise_steps if self.learns_noise else 0):
            before = self.noise_var
            self.noise_var = max(self._new_noise_var(), self.noise_floor)
            self.posterior = posterior(self.active, gamma, self.noise_var)
            if abs(self.noise_var - before) <= self.tol * before:
                break


def _evidence_of(variance, s, q2):
    """Evidence that a column of this variance adds, in units of `_scale`."""
    return q2 * variance / (1 + variance * s) - np.log1p(variance * s)


class _ActiveModel:
    """Columns in the model: their posterior, their Gram columns, and S and Q of all columns.

    Small arrays are in double precision whatever the data are in.
    """

    def __init__(self, columns, Y, noise_var):
        self.columns, self.Y, self.xp, xp = columns, Y, columns.xp, columns.xp
        self.double = np.result_type(columns.dtype, np.float64)
        with each_rank_alone():
            self.correlations = columns.correlate(Y)
        self.members, self.indices = [], xp.zeros(0, dtype=np.int64)
        self.variances = xp.zeros(0)
        (n_rows, n_columns), dtype = columns.shape, columns.dtype
        self._atoms = xp.empty((n_rows, 16), dtype=dtype, order="F")
        self._gram = xp.empty((n_columns, 16), dtype=dtype, order="F")
        self.refresh(noise_var)

    def active_columns(self):
        """Return the columns of the model by increasing index."""
        order = self.xp.argsort(self.indices)
        atoms = self._atoms[:, order]
        return ActiveColumns(self.columns, self.Y, self.indices[order], written=atoms)

    def refresh(self, noise_var):
        """Compute posterior, S and Q anew: rank-one changes gather rounding errors."""
        self.noise_var, k, xp = noise_var, len(self.members), self.xp
        self.S = xp.full(self.columns.shape[1], 1 / noise_var)
        self.Q = self.correlations.astype(self.double) / noise_var
        if k == 0:
            self.mean, self.covariance = self.Q[:0], xp.zeros((0, 0), dtype=self.double)
            return
        atoms = self._atoms[:, :k].astype(self.double)
        projected = self.correlations[self.indices].astype(self.double)
        self.mean, _, inverse, _ = small_posterior(
            atoms.conj().T @ atoms, projected, self.variances, noise_var, xp
        )
        half = inverse * xp.sqrt(self.variances)  # covariance of the posterior: noise half^H half
        self.covariance = noise_var * (half.conj().T @ half)
        P = self._gram[:, :k] @ half.conj().T.astype(self.columns.dtype)
        self.S -= (xp.abs(P) ** 2).sum(axis=1, dtype=np.float64) / noise_var
        self.Q -= (P @ (half @ projected).astype(P.dtype)) / noise_var

    def add(self, column, variance):
        """Take a column into the model."""
        xp, k, i = self.xp, len(self.members), column
        self._reserve(k + 1)
        atom = self.columns.take(xp.arange(i, i + 1))
        with each_rank_alone():
            gram = self.columns.correlate(atom)[:, 0]
        self._atoms[:, k], self._gram[:, k] = atom[:, 0], gram
        own = 1 / (1 / variance + self.S[i])
        mean = own * self.Q[i]
        t = self.covariance @ self._gram[i, :k].conj().astype(self.double) / self.noise_var
        v = (gram - self._gram[:, :k] @ t.astype(gram.dtype)).astype(self.double) / self.noise_var
        self._change_all(-own, v, self.Q[i])
        covariance = xp.empty((k + 1, k + 1), dtype=self.double)
        covariance[:k, :k] = self.covariance + own * xp.outer(t, t.conj())
        covariance[:k, k], covariance[k, :k] = -own * t, -own * t.conj()
        covariance[k, k] = own
        self.covariance = covariance
        self.mean = xp.concatenate([self.mean - xp.outer(t, mean), mean[None]])
        self.variances = xp.append(self.variances, variance)
        self._set_members([*self.members, column])

    def revalue(self, place, variance):
        """Change the prior variance of a member; one of zero takes it out."""
        xp, k, old = self.xp, len(self.members), float(self.variances[place])
        row = self.covariance[:, place].copy()
        # 1 / kappa = covariance + 1 / (1 / variance - 1 / old), as products: no infinity on the way
        kappa = (old - variance) / (row[place].real * (old - variance) + variance * old)
        mean = self.mean[place].copy()
        v = (self._gram[:, :k] @ row.astype(self._gram.dtype)).astype(self.double) / self.noise_var
        self._change_all(kappa, v, mean)
        self.covariance -= kappa * xp.outer(row, row.conj())
        self.mean -= kappa * xp.outer(row, mean)
        self.variances[place] = variance
        if variance == 0:
            self._drop(place)

    def _change_all(self, factor, v, q):
        self.S += factor * self.xp.abs(v) ** 2
        self.Q += self.xp.outer(v, factor * q)

    def _drop(self, place):
        """Take a member out; the last one gets its place."""
        xp, last = self.xp, len(self.members) - 1
        order = xp.arange(last + 1)
        order[place] = last
        order = order[:last]
        self.covariance, self.mean = self.covariance[order[:, None], order], self.mean[order]
        self.variances = self.variances[order]
        for kept in (self._atoms, self._gram):
            kept[:, place] = kept[:, last]
        members = [*self.members]
        members[place] = members[last]
        self._set_members(members[:last])

    def _set_members(self, members):
        self.members, self.indices = members, self.xp.asarray(members, dtype=np.int64)

    def _reserve(self, n):
        """Make room for n members."""
        if n <= self._gram.shape[1]:
            return
        xp = self.xp
        for name in ("_atoms", "_gram"):
            old = getattr(self, name)
            grown = xp.empty((len(old), 2 * old.shape[1]), dtype=old.dtype, order="F")
            grown[:, : old.shape[1]] = old
            setattr(self, name, grown)
