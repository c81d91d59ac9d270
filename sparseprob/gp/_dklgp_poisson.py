"""Counts by double Kullback-Leibler minimization (Cao et al., 2023)."""

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import StrOptions

from .. import mpi
from .._arrays import compute_namespace, is_array, like, to_compute, to_numpy
from ._base import gathered
from ._dklgp import DKLGP
from ._dklgp_docs import described
from ._likelihoods import Poisson
from ._scores import ScoredRegressorMixin


@described(gaussian=False)
class DKLGPPoissonRegressor(ScoredRegressorMixin, DKLGP):
    r"""Gaussian-process regression of counts, for many points.

    Counts are Poisson with mean :math:`e \exp(f(x))` for an exposure e and a latent function f
    whose prior is a Gaussian process around the log of the overall rate; see `DKLGPRegressor` for
    its posterior.

    Parameters
    ----------
    {kernel}
    counts : {"integer", "any"}, default="integer"
        "integer" refuses targets that are no counts; "any" takes non-negative real numbers, as of
        scaled counts, in the same formulas.
    {others}
    {last}

    Attributes
    ----------
    {attributes}
    base_rate_ : float
        Sum of the counts over the sum of the exposures; its log is the prior mean.

    See Also
    --------
    sklearn.linear_model.PoissonRegressor : The log rate linear in the features.

    References
    ----------
    See [Cao2023]_ and [Zilber2021]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.gp import DKLGPPoissonRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((400, 2))
    >>> y = rng.poisson(np.exp(1 + np.sin(6 * X[:, 0])))
    >>> model = DKLGPPoissonRegressor(n_neighbors=15).fit(X, y)
    >>> rate = model.predict([[0.26, 0.5], [0.79, 0.5]])
    >>> bool(abs(np.log(rate[0]) - 2) < 0.3 and abs(np.log(rate[1]) - 0) < 0.5)
    True
    """

    _parameter_constraints = {
        **DKLGP._parameter_constraints,
        "counts": [StrOptions({"integer", "any"})],
        "solver": [StrOptions({"auto", "lbfgs", "adam"})],
    }

    def __init__(
        self,
        kernel=None,
        *,
        counts="integer",
        n_neighbors=30,
        rho=2.0,
        pattern="nearest",
        variant="full",
        ordering="maximin",
        metric="euclidean",
        nugget=1e-6,
        ancestors="auto",
        solver="auto",
        batch_size=128,
        learning_rate=0.01,
        max_iter=60,
        tol=1e-5,
        reorder_tol=0.2,
        optimize_kernel=True,
        random_state=None,
    ):
        self.kernel = kernel
        self.counts = counts
        self.n_neighbors = n_neighbors
        self.rho = rho
        self.pattern = pattern
        self.variant = variant
        self.ordering = ordering
        self.metric = metric
        self.nugget = nugget
        self.ancestors = ancestors
        self.solver = solver
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_iter = max_iter
        self.tol = tol
        self.reorder_tol = reorder_tol
        self.optimize_kernel = optimize_kernel
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, exposure=None):
        """Learn kernel and posterior.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Counts.
        exposure : array of shape (n_samples,), default=None
            What the rate is multiplied by in every row, positive: areas, times, populations. None
            is 1.

        Returns
        -------
        self : DKLGPPoissonRegressor
            The fitted estimator.
        """
        A, target = self._check_training(X, y)
        xp, n_own = compute_namespace(A), len(self._check_target(y))
        with mpi.errors_together():
            exposures = _check_exposure(exposure, n_own)
        exposures = like(gathered(np.broadcast_to(exposures, n_own)), A)
        if not float(target.sum()) > 0:
            raise ValueError("All counts are zero; a rate cannot be learned from them.")
        self.base_rate_ = float(target.sum() / exposures.sum())
        self._y_mean = float(np.log(self.base_rate_))
        likelihood = Poisson(xp.ascontiguousarray(exposures * self.base_rate_))
        return self._train(A, target, X, y, likelihood)

    def _check_target(self, y):
        y = super()._check_target(y)
        if not bool((y >= 0).all()):
            raise ValueError("Counts must be non-negative; y has negative values.")
        if self.counts == "integer" and not bool((y == y.round()).all()):
            raise ValueError(
                "Counts must be whole numbers; y has fractions, which counts='any' would take."
            )
        return y

    def _set_likelihood(self, likelihood):
        super()._set_likelihood(Poisson(self.base_rate_))

    def predict(self, X, exposure=None, return_std=False, *, joint=False, observation=False):
        """Predict expected counts, with standard deviations if asked.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)
        exposure : array of shape (n_queries,), default=None
            None is 1.
        return_std : bool, default=False
            Whether to return standard deviations of the rates.
        joint : bool, default=False
            Whether queries also see queries before them, as for `DKLGPRegressor`.
        observation : bool, default=False
            Whether deviations are those of new counts.

        Returns
        -------
        mean : array of shape (n_queries,)
            Mean of the rate times the exposure.
        std : array of shape (n_queries,)
            Only with `return_std`.
        """
        queries = self._check_queries(X)
        xp, exposures = compute_namespace(queries), _check_exposure(exposure, len(queries))
        likelihood = Poisson(
            like(np.broadcast_to(exposures * self.base_rate_, len(queries)), queries)
        )
        mean, deviation = self._latent(queries, joint=joint)
        mean, variance = likelihood.predictive(mean, deviation**2)
        if not return_std:
            return self._like_given(mean, X)
        spread = xp.sqrt(variance) if observation else mean * xp.sqrt(xp.expm1(deviation**2))
        return self._like_given(mean, X), self._like_given(spread, X)


def _check_exposure(exposure, n):
    """Exposures as NumPy, one number or n."""
    if exposure is None:
        return np.ones(1)
    values = np.asarray(to_numpy(to_compute(exposure) if is_array(exposure) else exposure))
    values = values.astype(np.float64)
    if values.shape != (n,):
        raise ValueError(f"exposure must have shape ({n},) as X has rows, got {values.shape}.")
    if not (np.isfinite(values) & (values > 0)).all():
        raise ValueError("exposure must be positive and finite in every row.")
    return values
