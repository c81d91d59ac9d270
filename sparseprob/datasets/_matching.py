"""Match learned atoms with true ones, by the Hungarian method (H. W. Kuhn, 1955)."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.utils import Bunch

from .._arrays import to_numpy


def match_components(components, true_components, *, signed=False):
    """Assign a learned atom to every true one, with the smallest sum of errors.

    Parameters
    ----------
    components : array of shape (n_components, n_features)
        Learned atoms, at least as many as true ones.
    true_components : array of shape (n_true, n_features)
    signed : bool, default=False
        Allow an atom to be matched with its sign flipped.

    Returns
    -------
    match : Bunch
        ``order`` (n_true,): number of the learned atom of each true one; ``signs`` (n_true,): 1 or
        -1; ``errors`` (n_true,): mean absolute difference over the features.

    Raises
    ------
    ValueError
        If there are fewer learned atoms than true ones, or of another number of features.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.datasets import match_components
    >>> match_components(np.eye(3)[[2, 0, 1]], np.eye(3)).order
    array([1, 2, 0])
    """
    W, truth = (np.asarray(to_numpy(A), dtype=float) for A in (components, true_components))
    if W.shape[1] != truth.shape[1] or len(W) < len(truth):
        raise ValueError(
            f"components must have shape (>= {len(truth)}, {truth.shape[1]}), got {W.shape}."
        )
    costs = np.stack([_errors(truth, W), _errors(truth, -W)][: 2 if signed else 1])
    _, order = linear_sum_assignment(costs.min(axis=0))
    chosen = costs[:, np.arange(len(truth)), order]
    signs = np.where(chosen.argmin(axis=0) == 0, 1, -1)
    return Bunch(order=order, signs=signs, errors=chosen.min(axis=0))


def _errors(truth, W):
    return np.array([np.abs(W - atom).mean(axis=1) for atom in truth])
