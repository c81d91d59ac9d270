"""Callbacks for iterative fits, on scikit-learn's callback protocol (scikit-learn >= 1.9)."""

import time
from pathlib import Path

from sklearn.callback import ProgressBar

from . import _checkpoint

__all__ = ["Checkpoint", "History", "ProgressBar"]


class Checkpoint:
    """Save the state of a fit while it runs, so that it can be resumed.

    The file is written to a temporary name, flushed to disk and renamed: whenever the process dies,
    the last checkpoint is whole. Resume with ``estimator.fit(X, resume_from=path)``; the result has
    the same bits as an uninterrupted run on the same number of ranks and threads.

    Parameters
    ----------
    path : str or Path
        File to write, in NumPy's ``.npz`` format without pickled objects.
    every : int, default=1
        Number of iterations between two checkpoints. The last iteration is always saved.

    Examples
    --------
    >>> from sparseprob.callbacks import Checkpoint
    >>> from sparseprob.dictionary import BinarySparseCoding
    >>> model = BinarySparseCoding(20, random_state=0)
    >>> _ = model.set_callbacks(Checkpoint("model.ckpt.npz", every=5))
    """

    def __init__(self, path, every=1):
        if int(every) < 1:
            raise ValueError(f"every must be at least 1, got {every!r}.")
        self.path, self.every = Path(path), int(every)

    def setup(self, estimator, context):
        """Check before the first iteration that a checkpoint can be written."""
        if not hasattr(estimator, "_checkpoint_state"):
            raise TypeError(
                f"{type(estimator).__name__} has no state to checkpoint; remove Checkpoint."
            )
        if not self.path.absolute().parent.is_dir():
            raise FileNotFoundError(
                f"The folder of the checkpoint {str(self.path)!r} does not exist; create it first."
            )
        self._saved = self._seen = 0

    def on_fit_task_begin(self, estimator, context):
        """Do nothing."""

    def on_fit_task_end(self, estimator, context):
        """Write the file after every `every`-th iteration and at the end of the fit."""
        is_iteration = context.task_name == "iteration"
        self._seen += is_iteration
        due = self._seen % self.every == 0 if is_iteration else context.task_name == "fit"
        if due and self._saved < self._seen:
            self._saved = self._seen
            _checkpoint.save(self.path, estimator._checkpoint_state())

    def teardown(self, estimator, context):
        """Do nothing: the last file written stands."""


class History:
    """Record fitted attributes and times after every iteration, of any iterative estimator.

    Parameters
    ----------
    attributes : tuple of str, optional
        Names of scalar fitted attributes to record; ``lower_bound_`` unless others are given.

    Attributes
    ----------
    records : dict of list
        One list per attribute, and ``"seconds"`` since the start of the fit.

    Examples
    --------
    >>> from sparseprob.callbacks import History
    >>> from sparseprob.datasets import make_bars
    >>> from sparseprob.dictionary import BinarySparseCoding
    >>> history = History(("lower_bound_", "noise_scale_"))
    >>> model = BinarySparseCoding(10, max_iter=3, tol=0, random_state=0).set_callbacks(history)
    >>> _ = model.fit(make_bars(200, random_state=0).data)
    >>> len(history.records["noise_scale_"])
    3
    """

    def __init__(self, attributes=("lower_bound_",)):
        self.attributes = tuple(attributes)
        self.records = {}

    def setup(self, estimator, context):
        """Start a new record."""
        self.records = {name: [] for name in (*self.attributes, "seconds")}
        self._start = time.perf_counter()

    def on_fit_task_begin(self, estimator, context):
        """Do nothing."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        """Record the attributes after each iteration."""
        if context.task_name == "iteration":
            for name in self.attributes:
                self.records[name].append(getattr(fitted_estimator, name))
            self.records["seconds"].append(time.perf_counter() - self._start)

    def teardown(self, estimator, context):
        """Do nothing: the record stays."""
