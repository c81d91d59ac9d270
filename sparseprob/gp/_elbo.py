"""Evidence lower bound of sparse posteriors and its gradient (Cao et al., 2023)."""

from typing import Any, NamedTuple

import numpy as np

from .. import mpi
from .._arrays import compute_namespace, is_on_gpu
from .._kernels import kernels
from .._threads import n_threads_allowed
from ._inverse_cholesky import count_failed, factor_data

_MOST_BUFFERS = 16


class Pattern(NamedTuple):
    """Rows of the entries of every column: ascending, the column itself last."""

    indptr: np.ndarray  # (n + 1,) int64
    indices: np.ndarray  # (nnz,) int32


class Patterns(NamedTuple):
    """Where the factors of prior and posterior have entries, and which columns a column sees."""

    prior: Pattern
    posterior: Pattern
    ancestors: Pattern


class Gradient(NamedTuple):
    """Gradient of the bound."""

    theta: np.ndarray  # (P,) on the host, with the prior's factor following the kernel
    likelihood: np.ndarray  # (L,) on the host
    nu: np.ndarray  # (n,)
    V: np.ndarray  # (nnz,)


class Bound:
    """The bound as a function of kernel, likelihood, posterior mean nu and posterior factor V.

    Parameters
    ----------
    points : array of shape (n, d)
        In their order; NumPy or CuPy in double precision, as all arrays.
    y : array of shape (n,)
    patterns : Patterns
    nugget : float
    """

    def __init__(self, points, y, patterns: Patterns, nugget):
        self.points, self.y, self.patterns, self.nugget = points, y, patterns, float(nugget)
        self._kernels = kernels("elbo", points)
        self._buffers: Any = None
        self._is_clear = False

    def with_ancestors(self, ancestors):
        """Return the same bound with other ancestors."""
        patterns = self.patterns._replace(ancestors=ancestors)
        return Bound(self.points, self.y, patterns, self.nugget)

    def factor(self, covariance):
        """Return the entries of the prior's factor, and how many columns needed jitter."""
        U, failed = factor_data(covariance, self.points, *self.patterns.prior, self.nugget)
        return U, count_failed(failed)

    def marginals(self, V):
        """Posterior variances (n,), of this rank's columns each, summed over ranks."""
        xp = compute_namespace(V)
        out, mine = xp.zeros(len(self.y)), mpi.row_slice(len(self.y))
        out[mine] = self._marginals(self._columns(), V)
        return mpi.row_sum(out)

    def value_and_gradient(self, covariance, likelihood, U, nu, V):
        """Return the bound and its gradient, summed over ranks."""
        dV, dnu = self._cleared_buffers()
        mine = self._columns()
        value, theta, parameters = self._add_columns(
            mine, covariance, likelihood, U, nu, V, dV, dnu
        )
        gradient = Gradient(theta, parameters, dnu.sum(axis=0), dV.sum(axis=0))
        if mpi.n_ranks() == 1:
            return value, gradient
        total, *summed = mpi.row_sum(np.array([value]), *gradient)
        return float(total[0]), Gradient(*summed)

    def batch(self, columns, covariance, likelihood, nu, V):
        """Return the terms of some columns, their gradient, and which entries of V it is for.

        Factors the prior's columns too. The gradient by V is of the columns in the ancestors alone.
        """
        xp = compute_namespace(V)
        mine = columns[mpi.row_slice(len(columns))]
        U = xp.zeros(len(self.patterns.prior.indices))
        self._factor_some(covariance, mine, U)
        dV, dnu = self._buffers if self._is_clear else self._cleared_buffers()
        self._is_clear = True  # again, at the end
        value, theta, parameters = self._add_columns(
            mine, covariance, likelihood, U, nu, V, dV, dnu
        )
        seen = self._ancestors_of(columns)
        entries = entries_of(self.patterns.posterior.indptr, seen)[0]
        by_nu, by_V = dnu[:, seen].sum(axis=0), dV[:, entries].sum(axis=0)
        dnu[:, seen], dV[:, entries] = 0.0, 0.0
        value, theta, parameters, by_nu, by_V = mpi.row_sum(
            np.array([value]), theta, parameters, by_nu, by_V
        )
        return float(value[0]), Gradient(theta, parameters, by_nu, by_V), seen, entries

    def _ancestors_of(self, columns):
        ancestors = self.patterns.ancestors
        members = ancestors.indices[entries_of(ancestors.indptr, columns)[0]]
        return compute_namespace(members).unique(members).astype(np.int64)

    def _factor_some(self, covariance, columns, U):
        entries, indptr = entries_of(self.patterns.prior.indptr, columns)
        xp, terms = compute_namespace(U), covariance.terms(self.points)
        data, failed = xp.zeros(len(entries)), xp.zeros(len(columns), dtype=np.int8)
        if len(columns):
            terms.kernels("inverse_cholesky").factor_columns(
                *terms, self.nugget, indptr, self.patterns.prior.indices[entries],
                0, len(columns), data, failed,
            )  # fmt: skip
        count_failed(failed)
        U[entries] = data

    def _add_columns(self, columns, covariance, likelihood, U, nu, V, dV, dnu):
        """Terms of columns, gradients by kernel and likelihood; add the others to dV and dnu."""
        xp = compute_namespace(V)
        variances, y = self._marginals(columns, V), self.y[columns]
        part = likelihood.take(columns)
        expected, by_mean, by_variance = part.expected(y, nu[columns], variances)
        dU, terms = xp.zeros(len(U)), xp.empty(len(columns))
        self._kernels.elbo_gradient_columns(
            columns, *self.patterns.prior, U, *self.patterns.ancestors, *self.patterns.posterior,
            V, nu, by_variance, terms, dU, dV, dnu,
        )  # fmt: skip
        dnu[0, columns] += by_mean
        value = float((expected + terms).sum()) + 0.5 * len(columns)
        by_parameters = part.expected_parameter_gradient(y, nu[columns], variances)
        return value, self._by_theta(covariance, dU, columns), by_parameters

    def _columns(self):
        """Numbers of the columns of this rank."""
        mine = mpi.row_slice(len(self.y))
        return compute_namespace(self.points).arange(mine.start, mine.stop)

    def _marginals(self, columns, V):
        out = compute_namespace(V).empty(len(columns))
        self._kernels.marginal_columns(
            columns, *self.patterns.ancestors, *self.patterns.posterior, V, n_buffers(V), out
        )
        return out

    def _cleared_buffers(self):
        """Zeros that the threads add to the gradients by V and nu in."""
        n, shape = len(self.y), (n_buffers(self.points), len(self.patterns.posterior.indices))
        if self._buffers is None or self._buffers[0].shape != shape:
            xp = compute_namespace(self.points)
            self._buffers = xp.empty(shape), xp.empty((shape[0], n))
        for buffer in self._buffers:
            buffer[...] = 0.0
        self._is_clear = False
        return self._buffers

    def _by_theta(self, covariance, dU, columns):
        """Gradient by the kernel's free parameters from that by columns of the prior's factor."""
        if not len(covariance.theta):
            return np.zeros(0)
        terms = covariance.terms(self.points)
        if len(columns) and int(columns[-1]) - int(columns[0]) + 1 == len(columns):
            pattern, first, stop = self.patterns.prior, int(columns[0]), int(columns[-1]) + 1
        else:
            entries, indptr = entries_of(self.patterns.prior.indptr, columns)
            pattern = Pattern(indptr, self.patterns.prior.indices[entries])
            dU, first, stop = dU[entries], 0, len(columns)
        by_internal = terms.kernels("inverse_cholesky").column_gradients(
            *terms, self.nugget, *pattern, first, stop, dU, covariance.n_lengthscales
        )
        return covariance.chain(by_internal)


def entries_of(indptr, columns):
    """Return the numbers of the entries of some columns, and where each column of them starts."""
    xp = compute_namespace(indptr)
    counts = indptr[columns + 1] - indptr[columns]
    starts = xp.concatenate([xp.zeros(1, dtype=np.int64), xp.cumsum(counts)])
    shifts = repeated(indptr[columns] - starts[:-1], starts)
    return xp.arange(int(starts[-1])) + shifts, starts


def repeated(values, indptr):
    """Return the value of every column once for each of its entries."""
    xp = compute_namespace(values)
    if xp is np:
        return np.repeat(values, np.diff(indptr))
    return values[xp.searchsorted(indptr, xp.arange(int(indptr[-1])), side="right") - 1]


def n_buffers(A):
    """Pieces of work that run side by side."""
    return 1 if is_on_gpu(A) else min(_MOST_BUFFERS, n_threads_allowed())
