"""Dictionaries by K-SVD: sparse codes and atoms in turn (Aharon, Elad & Bruckstein, 2006)."""

from typing import NamedTuple

import numpy as np

from .. import mpi
from .._arrays import (
    compute_dtype,
    compute_namespace,
    is_array,
    is_on_gpu,
    to_numpy,
)
from .._kernels import kernels
from .._threads import one_blas_thread, over_chunks
from ._ksvd_online import OnlineAtoms
from ._ksvd_start import completed, leading_directions, normalized, random_rows, worst_rows
from ._statistics import checked_rows, squared_norms

_CPU_NUMBERS = 2**20  # correlations that a chunk of rows looks at, all atoms of a code counted
_GPU_NUMBERS = 2**27  # correlations that are formed at a time


class KSVDResult(NamedTuple):
    """What `ksvd` found."""

    components: np.ndarray  # (k, d), rows of unit length
    indices: np.ndarray  # (n, s) int32, different within a row
    values: np.ndarray  # (n, s)
    history: list  # squared error after each iteration
    n_iter: int


def ksvd(
    A,
    n_components,
    n_nonzero,
    *,
    max_iter=60,
    n_power_iterations=8,
    init="random",
    rng=None,
    tol=0.0,
    on_iteration=None,
):
    """Represent each row of A by `n_nonzero` of `n_components` atoms.

    The squared error never rises from one iteration to the next.

    Parameters
    ----------
    A : array of shape (n, d)
        NumPy or CuPy, float32 or float64; it is not changed.
    n_components : int
        Number of atoms; it may exceed n.
    n_nonzero : int
        Atoms a row; at most `n_components` and d.
    max_iter : int, default=60
        Largest number of iterations. One of them updates all atoms, and then all codes.
    n_power_iterations : int, default=8
        Of each atom in each iteration.
    init : {"random", "svd"} or array of shape (n_components, d), default="random"
        "random" takes rows of A; "svd" the leading right singular vectors, and where these are too
        few, the rows that `n_nonzero` of them represent worst: its error is never larger than that
        of the truncated singular value decomposition.
    rng : int or numpy.random.Generator, default=None
    tol : float, default=0.0
        End when an iteration lowers the error by no more than this share; 0 runs all iterations.
    on_iteration : callable, default=None
        ``on_iteration(n_iter, error)`` after each iteration; the fit ends if it returns true.

    Returns
    -------
    KSVDResult
        Arrays in the library and of the type of A.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.dictionary._ksvd_loop import ksvd
    >>> A = np.random.default_rng(0).normal(size=(200, 8))
    >>> found = ksvd(A, 20, 3, max_iter=5, rng=0)
    >>> X = np.zeros((200, 20))
    >>> np.put_along_axis(X, found.indices, found.values, axis=1)
    >>> bool(np.isclose(((A - X @ found.components) ** 2).sum(), found.history[-1]))
    True
    """
    fit = KSVDFit(A, n_components, n_nonzero, n_power_iterations)
    with one_blas_thread():
        fit.start(init, np.random.default_rng(rng))
        for n_iter in range(1, max_iter + 1):
            fit.step()
            asked = on_iteration is not None and on_iteration(n_iter, fit.history[-1])
            if asked or fit.settled(tol):
                break
    return KSVDResult(fit.components, fit.indices, fit.values, fit.history, len(fit.history))


