"""Two classes, each point seeing few inducing inputs (Tran, Milios, Michiardi & Filippone)."""

from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import StrOptions

from .._arrays import compute_namespace
from ._binary import BinaryClassifierMixin
from ._likelihoods import Bernoulli
from ._swsgp import SWSGP

_START_VALUE = 1.5  # of the latent function where all labels are of the second class


class SWSGPClassifier(BinaryClassifierMixin, SWSGP):
    r"""Gaussian process classification with inducing inputs, of which a point sees the nearest.

    The probability of the second class is :math:`\sigma(f(x))`, where f has a Gaussian process as
    its prior; see `SWSGPRegressor` for how its posterior is approximated.

    Parameters
    ----------
    kernel : kernel object, default=None
        Kernel of scikit-learn, or of gpytorch; None is a ConstantKernel times a Matern with nu=1.5
        and a length-scale for each feature, started from the ranges of the features.
    link : {"logit", "probit"}, default="logit"
        The function :math:`\sigma`: logistic, or the normal distribution function.
    n_inducing : int, default=1000
        Number M of inducing inputs; no more than rows are used.
    n_neighbors : int, default=20
        Number H of inducing inputs that a point sees.
    covariance : {"diag", "block", "full"}, default="diag"
        Covariance of the posterior of values at inducing inputs, as for the regressor.
    divergence : {"total", "mean"}, default="total"
        How the divergence from the prior is counted, as for the regressor.
    union : bool, default=False
        Whether all points of a batch see the neighbors of all of them.
    train_inducing : bool, default=True
        Whether inducing inputs move.
    inducing_init : {"auto", "kmeans", "random"}, default="auto"
        Where they start.
    batch_size : int, default=256
        Number of rows of a step.
    max_iter : int, default=100
        Largest number of passes over the rows.
    tol : float, default=1e-5
        The fit ends when three passes change the bound by less than this share.
    learning_rate : float, default=0.05
        Of Adam; it falls linearly over the second half of `max_iter`.
    optimize_kernel : bool, default=True
        Whether the parameters of the kernel are learned.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    classes_ : array of shape (2,)
    kernel_ : kernel object
        The kernel with learned parameters.
    inducing_inputs_ : array of shape (n_inducing, n_features)
        In the library of X.
    inducing_mean_ : array of shape (n_inducing,)
        Mean of the latent values at the inducing inputs.
    inducing_scale_ : array of shape (n_inducing,) or (n_inducing, n_inducing)
        Their standard deviations ("diag"), or a lower factor of their covariance.
    elbo_history_ : list of float
        Mean of the estimates of the bound over the batches of each pass.
    n_iter_ : int
        Number of passes.

    See Also
    --------
    SWSGPRegressor : The same for numbers.

    References
    ----------
    See [Tran2021]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.gp import SWSGPClassifier
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((1000, 2))
    >>> y = np.sin(6 * X[:, 0]) > 2 * X[:, 1] - 1
    >>> model = SWSGPClassifier(n_inducing=50, n_neighbors=10, max_iter=20, random_state=0)
    >>> bool(model.fit(X, y).score(X, y) > 0.95)
    True
    """

    _parameter_constraints = SWSGP._parameter_constraints | {
        "link": [StrOptions({"logit", "probit"})]
    }

    def __init__(
        self,
        kernel=None,
        *,
        link="logit",
        n_inducing=1000,
        n_neighbors=20,
        covariance="diag",
        divergence="total",
        union=False,
        train_inducing=True,
        inducing_init="auto",
        batch_size=256,
        max_iter=100,
        tol=1e-5,
        learning_rate=0.05,
        optimize_kernel=True,
        random_state=None,
    ):
        self.kernel = kernel
        self.link = link
        self.n_inducing = n_inducing
        self.n_neighbors = n_neighbors
        self.covariance = covariance
        self.divergence = divergence
        self.union = union
        self.train_inducing = train_inducing
        self.inducing_init = inducing_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.learning_rate = learning_rate
        self.optimize_kernel = optimize_kernel
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Learn q(u), inducing inputs and kernel.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels of two classes.

        Returns
        -------
        self : SWSGPClassifier
            The fitted estimator.
        """
        A, target = self._check_training(X, y)
        return self._train(A, target, X, y, Bernoulli(self.link))

    def predict_proba(self, X):
        """Return the probabilities of both classes.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)

        Returns
        -------
        probabilities : array of shape (n_samples, 2)
            In the library of X.
        """
        A = self._check_queries(X, "predict_proba")
        p = self._probability(A)
        return self._like_given(compute_namespace(A).stack((1 - p, p), axis=1), X)

    def predict(self, X):
        """Return the more probable class of every row.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)

        Returns
        -------
        labels : array of shape (n_samples,)
            NumPy where the classes are not numbers, else in the library of X.
        """
        A = self._check_queries(X)
        second = self._probability(A) > 0.5
        return self._labels(second, X)

    def _probability(self, A):
        return Bernoulli(self.link).predictive(*self._latent_moments(A))[0]

    def _prior_variance(self, target):
        return 1.0

    def _latent(self, target):
        return _START_VALUE * (2 * target - 1)

    def _set_likelihood(self, likelihood):
        """Nothing is learned of the link."""
