"""Binary Sparse Coding (M. Henniges, G. Puertas, J. Bornschein, J. Eggert, J. Lücke, 2010)."""

from ._linear_estimator import LinearDiscreteCoding
from ._parameters import with_parameters


@with_parameters(fit_offset=False)
class BinarySparseCoding(LinearDiscreteCoding):
    r"""Linear sparse coding with binary causes, learned by truncated EM.

    Each row is a sum of a few atoms plus noise,
    :math:`p(s_h = 1) = \pi`, :math:`p(y \mid s) = \mathcal N(y; W s + m, \sigma^2 I)`.
    The posterior is computed over a truncated set of states: none, every single cause, and all
    combinations of at most `max_active` causes among `n_candidates` preselected for the row.

    Parameters
    ----------
    {parameters}
    fit_offset : bool, default=False
        Learn an offset m too.

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        The atoms, in the units of X.
    prior_ : float
        Probability that a cause is active.
    noise_scale_ : float
        Standard deviation of the noise, in the units of X.
    offset_ : array of shape (n_features,)
        The offset m; zeros unless `fit_offset`.
    {attributes}

    References
    ----------
    .. [1] M. Henniges, G. Puertas, J. Bornschein, J. Eggert, J. Lücke. "Binary Sparse Coding".
       LVA/ICA, 2010.
    .. [2] J. Lücke, J. Eggert. "Expectation Truncation and the Benefits of Preselection in Training
       Generative Models". JMLR 11:2855-2900, 2010.

    Examples
    --------
    >>> from sparseprob.datasets import make_bars
    >>> from sparseprob.dictionary import BinarySparseCoding
    >>> X = make_bars(1000, random_state=0).data
    >>> model = BinarySparseCoding(10, schedule="anneal", max_iter=60, random_state=0).fit(X)
    >>> model.transform(X).shape
    (1000, 10)
    """

    _annealing = {"T": [(0, 5.0), (0.8, 1.0)]}
    _values = (1.0,)
