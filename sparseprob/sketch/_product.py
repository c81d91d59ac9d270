"""The product of two matrices through their sketches, in one call."""

from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions, validate_params

from ._linear import CountSketcher, GaussianSketcher, SignSketcher
from ._priority import PrioritySketcher
from ._threshold import ThresholdSketcher

_SKETCHERS = {
    "priority": PrioritySketcher,
    "threshold": ThresholdSketcher,
    "count": CountSketcher,
    "gaussian": GaussianSketcher,
    "sign": SignSketcher,
}


@validate_params(
    {"method": [StrOptions(set(_SKETCHERS))], "random_state": ["random_state"]},
    prefer_skip_nested_validation=True,
)
def matrix_product(A, B, n_samples=1000, *, method="priority", random_state=None):
    """Estimate the product of a transposed matrix and another one from samples of their rows.

    Parameters
    ----------
    A : {array, sparse matrix} of shape (n_rows, n_features)
    B : {array, sparse matrix} of shape (n_rows, n_targets)
    n_samples : int, default=1000
        Number of rows that stand for all.
    method : {"priority", "threshold", "count", "gaussian", "sign"}, default="priority"
        The sketcher.
    random_state : int, RandomState or None, default=None
        Chooses the hash.

    Returns
    -------
    product : array of shape (n_features, n_targets)
        Estimate of ``A.T @ B``, in the library of A.

    References
    ----------
    .. [1] M. Daliri, J. Freire, D. Li, C. Musco. "Matrix Product Sketching via Coordinated
       Sampling". ICLR, 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.sketch import matrix_product
    >>> A = np.random.default_rng(0).normal(size=(10000, 3))
    >>> gram = matrix_product(A, A, 2000, random_state=0)
    >>> bool(np.linalg.norm(gram - A.T @ A) < 0.05 * np.linalg.norm(A) ** 2)
    True
    """
    if A.shape[0] != B.shape[0]:
        raise ValueError(
            f"Both matrices must have the same rows, got {A.shape[0]} and {B.shape[0]}."
        )
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    sketcher = _SKETCHERS[method](n_samples, seed=seed)
    return sketcher.sketch(A).product(sketcher.sketch(B))
