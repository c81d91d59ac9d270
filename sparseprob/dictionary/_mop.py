"""Mixture of Poissons: each row of counts has one cause."""

import numpy as np
from sklearn.utils._param_validation import StrOptions

from .. import mpi
from .._arrays import compute_dtype, compute_namespace, like, to_compute, to_numpy
from .._threads import over_chunks
from ._base import TruncatedSparseCoding
from ._parameters import with_parameters
from ._poisson_model import PoissonMixtureModel, log_factorials, refuse_non_counts


class _OneCause(TruncatedSparseCoding):
    """What truncation must be told where exactly one cause is active."""

    n_candidates = max_active = max_states = 1
    prior_correction, data_cut = "none", 0.0
    preselect, state_search, n_states, states_path = "default", "select", None, None
    missing, reinit_dead = None, False


_FIXED = tuple(name for name in vars(_OneCause) if not name.startswith("_"))


@with_parameters(without=_FIXED, counts="integer", learn=("components", "prior"))
class MixtureOfPoissons(_OneCause):
    r"""Mixture of Poisson distributions: clusters of rows of counts, learned by EM.

    Each row has one cause h, which is an atom of rates,
    :math:`p(h) = \pi_h`, :math:`p(y \mid h) = \prod_d \mathrm{Poisson}(y_d; W_{hd})`. The posterior
    over the causes is exact, and the free energy is the log-likelihood.

    Parameters
    ----------
    n_components : int, default=None
        Number H of components; None means the number of features.
    counts : {"integer", "any"}, default="integer"
        "integer" refuses rows that are no counts; "any" takes non-negative real numbers, as of
        scaled counts, in the same formulas.
    {parameters}
    init : {"mean", "data"}, array of shape (n_components, n_features) or dict, default="mean"
        Initial rates: scattered around the mean, random rows, or given; a dict may hold
        "components", "prior".

    Attributes
    ----------
    components_ : array of shape (n_components, n_features)
        The rates: expected counts of each component, at least 1e-6.
    prior_ : array of shape (n_components,)
        Probability of each component.
    lower_bound_ : float
        Log-likelihood per row at the last E-step, in nats.
    history_ : dict of ndarray
        lower_bound, temperature, n_used, n_effective (exp of the entropy of the prior), seconds of
        each iteration.
    {attributes}

    References
    ----------
    .. [1] A. P. Dempster, N. M. Laird, D. B. Rubin. "Maximum Likelihood from Incomplete Data via
       the EM Algorithm". JRSS-B 39:1-38, 1977.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.dictionary import MixtureOfPoissons
    >>> rates = np.array([[9.0, 1.0, 1.0], [1.0, 9.0, 9.0]])
    >>> X = np.random.default_rng(0).poisson(np.repeat(rates, 100, axis=0))
    >>> model = MixtureOfPoissons(2, random_state=0).fit(X)
    >>> model.transform(X).shape, bool(np.isclose(model.prior_.sum(), 1))
    ((200, 2), True)
    """

    _annealing = {"T": [(0, 4.0), (0.8, 1.0)]}
    _learnable = ("components", "prior")
    _parameter_constraints = TruncatedSparseCoding._parameter_constraints | {
        "counts": [StrOptions({"integer", "any"})]
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags

    def _make_model(self):
        return PoissonMixtureModel(**self._model_options())

    def _engine(self, X):
        """Assemble the engine, refuse what are no counts, and sum log y! once for all."""
        engine = super()._engine(X)
        first = engine.summary.offset

        def take(start, Y, total):
            refuse_non_counts(Y, first + start, self.counts == "integer")
            total += to_numpy(log_factorials(Y.astype(np.float64)).sum())

        with mpi.errors_together():
            parts = over_chunks(
                take, X, engine.options.batch_size, engine.options.dtype, lambda: np.zeros(1)
            )
        self._model.log_factorials = float(mpi.row_sum(np.sum(parts)))
        return engine

    def _over_chunks(self, X, work, batch_size=None):
        def checked(rows, Y):
            refuse_non_counts(Y, rows.start, self.counts == "integer")
            work(rows, Y)

        super()._over_chunks(X, checked, batch_size)

    def _parameter_attributes(self, params):
        return {"components_": params["components"], "prior_": params["prior"]}

    def _parameters(self):
        names = {"components": self.components_, "prior": self.prior_}
        return {name: to_numpy(value).astype(np.float64) for name, value in names.items()}

    def infer(self, X, top_k=10, *, log=False):  # type: ignore[override]  # nothing to widen
        """Most probable components of each row, with their probabilities.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
        top_k : int, default=10
            Components per row; at most all of them.
        log : bool, default=False
            Return log-probabilities.

        Returns
        -------
        result : Bunch
            ``states`` (n, k, n_components), one 1 in each; ``prob`` (n, k), descending;
            ``marginals`` (n, n_components), the probabilities of all components;
            ``abs_marginals``, the same; ``n_candidates`` and ``max_active`` (n,), 1.
        """
        H = self.components_.shape[0] if hasattr(self, "components_") else top_k
        return super().infer(X, min(top_k, H), log=log)

    def inverse_transform(self, X):
        """Map probabilities of the components to expected counts, ``X @ components_``.

        Parameters
        ----------
        X : array of shape (n_samples, n_components)

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
        """
        codes, W = to_compute(X), self._parameters()["components"]
        dtype = compute_dtype(X) if hasattr(X, "dtype") else codes.dtype
        return like(codes.astype(dtype) @ compute_namespace(codes).asarray(W, dtype=dtype), X)
