"""Labels of two classes, for classifiers with one latent function."""

import numpy as np
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from .. import mpi
from .._arrays import compute_namespace, is_array, like, to_compute, to_numpy
from ._scores import ScoredClassifierMixin


class BinaryClassifierMixin(ScoredClassifierMixin):
    """Turns labels into 0 and 1 and back; to be listed before `SparseGP`."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _check_training(self, X, y):
        """Return all rows and labels 0 and 1 of all ranks; sets ``classes_``."""
        if y is None:
            return super()._check_training(X, None)
        with mpi.errors_together():
            labels = self._check_labels(y)
        classes = np.unique(np.concatenate(mpi.all_gather(np.unique(labels))))
        if len(classes) > 2:
            raise ValueError(
                "Only binary classification is supported. The type of the target is multiclass; "
                "wrap the estimator in sklearn.multiclass.OneVsRestClassifier."
            )
        if len(classes) < 2:
            raise ValueError(
                f"{type(self).__name__} needs rows of two classes, got one class only."
            )
        is_own = is_array(y) and not isinstance(y, np.ndarray)
        self.classes_ = like(classes, y) if is_own else classes
        return super()._check_training(X, np.searchsorted(classes, labels).astype(np.float64))

    def _check_labels(self, y):
        labels = column_or_1d(to_numpy(y) if is_array(y) else y, warn=True)
        if labels.dtype.kind == "f":
            assert_all_finite(labels, input_name="y")
        check_classification_targets(labels)
        return labels

    def _labels(self, is_second, X):
        """Return the labels for a Boolean array, as NumPy where the classes are not numbers."""
        classes = to_compute(self.classes_) if is_array(self.classes_) else self.classes_
        if classes.dtype.kind not in "fiub" or not is_array(X):
            return to_numpy(classes)[to_numpy(is_second).astype(np.int64)]
        xp = compute_namespace(is_second)
        return like(xp.asarray(classes)[is_second.astype(np.int64)], X)
