"""Whitening that stays close to the data (A. J. Bell, T. J. Sejnowski, 1997)."""

from numbers import Real

import numpy as np
from scipy import linalg
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted, validate_data


class ZCAWhitening(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Zero-phase whitening: remove correlations, change the rows as little as possible.

    Parameters
    ----------
    retained_variance : float, default=0.95
        Fraction of the variance that is whitened; directions of less variance, mostly noise, are
        damped instead of amplified: all are scaled by the factor of the weakest direction retained.

    Attributes
    ----------
    mean_ : ndarray of shape (n_features,)
        Mean of the rows.
    whitening_ : ndarray of shape (n_features, n_features)
        Symmetric matrix; ``transform`` is ``(X - mean_) @ whitening_``.
    n_features_in_ : int
        Number of features.

    References
    ----------
    .. [1] A. J. Bell, T. J. Sejnowski. 'The "independent components" of natural scenes are edge
       filters'. Vision Research 37:3327-3338, 1997.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.datasets import ZCAWhitening
    >>> X = np.random.default_rng(0).normal(size=(1000, 2)) @ [[2.0, 1.0], [0.0, 0.5]]
    >>> covariance = np.cov(ZCAWhitening(retained_variance=1.0).fit_transform(X).T)
    >>> bool(abs(covariance - np.eye(2)).max() < 1e-10)
    True
    """

    _parameter_constraints: dict = {"retained_variance": [Interval(Real, 0, 1, closed="right")]}

    def __init__(self, retained_variance=0.95):
        self.retained_variance = retained_variance

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Estimate mean and whitening matrix.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            At least two rows.
        y : None
            Ignored.

        Returns
        -------
        self : object
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        self.mean_ = X.mean(axis=0)
        variances, directions = linalg.eigh(np.atleast_2d(np.cov(X.T)))
        variances = np.maximum(variances, 0)
        if not variances[-1] > 0:
            raise ValueError(
                f"X has zero variance (n_samples={len(X)}); at least two different rows are needed."
            )
        share = np.cumsum(variances[::-1])[::-1] / variances.sum()
        retained = share >= self.retained_variance * (1 - 1e-12)
        weakest = variances[np.flatnonzero(retained)[-1]]
        floor = max(weakest, variances[-1] * len(variances) * np.finfo(X.dtype).eps)
        scale = 1 / np.sqrt(np.maximum(variances, floor))
        self.whitening_ = ((directions * scale) @ directions.T).astype(X.dtype)
        return self

    def transform(self, X):
        """Whiten rows.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)

        Returns
        -------
        X_white : ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        return (X - self.mean_) @ self.whitening_

    def inverse_transform(self, X):
        """Undo the whitening.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Whitened rows.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
        """
        check_is_fitted(self)
        return linalg.solve(self.whitening_, np.asarray(X).T, assume_a="pos").T + self.mean_


def zca_whiten(X, *, retained_variance=0.95):
    """Whiten rows; `ZCAWhitening` does the same to new rows.

    Parameters
    ----------
    X : array of shape (n_samples, n_features)
    retained_variance : float, default=0.95
        Fraction of the variance that is whitened; the rest is damped.

    Returns
    -------
    X_white : ndarray of shape (n_samples, n_features)

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.datasets import zca_whiten
    >>> zca_whiten(np.random.default_rng(0).normal(size=(50, 3))).shape
    (50, 3)
    """
    return ZCAWhitening(retained_variance=retained_variance).fit_transform(X)
