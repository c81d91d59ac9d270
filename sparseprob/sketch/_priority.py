"""Coordinated priority sampling (N. Duffield, C. Lund, M. Thorup, 2007; M. Daliri et al., 2025)."""

from ._rules import PriorityRule
from ._sampler import SamplingSketcher


class PrioritySketcher(SamplingSketcher):
    r"""Sketch a matrix by the rows of smallest hash over weight, a fixed number of them.

    Row i has the rank :math:`h(\mathrm{key}_i) / w_i`, where h is a hash in (0, 1) that all
    sketches share and :math:`w_i` the weight of the row. The `n_samples` rows of smallest rank are
    kept, and the next rank, :math:`\tau`. Two sketches estimate

    .. math::

       A^T B \approx \sum_{i \text{ in both}} a_i b_i^T / p_i, \qquad
       p_i = \min(1, w_i^A \tau_A, w_i^B \tau_B),

    without bias: rows that are large, and rows of the same key, meet.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows kept. The expected squared error is at most
        :math:`2 \|A\|_F^2 \|B\|_F^2 / (n_\mathrm{samples} - 1)`.
    weighting : {"l2", "l1", "l0", "uniform"}, default="l2"
        Weight of a row: its squared length, its length, or 1 unless it is zero ("l0" and
        "uniform" are one). Uniform weights are more accurate when rows are about equally long, and
        fail when they are not.
    seed : int, default=0
        Of the hash. Sketches can be compared if they share it.
    duplicates : {"error", "sum"}, default="error"
        What to do with a key that occurs twice: refuse it, or sum its rows. Sums give the exact
        many-to-many join in products; they are not right for regression.
    store_keys : bool or "auto", default="auto"
        Keep the keys of sampled rows beside their hashes; "auto" keeps integers.

    Attributes
    ----------
    sketch_ : SampledSketch
        What `partial_fit` has seen.

    See Also
    --------
    ThresholdSketcher : Keeps a random number of rows; its error is easier to analyze.
    CountSketcher : Can be updated row by row; blind to which keys match.

    References
    ----------
    .. [1] M. Daliri, J. Freire, D. Li, C. Musco. "Matrix Product Sketching via Coordinated
       Sampling". ICLR, 2025.
    .. [2] M. Daliri, J. Freire, C. Musco, A. Santos, H. Zhang. "Sampling Methods for Inner Product
       Sketching". PVLDB 17(9):2185-2197, 2024.
    .. [3] N. Duffield, C. Lund, M. Thorup. "Priority sampling for estimation of arbitrary subset
       sums". J. ACM 54(6), 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.sketch import PrioritySketcher
    >>> rng = np.random.default_rng(0)
    >>> A, B = rng.normal(size=(5000, 4)), rng.normal(size=(5000, 3))
    >>> B[:, 0] += A[:, 0]
    >>> sketcher = PrioritySketcher(500, seed=7)
    >>> keys = np.arange(5000)
    >>> left, right = sketcher.sketch(A, keys), sketcher.sketch(B[::-1], keys[::-1])
    >>> product, std = left.product(right, return_std=True)
    >>> bool(np.linalg.norm(product - A.T @ B) < 2 * std)
    True
    """

    _method = "priority"

    def __init__(
        self, n_samples=1000, *, weighting="l2", seed=0, duplicates="error", store_keys="auto"
    ):
        self.n_samples = n_samples
        self.weighting = weighting
        self.seed = seed
        self.duplicates = duplicates
        self.store_keys = store_keys

    def _rule(self):
        return PriorityRule(self.n_samples)
