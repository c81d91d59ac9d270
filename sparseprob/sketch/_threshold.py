"""Coordinated threshold sampling (M. Daliri, J. Freire, C. Musco, A. Santos, H. Zhang, 2024)."""

from ._rules import ThresholdRule
from ._sampler import SamplingSketcher


class ThresholdSketcher(SamplingSketcher):
    r"""Sketch a matrix by all rows whose hash is at most a multiple of their weight.

    Row i is kept if :math:`h(\mathrm{key}_i) \le c\, w_i`. The multiple is such that `n_samples`
    rows are expected: :math:`\sum_i \min(1, c\, w_i) = n_\mathrm{samples}`. Rows are in or out
    independently of each other, given their weights, and the size of the sketch is random.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows expected. The expected squared error is at most
        :math:`2 \|A\|_F^2 \|B\|_F^2 / n_\mathrm{samples}`.
    adaptive : bool, default=True
        Solve for c. Otherwise it is `n_samples` over the sum of all weights, which is less if some
        rows are in with certainty.
    weighting : {"l2", "l1", "l0", "uniform"}, default="l2"
        Weight of a row: its squared length, its length, or 1 unless it is zero ("l0" and
        "uniform" are one).
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
    PrioritySketcher : Keeps a fixed number of rows.

    References
    ----------
    .. [1] M. Daliri, J. Freire, C. Musco, A. Santos, H. Zhang. "Sampling Methods for Inner Product
       Sketching". PVLDB 17(9):2185-2197, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.sketch import ThresholdSketcher
    >>> x = np.arange(1.0, 1001.0)
    >>> sketch = ThresholdSketcher(300).sketch(x)
    >>> bool(abs(sketch.inner(sketch) / (x @ x) - 1) < 0.2)
    True
    """

    _method = "threshold"
    _parameter_constraints: dict = {
        **SamplingSketcher._parameter_constraints,
        "adaptive": ["boolean"],
    }

    def __init__(
        self,
        n_samples=1000,
        *,
        adaptive=True,
        weighting="l2",
        seed=0,
        duplicates="error",
        store_keys="auto",
    ):
        self.n_samples = n_samples
        self.adaptive = adaptive
        self.weighting = weighting
        self.seed = seed
        self.duplicates = duplicates
        self.store_keys = store_keys

    def _rule(self):
        return ThresholdRule(self.n_samples, self.adaptive)
