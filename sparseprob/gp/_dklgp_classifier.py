"""Two classes by double Kullback-Leibler minimization (Cao et al., 2023)."""

from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import StrOptions

from .._arrays import compute_namespace
from ._binary import BinaryClassifierMixin
from ._dklgp import DKLGP
from ._dklgp_docs import described
from ._likelihoods import Bernoulli


@described(gaussian=False)
class DKLGPClassifier(BinaryClassifierMixin, DKLGP):
    r"""Gaussian-process classification for many points, two classes.

    The probability of the second class is :math:`\sigma(f(x))` for a latent function f with a
    Gaussian process as its prior; see `DKLGPRegressor` for its posterior.

    Parameters
    ----------
    {kernel}
    link : {"logit", "probit"}, default="logit"
        The function :math:`\sigma`: logistic, or the normal distribution function.
    {others}
    {last}

    Attributes
    ----------
    {attributes}
    classes_ : array of shape (2,)
        Labels of the two classes.

    See Also
    --------
    sklearn.multiclass.OneVsRestClassifier : Makes it a classifier of more classes.
    sklearn.gaussian_process.GaussianProcessClassifier : The Laplace approximation, for a few
        thousand points.

    References
    ----------
    See [Cao2023]_ and [Zilber2021]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.gp import DKLGPClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((300, 2))
    >>> height = X[:, 1] - np.sin(9 * X[:, 0]) + 0.5 * rng.standard_normal(300)
    >>> labels = np.where(height < 0, "sea", "land")
    >>> model = DKLGPClassifier(n_neighbors=15).fit(X, labels)
    >>> model.predict([[0.2, 0.1], [0.7, 0.9]])
    array(['sea', 'land'], dtype='<U4')
    >>> bool(model.predict_proba([[0.2, 0.1]])[0, 1] > 0.9)
    True
    """

    _parameter_constraints = {
        **DKLGP._parameter_constraints,
        "link": [StrOptions({"logit", "probit"})],
        "solver": [StrOptions({"auto", "lbfgs", "adam"})],
    }

    def __init__(
        self,
        kernel=None,
        *,
        link="logit",
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
        self.link = link
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

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Learn kernel and posterior.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels of two classes.

        Returns
        -------
        self : DKLGPClassifier
            The fitted estimator.
        """
        A, target = self._check_training(X, y)
        return self._train(A, target, X, y, Bernoulli(self.link))

    def latent_mean_and_variance(self, X):
        """Return means and variances of the latent function.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)

        Returns
        -------
        latent_mean : array of shape (n_queries,)
            Positive where the second class is the more probable one.
        latent_var : array of shape (n_queries,)
        """
        queries = self._check_queries(X, "latent_mean_and_variance")
        mean, deviations = self._latent(queries)
        return self._like_given(mean, X), self._like_given(deviations**2, X)

    def predict_proba(self, X, *, plugin=False):
        """Return the probabilities of both classes.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)
        plugin : bool, default=False
            Whether to take the link of the posterior mean; otherwise the mean of the link.

        Returns
        -------
        probabilities : array of shape (n_queries, 2)
        """
        queries = self._check_queries(X, "predict_proba")
        xp = compute_namespace(queries)
        mean, deviation = self._latent(queries, with_deviations=not plugin)
        if plugin:
            p = xp.exp(self._likelihood.log_density(xp.ones_like(mean), mean))
        else:
            p = self._likelihood.predictive(mean, deviation**2)[0]
        return self._like_given(xp.stack((1 - p, p), axis=1), X)

    def predict(self, X):
        """Return the more probable class.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)

        Returns
        -------
        labels : array of shape (n_queries,)
        """
        queries = self._check_queries(X)
        return self._labels(self._latent(queries, with_deviations=False)[0] > 0, X)