class KSVDFit:
    """A fit under way.

    Parameters
    ----------
    rows : array or row source of shape (n, d)
        The rows of this rank.
    n_components, n_nonzero, n_power_iterations : int
    monotone : bool, default=True
        Whether a row keeps the code it has where matching pursuit finds a worse one.

    Attributes
    ----------
    components : array of shape (n_components, d)
    indices, values : arrays of shape (n, n_nonzero)
        Codes of the rows.
    residual : array of shape (n, d)
        Rows less what their codes represent.
    error : float
        Sum of squares of the residuals of all ranks.
    history : list of float
        The error after each iteration.
    ends : list of array
        The first and last row.
    """

    def __init__(self, rows, n_components, n_nonzero, n_power_iterations, monotone=True):
        n, d = rows.shape
        if n_nonzero > min(n_components, d):
            raise ValueError(
                f"A row cannot use {n_nonzero} of {n_components} atoms in {d} dimensions; "
                "n_nonzero must not exceed either."
            )
        self.rows, self.n_components = rows, n_components
        self.n_nonzero, self.n_power_iterations = n_nonzero, n_power_iterations
        self.monotone = monotone
        self.xp, self.dtype = compute_namespace(rows), compute_dtype(rows)
        self.batch_size = rows_at_once(n_components, n_nonzero, is_on_gpu(rows))
        self.residual = self.xp.empty((n, d), dtype=self.dtype)
        self.indices = self.xp.empty((n, n_nonzero), dtype=np.int32)
        self.values = self.xp.zeros((n, n_nonzero), dtype=self.dtype)
        self.squares, self.history, self.error = np.empty(n), [], np.inf
        self._read_rows()

    # ------------------------------------------------------------------ start
    def start(self, init, rng, *, n_passes=0, batch_size=512):
        """Choose the first atoms, maybe improve them batch by batch, and code all rows.

        To be called once, as long as the residuals hold the rows.

        Parameters
        ----------
        init : {"random", "svd"} or array
        rng : numpy.random.Generator
            The same on every rank.
        n_passes : int
            Passes of `OnlineAtoms` over the rows.
        batch_size : int
            Rows of a batch, of all ranks together.
        """
        self.indices[...] = self.xp.arange(self.n_nonzero, dtype=np.int32)
        if isinstance(init, str) and init == "svd":
            atoms = self._singular_atoms(rng)
        elif isinstance(init, str):
            atoms = random_rows(self.residual, self.squares, self.n_components, rng)
        else:
            atoms = checked_atoms(init, (self.n_components, self.rows.shape[1]))
        self._set_components(atoms)
        if n_passes:
            self._learn_online(n_passes, batch_size)
        self.code()

    def _learn_online(self, n_passes, batch_size):
        """Pass over batches of rows that lie evenly in the data, whatever rank holds them."""
        online = OnlineAtoms(self.components, trusted=False)
        self.values[...] = 0
        counts = mpi.all_gather(len(self.residual))
        n_batches = max(1, round(sum(counts) / batch_size))
        before = sum(counts[: mpi.rank()])
        for t in range(n_passes * n_batches):
            rows = self.xp.ascontiguousarray(self.residual[(t - before) % n_batches :: n_batches])
            online.update(rows, self.n_nonzero)
        self._set_components(online.atoms)

    def resume(self, components, indices, values, history):
        """Go on from the atoms and codes of an earlier fit of the same rows."""
        self.components = self.xp.asarray(components)
        self.indices[...], self.values[...] = self.xp.asarray(indices), self.xp.asarray(values)
        self.history, self.error = list(history), history[-1]
        atoms = kernels("atoms", self.components)

        def take(start, Y, _):
            rows = slice(start, start + len(Y))
            codes = self.indices[rows], self.values[rows]
            atoms.keep_better_codes(Y, self.components, *codes, *codes, self.residual[rows])

        with mpi.errors_together():
            over_chunks(take, self.rows, self.batch_size, self.dtype)

    def _read_rows(self):
        """Check and measure the rows, and copy them to the residual of codes of zeros."""

        def take(start, Y, _):
            checked_rows(Y, start, False)
            self.squares[start : start + len(Y)] = to_numpy(squared_norms(Y))
            self.residual[start : start + len(Y)] = Y

        with mpi.errors_together():
            over_chunks(take, self.rows, self.batch_size, self.dtype)
        ends = self.residual[:1], self.residual[max(0, len(self.squares) - 1) :]
        self.ends = [np.array(to_numpy(row)) for row in ends]

    def _singular_atoms(self, rng):
        """Singular vectors, the first of which all rows use, and rows these represent worst."""
        n_rows, d = sum(mpi.all_gather(len(self.residual))), self.residual.shape[1]
        n_directions = min(self.n_components, n_rows, d)
        leading = leading_directions(self.residual, n_directions, self.batch_size)
        self._set_components(leading[: self.n_nonzero])
        V = self.components

        left = np.empty(len(self.residual))

        def take(start, Y, _):
            rows = slice(start, start + len(Y))
            self.values[rows] = Y @ V.T
            left[rows] = to_numpy(squared_norms(Y - self.values[rows] @ V))

        with mpi.errors_together():
            over_chunks(take, self.residual, self.batch_size, self.dtype)
        others = worst_rows(self.residual, left, self.n_components - len(leading))
        return completed(np.concatenate([leading, others]), self.n_components, rng)

    def _set_components(self, atoms):
        self.components = self.xp.asarray(np.ascontiguousarray(atoms, dtype=self.dtype))

    # ------------------------------------------------------------------ iterations
    def step(self):
        """Update all atoms, then all codes."""
        self.update_atoms()
        self.code()
        if not np.isfinite(self.error):
            raise FloatingPointError(
                f"The error of iteration {len(self.history) + 1} is {self.error}; rescale X."
            )
        self.history.append(self.error)

    def settled(self, tol):
        """Whether the last iteration lowered the error by no more than a share `tol` > 0."""
        if self.error == 0:
            return True
        if tol == 0 or len(self.history) < 2:
            return False
        before, now = self.history[-2:]
        return before - now <= tol * before

    def update_atoms(self):
        """Fit atoms and their coefficients; atoms without users become the worst residuals."""
        topic = kernels("atoms", self.residual)
        users = topic.users_of_atoms(self.indices, self.values, self.n_components)
        counts = to_numpy(users.starts[1:] - users.starts[:-1])
        unused = np.flatnonzero(mpi.row_sum(counts.astype(np.float64)) == 0)
        total = mpi.row_sum if mpi.n_ranks() > 1 else None
        topic.update_atoms(
            self.components, self.residual, users, self.values, self.n_power_iterations, total
        )
        if len(unused):
            squares = to_numpy(squared_norms(self.residual))
            worst = worst_rows(self.residual, squares, len(unused))
            worst = self.xp.asarray(worst.astype(self.dtype))
            self.components[self.xp.asarray(unused[: len(worst)])] = worst

    def code(self):
        """Code all rows by matching pursuit; if monotone, where it beats the codes they have."""
        D = self.components
        coding, atoms = kernels("sparse_coding", D), kernels("atoms", D)
        G = D @ D.T

        def take(start, Y, _):
            rows = slice(start, start + len(Y))
            squares = self.xp.asarray(self.squares[rows])
            new = coding.sparse_code(G, Y @ D.T, squares, self.n_nonzero)
            if not self.monotone:
                self.values[rows] = 0
            atoms.keep_better_codes(
                Y, D, *new, self.indices[rows], self.values[rows], self.residual[rows]
            )

        with mpi.errors_together():
            over_chunks(take, self.rows, self.batch_size, self.dtype)
        squares = squared_norms(self.residual)
        self.error = float(mpi.row_sum(np.array(float(squares.sum()))))


def rows_at_once(n_atoms, n_nonzero, on_gpu):
    """Rows that are coded at a time."""
    return max(16, _GPU_NUMBERS // n_atoms if on_gpu else _CPU_NUMBERS // (n_atoms * n_nonzero))


def checked_atoms(init, shape):
    """Return given atoms on the host, of unit length, or refuse them."""
    atoms = np.array(to_numpy(init) if is_array(init) else init, dtype=np.float64)
    if atoms.shape != shape:
        raise ValueError(f"init must have shape {shape}, got {atoms.shape}.")
    if not np.isfinite(atoms).all() or not abs(atoms).max(axis=1).all():
        raise ValueError(
            "init must be finite and have no row of zeros; give every atom a direction."
        )
    return normalized(atoms)
