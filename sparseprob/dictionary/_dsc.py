"""Discrete Sparse Coding (G. Exarchakis, J. Lücke, 2017)."""

import numpy as np

from .._arrays import is_array, to_numpy
from ._linear_estimator import LinearDiscreteCoding
from ._parameters import with_parameters

_ROUNDING = 1e-4  # probabilities given by the user, or kept in single precision, sum to 1 +- this


@with_parameters(values=(0.0, 1.0, 2.0), fit_offset=False)
class DiscreteSparseCoding(LinearDiscreteCoding):
    r"""Linear sparse coding with causes of any finite alphabet, whose probabilities are learned.

    Each row is a sum of a few atoms, each times a value of the alphabet, plus noise,
    :math:`p(s_h = \phi_k) = \pi_k`, :math:`p(y \mid s) = \mathcal N(y; W s + m, \sigma^2 I)`.
    The posterior is computed over a truncated set of states: none, every single cause at every
    value, and all combinations of at most `max_active` causes among `n_candidates` preselected for
    the row.

    Parameters
    ----------
    values : array of shape (K,), default=(0.0, 1.0, 2.0)
        The alphabet: different finite numbers in any order, 0 among them.
    {parameters}
    init : {"mean", "data"}, array of shape (n_components, n_features) or dict, default="mean"
        Initial atoms: the mean plus noise, random rows, or given; a dict may hold "components",
        "prior" (as `prior_`), "noise_scale", "offset".
    fit_offset : bool, default=False
        Learn an offset m too.

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        The atoms, in the units of X.
    prior_ : array of shape (K,)
        Probability of each of the `values`, 0 included.
    noise_scale_ : float
        Standard deviation of the noise, in the units of X.
    offset_ : array of shape (n_features,)
        The offset m; zeros unless `fit_offset`.
    {attributes}

    References
    ----------
    .. [1] G. Exarchakis, J. Lücke. "Discrete Sparse Coding". Neural Computation 29(11):2979-3013,
       2017.
    .. [2] J. Lücke, J. Eggert. "Expectation Truncation and the Benefits of Preselection in Training
       Generative Models". JMLR 11:2855-2900, 2010.

    Examples
    --------
    >>> from sparseprob.datasets import make_bars
    >>> from sparseprob.dictionary import DiscreteSparseCoding
    >>> X = make_bars(1000, values=(1, 2), random_state=0).data
    >>> model = DiscreteSparseCoding(10, schedule="anneal", max_iter=60, tol=0, random_state=0)
    >>> model = model.fit(X)
    >>> model.prior_.shape, model.infer(X).marginals.shape
    ((3,), (1000, 10, 3))
    """

    _annealing = {"T": [(0, 2.0), (0.7, 1.0)]}
    _tied = False
    _parameter_constraints = LinearDiscreteCoding._parameter_constraints | {
        "values": ["array-like"]
    }

    @property
    def _values(self):  # type: ignore[override]  # the others have one alphabet for all instances
        values = self._alphabet()
        return tuple(values[values != 0].tolist())

    def _alphabet(self):
        """Check and return the values, zero included."""
        values = to_numpy(self.values) if is_array(self.values) else np.asarray(self.values)
        numeric = values.dtype.kind in "fiu"
        if not (
            values.ndim == 1 and values.size > 1 and numeric and np.isfinite(values).all()
            and len(np.unique(values)) == values.size and (values == 0).any()
        ):  # fmt: skip
            raise ValueError(
                "values must be at least two different finite numbers with 0 among them, got "
                f"{self.values!r}."
            )
        return values.astype(np.float64)

    def _prior_attribute(self, prior):
        full = np.full(len(prior) + 1, 1 - prior.sum())
        full[self._alphabet() != 0] = prior
        return full

    def _prior_parameter(self):
        return to_numpy(self.prior_).astype(np.float64)[self._alphabet() != 0]

    def _given_init(self):
        """`init` with the probabilities of the non-zero values only."""
        if not (isinstance(self.init, dict) and "prior" in self.init):
            return self.init
        prior, values = self.init["prior"], self._alphabet()
        prior = np.asarray(to_numpy(prior) if is_array(prior) else prior, dtype=np.float64)
        if prior.shape == ():  # the probability of being active, shared out evenly
            return self.init
        if prior.shape != values.shape or not abs(prior.sum() - 1) < _ROUNDING:
            raise ValueError(
                f"init['prior'] must hold one probability for each of the {len(values)} values "
                f"and sum to 1, got {prior.tolist()}."
            )
        return self.init | {"prior": prior[values != 0]}

    def _shown_marginals(self, marginals):
        """Probabilities (n, H, K) of all values, zero included."""
        n, _, H = marginals.shape
        values = self._alphabet()
        full = np.empty((n, H, len(values)))
        full[:, :, values != 0] = np.moveaxis(marginals, 1, 2)
        full[:, :, values == 0] = 1 - full[:, :, values != 0].sum(axis=2, keepdims=True)
        return full
