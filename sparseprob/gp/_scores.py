"""Scores of predictions, wherever the arrays live."""

from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score

from .._arrays import to_numpy


class ScoredRegressorMixin(RegressorMixin):
    """A regressor that is scored by the coefficient of determination."""

    def score(self, X, y, sample_weight=None):
        """Return the coefficient of determination of the predicted means.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)
        y : array of shape (n_queries,)
        sample_weight : array of shape (n_queries,), default=None

        Returns
        -------
        r2 : float
        """
        predicted = to_numpy(self.predict(X))
        return float(r2_score(to_numpy(y), predicted, sample_weight=sample_weight))


class ScoredClassifierMixin(ClassifierMixin):
    """A classifier that is scored by the share of right labels."""

    def score(self, X, y, sample_weight=None):
        """Return the share of labels that are predicted.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)
        y : array of shape (n_queries,)
        sample_weight : array of shape (n_queries,), default=None

        Returns
        -------
        accuracy : float
        """
        predicted = to_numpy(self.predict(X))
        return float(accuracy_score(to_numpy(y), predicted, sample_weight=sample_weight))
