"""What passes between a policy and its user: batches to evaluate, the best candidate, warnings."""

from dataclasses import dataclass

import numpy as np


class BanditWarning(UserWarning):
    """A policy runs on, but not as intended; the message says what to change.

    Parameters
    ----------
    message : str
        What happened and what to change.

    Examples
    --------
    >>> import warnings
    >>> from sparseprob.bandits import BanditWarning
    >>> warnings.simplefilter("ignore", BanditWarning)
    """

    def __init__(self, message):
        super().__init__(message)


@dataclass(frozen=True, eq=False)
class Batch:
    """Evaluations asked for: ``tell(batch, y)`` takes their results in this order.

    Selecting rows, ``batch[rows]``, gives the batch of these evaluations alone, for results that
    come in parts or in another order. Iterating gives the points.

    Parameters
    ----------
    ids : int64 array of shape (n,)
        Running numbers of the evaluations.
    indices : int64 array of shape (n,)
        Numbers of the candidates; the same candidate may come several times.
    X : array of shape (n, n_features)
        The points to evaluate.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.bandits import Batch
    >>> batch = Batch(np.array([4, 5]), np.array([17, 3]), np.array([[0.1], [0.7]]))
    >>> len(batch), batch[1:].indices
    (2, array([3]))
    """

    ids: np.ndarray
    indices: np.ndarray
    X: np.ndarray

    def __len__(self):
        return len(self.ids)

    def __iter__(self):
        return iter(self.X)

    def __getitem__(self, rows):
        rows = np.atleast_1d(np.arange(len(self))[rows])
        return Batch(self.ids[rows], self.indices[rows], self.X[rows])


@dataclass(frozen=True, eq=False)
class BestResult:
    """The evaluated candidate of the best posterior mean, in the units of the feedback.

    Parameters
    ----------
    index : int
        Its number.
    x : ndarray of shape (n_features,)
        Its coordinates.
    mean, std : float
        Posterior mean and standard deviation of the function there.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.bandits import BestResult
    >>> BestResult(3, np.array([0.7]), 1.2, 0.1).mean
    1.2
    """

    index: int
    x: np.ndarray
    mean: float
    std: float
