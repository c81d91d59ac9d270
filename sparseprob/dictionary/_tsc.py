"""Ternary Sparse Coding (G. Exarchakis, M. Henniges, J. Eggert, J. Lücke, 2012)."""

from ._linear_estimator import LinearDiscreteCoding
from ._parameters import with_parameters


@with_parameters(fit_offset=False)
class TernarySparseCoding(LinearDiscreteCoding):
    r"""Linear sparse coding with causes that are absent, positive or negative.

    Each row is a sum of a few atoms, added or subtracted, plus noise,
    :math:`p(s_h = 1) = p(s_h = -1) = \pi / 2`,
    :math:`p(y \mid s) = \mathcal N(y; W s + m, \sigma^2 I)`. The posterior is computed over a
    truncated set of states: none, every single cause, and all combinations of at most `max_active`
    causes among `n_candidates` preselected for the row.

    Parameters
    ----------
    {parameters}
    fit_offset : bool, default=False
        Learn an offset m too.

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        The atoms, in the units of X; the sign of an atom is arbitrary.
    prior_ : float
        Probability that a cause is active, of either sign.
    noise_scale_ : float
        Standard deviation of the noise, in the units of X.
    offset_ : array of shape (n_features,)
        The offset m; zeros unless `fit_offset`.
    {attributes}

    Notes
    -----
    Causes of both signs make many local optima. Restarts help, and so does noise on the atoms while
    the temperature falls: ``LinearSchedule({"T": [(0, 2.0), (0.7, 1.0)], "components_noise":
    [(0, x), (0.5, x), (0.8, 0.0)]})`` with x a third of the size of an atom's entries.

    References
    ----------
    .. [1] G. Exarchakis, M. Henniges, J. Eggert, J. Lücke. "Ternary Sparse Coding". LVA/ICA, 2012.
    .. [2] J. Lücke, J. Eggert. "Expectation Truncation and the Benefits of Preselection in Training
       Generative Models". JMLR 11:2855-2900, 2010.

    Examples
    --------
    >>> from sparseprob.datasets import make_bars
    >>> from sparseprob.dictionary import TernarySparseCoding
    >>> X = make_bars(1000, values=(-1, 1), random_state=0).data
    >>> model = TernarySparseCoding(10, schedule="anneal", max_iter=60, random_state=0).fit(X)
    >>> sorted(set(model.transform(X, method="map").ravel().tolist()))
    [-1.0, 0.0, 1.0]
    """

    _annealing = {"T": [(0, 2.0), (0.7, 1.0)]}
    _values = (-1.0, 1.0)
