"""K-SVD: dictionaries for codes of few atoms (M. Aharon, M. Elad, A. Bruckstein, 2006)."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from .. import _checkpoint, mpi
from .._arrays import compute_dtype, compute_namespace, is_on_gpu, like, row_chunks, to_compute
from .._base import Estimator
from .._kernels import kernels
from .._threads import one_blas_thread, over_chunks
from ._base import _plain, _row_hash
from ._ksvd_loop import KSVDFit, checked_atoms, rows_at_once
from ._ksvd_online import OnlineAtoms
from ._ksvd_start import random_rows
from ._statistics import checked_rows, squared_norms


class KSVD(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    r"""Dictionary learning in which every row is made of a given number of atoms.

    Minimizes :math:`\|X - Z D\|_F^2` over codes Z with at most `n_nonzero_coefs` entries a row that
    are not zero, and atoms D of unit length. Codes come from batch orthogonal matching pursuit
    [2]_; then each atom is fitted, with the coefficients of the rows that use it, to what the
    others leave [1]_. Batches of rows bring the atoms near before the first iteration [3]_.

    Parameters
    ----------
    n_components : int
        Number of atoms.
    n_nonzero_coefs : int, default=None
        Number of atoms a row; None means a tenth of the features, as in scikit-learn.
    max_iter : int, default=30
        Largest number of iterations. Each updates all atoms and codes all rows.
    tol : float, default=1e-3
        The fit ends when an iteration lowers the error by no more than this share. 0 makes all
        iterations.
    online_passes : int, default=4
        Passes over the rows in batches, as by `partial_fit`, before the first iteration. A pass
        costs no more than one iteration and is worth many; 0 is plain K-SVD.
    batch_size : int, default=512
        Rows of a batch of these passes, of all ranks together.
    n_power_iterations : int, default=1
        Of each atom in each iteration. One is the approximate K-SVD of [2]_; with many, an atom
        becomes the leading singular vector.
    monotone : bool, default=False
        Whether a row keeps the code it has where matching pursuit, which is greedy, finds a worse
        one. Then the error never rises, but the atoms fit codes that `transform` does not find.
    init : {"random", "svd"} or array of shape (n_components, n_features), default="random"
        Rows of X; or the leading right singular vectors of X, and, where these are too few, the
        rows that `n_nonzero_coefs` of them represent worst; or given atoms.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of rows.

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        The atoms, of unit length, in the library of X.
    error_ : list of float
        Squared error :math:`\|X - Z D\|_F^2` after each iteration; of each batch in `partial_fit`,
        before it was learned from.
    n_iter_ : int
        Number of iterations; of batches in `partial_fit`.
    n_nonzero_coefs_ : int
        Number of atoms a row.
    converged_ : bool
        Whether the last iteration lowered the error by no more than `tol`.
    n_features_in_ : int
        Number of columns of X.

    See Also
    --------
    GaussianSparseCoding : A model with a prior, which says how many atoms a row has.
    sklearn.decomposition.MiniBatchDictionaryLearning : Codes with a penalty instead of a count.

    Notes
    -----
    Rows are not centered: take off their means first, as is usual for patches of images. With n
    rows, k atoms, d features and s atoms a row an iteration costs about
    :math:`n k (d + s^2 / 2) + n s d` multiplications. Beside X, memory holds one array of its
    shape, for residuals, and n s coefficients. From s = 128 on, several atoms enter a code at once,
    one for each 64.

    Inside ``with sparseprob.distributed():`` each rank holds its own rows; an iteration sums one
    vector for each atom and power iteration over the ranks.

    References
    ----------
    .. [1] M. Aharon, M. Elad, A. Bruckstein. "K-SVD: An algorithm for designing overcomplete
       dictionaries for sparse representation". IEEE Trans. Signal Processing 54(11):4311-4322,
       2006.
    .. [2] R. Rubinstein, M. Zibulevsky, M. Elad. "Efficient implementation of the K-SVD algorithm
       using batch orthogonal matching pursuit". Technion, 2008.
    .. [3] J. Mairal, F. Bach, J. Ponce, G. Sapiro. "Online dictionary learning for sparse coding".
       ICML, 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.dictionary import KSVD
    >>> rng = np.random.default_rng(0)
    >>> atoms = rng.normal(size=(30, 20))
    >>> codes = rng.normal(size=(2000, 30)) * (rng.random((2000, 30)) < 0.1)
    >>> model = KSVD(30, n_nonzero_coefs=3, max_iter=10, tol=0, random_state=0)
    >>> Z = model.fit_transform(codes @ atoms)
    >>> int((Z != 0).sum(axis=1).max())
    3
    """

    _reference_attribute = "components_"
    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "n_nonzero_coefs": [Interval(Integral, 1, None, closed="left"), None],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "online_passes": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "n_power_iterations": [Interval(Integral, 1, None, closed="left")],
        "monotone": ["boolean"],
        "init": [StrOptions({"random", "svd"}), "array-like"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components,
        *,
        n_nonzero_coefs=None,
        max_iter=30,
        tol=1e-3,
        online_passes=4,
        batch_size=512,
        n_power_iterations=1,
        monotone=False,
        init="random",
        random_state=None,
    ):
        self.n_components = n_components
        self.n_nonzero_coefs = n_nonzero_coefs
        self.max_iter = max_iter
        self.tol = tol
        self.online_passes = online_passes
        self.batch_size = batch_size
        self.n_power_iterations = n_power_iterations
        self.monotone = monotone
        self.init = init
        self.random_state = random_state

    # ------------------------------------------------------------------ learning
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, resume_from=None):
        """Learn the atoms.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
            NumPy, CuPy or torch array, memory map, h5py dataset or ``datasets.on_gpu(...)``. Inside
            ``with distributed():`` the rows of this rank.
        y : None
            Ignored.
        resume_from : str or Path, default=None
            A file written by `sparseprob.callbacks.Checkpoint` during a fit of the same data with
            the same parameters, from which to continue.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X has NaN, infinity or only zeros, if `n_nonzero_coefs` exceeds the number of atoms
            or features, or if the checkpoint does not belong to this fit.

        Warns
        -----
        ConvergenceWarning
            If the last of `max_iter` iterations lowered the error by more than a positive `tol`.
        """
        with mpi.errors_together():
            X = self._check_X(X, reset=True)
            n_nonzero = self._n_nonzero(X)
            saved = None if resume_from is None else _checkpoint.load(resume_from)
        with one_blas_thread():
            self._fit = KSVDFit(
                X, self.n_components, n_nonzero, self.n_power_iterations, self.monotone
            )  # fmt: skip
            if saved is not None:
                self._resume(saved)
            done = len(self._fit.history)
            steps = self._iterations(
                X, y, max_iter=done if self._fit.settled(self.tol) else self.max_iter, first=done,
                until=lambda: self._fit.settled(self.tol),
            )  # fmt: skip
            for n_iter in steps:
                if n_iter == 0:  # so that callbacks count the time
                    self._start()
                self._fit.step()
        self._set_attributes(self._fitted_attributes())
        self.__dict__.pop("_online", None)
        del self._fit
        if not self.converged_ and self.tol > 0:
            warnings.warn(
                f"Iteration {self.n_iter_} still lowered the error by more than tol={self.tol:g} "
                "of it; increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None):
        """Improve the atoms with one batch of rows.

        The rows are coded; running moments of the codes, s <- (1 - eta) s + eta s_batch with
        eta = (t + 1)^-0.6, then say how to improve one atom after the other, as Mairal and others
        (2009) do. Codes of earlier batches are not revised. Atoms from `fit` count as ten batches.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
            The first batch gives the first atoms, and should have more rows than there are atoms.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        first = not hasattr(self, "components_")
        with mpi.errors_together():
            X = self._check_X(X, reset=first, method="partial_fit")
            n_nonzero = self._n_nonzero(X)
            _, rows = next(row_chunks(X, max(1, X.shape[0]), compute_dtype(X)))
            checked_rows(rows, 0, False)
        with one_blas_thread():
            if not hasattr(self, "_online"):
                atoms = self._first_atoms(rows) if first else to_compute(self.components_)
                self._online, self.error_ = OnlineAtoms(atoms, trusted=not first), list[float]()
            errors = [*self.error_, self._online.update(rows, n_nonzero)]
        self._set_attributes(
            {
                "components_": like(self._online.atoms.astype(rows.dtype), X),
                "error_": errors,
                "n_iter_": len(errors),
                "n_nonzero_coefs_": n_nonzero,
                "converged_": False,
            }
        )
        return self

    def _set_attributes(self, attributes):
        for name, value in attributes.items():
            setattr(self, name, value)

    def _first_atoms(self, rows):
        if not isinstance(self.init, str):
            return checked_atoms(self.init, (self.n_components, rows.shape[1]))
        squares = np.asarray(like(squared_norms(rows), np.empty(0)))
        return random_rows(rows, squares, self.n_components, self._generator())

    def _n_nonzero(self, X):
        """Number of atoms a row, or a complaint."""
        n_features = X.shape[1]
        if self.n_nonzero_coefs is None:
            return min(max(1, n_features // 10), self.n_components)
        if self.n_nonzero_coefs > min(self.n_components, n_features):
            raise ValueError(
                f"n_nonzero_coefs must not exceed n_components={self.n_components} or the "
                f"{n_features} features of X, got {self.n_nonzero_coefs!r}."
            )
        return int(self.n_nonzero_coefs)

    def _generator(self):
        seed = mpi.broadcast(check_random_state(self.random_state).randint(2**31 - 1))
        return np.random.default_rng(int(seed))

    # ------------------------------------------------------------------ a fit under way
    def _start(self):
        self._fit.start(
            self.init, self._generator(), n_passes=self.online_passes, batch_size=self.batch_size
        )

    def _resume(self, saved):
        meta, arrays, local = saved["meta"], saved["arrays"], saved["local"]
        with mpi.errors_together():
            _checkpoint.check_same(meta["data"], self._fingerprint(), "data")
            _checkpoint.check_same(meta["options"], self._options(), "parameters")
        self._fit.resume(arrays["components"], local["indices"], local["values"], meta["history"])

    def _checkpoint_state(self):
        """Everything a resumed fit needs, for `sparseprob.callbacks.Checkpoint`."""
        fit = self._fit
        meta = {
            "n_steps": len(fit.history), "history": fit.history, "has_local": True,
            "options": self._options(), "data": self._fingerprint(),
        }  # fmt: skip
        host = np.empty(0)
        arrays = {"components": like(fit.components, host)}
        local = {"indices": like(fit.indices, host), "values": like(fit.values, host)}
        return {"arrays": arrays, "meta": meta, "local": local}

    def _options(self):
        """Parameters that shape the fit, as JSON values."""
        return {name: _plain(value) for name, value in self.get_params(deep=False).items()}

    def _fingerprint(self):
        """Dtype, and by rank the shape and a hash of the first and last rows."""
        fit = self._fit
        return {
            "dtype": str(fit.dtype),
            "shapes": mpi.all_gather(list(fit.residual.shape)),
            "rows": mpi.all_gather([_row_hash(row) for row in fit.ends]),
        }

    def _fitted_attributes(self):
        fit = self._fit
        return {
            "components_": like(fit.components.copy(), fit.rows),  # the fit goes on in place
            "error_": list(fit.history),
            "n_iter_": len(fit.history),
            "n_nonzero_coefs_": fit.n_nonzero,
            "converged_": fit.settled(self.tol),
        }

    # ------------------------------------------------------------------ codes
    def transform(self, X):
        """Code rows by batch orthogonal matching pursuit.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)

        Returns
        -------
        codes : array of shape (n_samples, n_components)
            At most `n_nonzero_coefs_` entries a row are not zero.
        """
        X = self._check_X(X, reset=False, method="transform")
        xp, dtype = compute_namespace(X), compute_dtype(X)
        D = xp.asarray(to_compute(self.components_), dtype=dtype)
        coding, G = kernels("sparse_coding", D), D @ D.T
        codes = xp.zeros((X.shape[0], len(D)), dtype=dtype)

        def take(start, Y, _):
            checked_rows(Y, start, False)
            found = coding.sparse_code(G, Y @ D.T, squared_norms(Y), self.n_nonzero_coefs_)
            codes[start + xp.arange(len(Y))[:, None], found[0]] = found[1]

        with one_blas_thread():
            n_rows = rows_at_once(len(D), self.n_nonzero_coefs_, is_on_gpu(X))
            over_chunks(take, X, n_rows, dtype)
        return like(codes, X)

    def inverse_transform(self, X):
        """Map codes to data space, ``codes @ components_``.

        Parameters
        ----------
        X : array of shape (n_samples, n_components)

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
        """
        codes = to_compute(X)
        D = compute_namespace(codes).asarray(to_compute(self.components_), dtype=codes.dtype)
        return like(codes @ D, X)

    @property
    def _n_features_out(self):
        return self.components_.shape[0]
