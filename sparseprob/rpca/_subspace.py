"""What robust PCA, batch and online, does with rows once the subspace is known."""

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._arrays import compute_dtype, compute_namespace, is_on_gpu, like, to_compute, to_cupy
from .._base import Estimator
from .._threads import one_blas_thread
from ._blocks import RowBlocks
from ._projection import least_absolute

_TOL = {4: 1e-4, 8: 1e-6}  # relative, by bytes of a number


class SubspaceTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    """Coordinates in, and deviations from, the row space of ``components_``."""

    _reference_attribute = "components_"

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing is not None
        return tags

    @property
    def _n_features_out(self):
        return self.components_.shape[0]

    def transform(self, X):
        """Return the coordinates of rows in the subspace.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
            Rows, which may have gross errors if `robust`, and missing entries if ``missing="nan"``.

        Returns
        -------
        X_new : array of shape (n_samples, n_components)
            With `robust` of least absolute deviations, else of least squares.

        Raises
        ------
        ValueError
            If X has infinity, or NaN where it must not.
        """
        return self._over_rows(X, "transform", lambda block, scores, V: scores, "components")

    def inverse_transform(self, X):
        """Return the rows that coordinates stand for.

        Parameters
        ----------
        X : array of shape (n_samples, n_components)

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        L = to_compute(X) @ to_compute(self.components_)
        if self.center_ is not None:
            L = L + to_compute(self.center_)
        return like(L, X)

    def decompose(self, X):
        """Split new rows by the subspace found.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)

        Returns
        -------
        low_rank : array of shape (n_samples, n_features)
        rest : array of shape (n_samples, n_features)
            ``X - low_rank``; 0 where X is missing.
        """
        low_rank = self.inverse_transform(self.transform(X))
        A = to_compute(X[:] if not hasattr(X, "ndim") else X)
        rest = compute_namespace(A).nan_to_num(A - to_compute(low_rank))
        return low_rank, like(rest, low_rank)

    def score_samples(self, X):
        """Return how well the subspace explains rows: minus the mean absolute deviation.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)

        Returns
        -------
        score : array of shape (n_samples,)
            0 for a row inside the subspace; far below for one that has nothing to do with it.
        """

        def deviation(block, scores, V):
            xp = compute_namespace(block)
            return -xp.nanmean(abs(block - scores @ V.T), axis=1)

        return self._over_rows(X, "score_samples", deviation, None)

    def _over_rows(self, X, method, result_of, width):
        """Apply `result_of(block, scores, V)` to all rows."""
        X = self._check_X(X, reset=False, method=method)
        V = to_compute(self.components_).T
        if is_on_gpu(X) and not is_on_gpu(V):
            V = to_cupy(V)
        dtype = compute_dtype(X)
        center = None if self.center_ is None else to_compute(self.center_).astype(dtype)
        rows = RowBlocks(X, dtype, center)
        V = V.astype(dtype, copy=False)
        shape = (rows.shape[0],) if width is None else (rows.shape[0], V.shape[1])
        out = rows.xp.empty(shape, dtype=dtype)

        def work(start, block, _):
            refuse_bad_entries(block, start, self.missing, self.robust)
            tol = _TOL[dtype.itemsize]
            scores = least_absolute(block, V, tol) if self.robust else block @ V
            out[start : start + len(block)] = result_of(block, scores, V)

        with one_blas_thread():
            rows.each(work)
        return like(out, X)


def refuse_bad_entries(block, start, missing, robust=True):
    """Raise for infinity, NaN that was not announced, and rows with nothing in them."""
    xp = compute_namespace(block)
    if missing is None:
        if not bool(xp.isfinite(block).all()):
            bad = int(np.argmin(np.asarray([bool(b) for b in xp.isfinite(block).all(axis=1)])))
            raise ValueError(
                f"Input X contains NaN or infinity (row {start + bad}); remove such rows, or fit "
                "with missing='nan' if NaN marks missing entries."
            )
        return
    if bool(xp.isinf(block).any()):
        raise ValueError("Input X contains infinity; mark such entries as missing by NaN.")
    gone = xp.isnan(block)
    if not robust and bool(gone.any()):
        raise ValueError("robust=False needs rows without missing entries; set robust=True.")
    if bool(gone.all(axis=1).any()):
        bad = int(gone.all(axis=1).argmax())
        raise ValueError(f"Row {start + bad} of X has only missing entries; leave it out.")
