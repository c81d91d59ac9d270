"""Regression whose points see few inducing inputs (Tran, Milios, Michiardi & Filippone, 2021)."""

from numbers import Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import Interval

from .._arrays import compute_namespace, to_compute
from ._base import center_and_scale
from ._likelihoods import Gaussian
from ._scores import ScoredRegressorMixin
from ._swsgp import SWSGP


class SWSGPRegressor(ScoredRegressorMixin, SWSGP):
    r"""Gaussian process regression with many inducing inputs, of which a point sees the nearest.

    Values u at M inducing inputs have a Gaussian posterior q(u). The value at a point x is
    explained by the H inducing inputs nearest to it alone, so that a step costs :math:`O(H^3)` for
    each point of a batch whatever M is, and M may be 100 000. Maximized is

    .. math:: \sum_i E_{q(f_i)} \log p(y_i \mid f_i)
        - c\, \frac1n \sum_i \mathrm{KL}(q(u_{I(x_i)}) \,\|\, p(u_{I(x_i)}))

    over q, the inducing inputs, the kernel and the noise, by Adam on batches. With H = M it is the
    bound of a variational Gaussian process; otherwise it need not be below the evidence.

    Parameters
    ----------
    kernel : kernel object, default=None
        Kernel of scikit-learn, or of gpytorch; None is a ConstantKernel times a Matern with nu=1.5
        and a length-scale for each feature, started from the ranges of the features.
    n_inducing : int, default=1000
        Number M of inducing inputs; no more than rows are used.
    n_neighbors : int, default=20
        Number H of inducing inputs that a point sees.
    noise_variance : float, default=0.1
        Start value of the variance of the noise; with `normalize_y` as a share of that of y.
    covariance : {"diag", "block", "full"}, default="diag"
        Covariance of q(u): independent values; the blocks of a triangular factor at the neighbors;
        or any. The latter two hold matrices of M x M, and pay where H is near M, or with `union`.
    divergence : {"total", "mean"}, default="total"
        The constant c. "total" takes M / H, so that every inducing value counts once, as in the
        bound of all of them; "mean" takes 1, as the paper does, and fits the noise as M / H grows.
    union : bool, default=False
        Whether all points of a batch see the neighbors of all of them: the bound of a variational
        Gaussian process with these inducing inputs. A step costs :math:`O(B^3 H^3)` at most.
    train_inducing : bool, default=True
        Whether inducing inputs move.
    inducing_init : {"auto", "kmeans", "random"}, default="auto"
        Where they start: centers of k-means, or rows of X. "auto" takes k-means up to 2000.
    batch_size : int, default=256
        Number B of rows of a step.
    max_iter : int, default=100
        Largest number of passes over the rows.
    tol : float, default=1e-5
        The fit ends when three passes change the bound by less than this share.
    learning_rate : float, default=0.05
        Of Adam; it falls linearly over the second half of `max_iter`. Inducing inputs move in units
        of their distances, and parameters of kernel and noise by their logarithms.
    optimize_kernel : bool, default=True
        Whether the parameters of kernel and noise are learned.
    normalize_y : bool, default=True
        Whether y is brought to mean 0 and variance 1 first. Kernel, noise and the values at
        inducing inputs are in these units.
    random_state : int, RandomState instance or None, default=None

    Attributes
    ----------
    kernel_ : kernel object
        The kernel with learned parameters.
    noise_variance_ : float
        Variance of the noise, of the normalized y.
    y_mean_, y_scale_ : float
        What `normalize_y` took off y, and divided it by.
    inducing_inputs_ : array of shape (n_inducing, n_features)
        In the library of X.
    inducing_mean_ : array of shape (n_inducing,)
        Mean of the values at the inducing inputs.
    inducing_scale_ : array of shape (n_inducing,) or (n_inducing, n_inducing)
        Their standard deviations ("diag"), or a lower factor of their covariance.
    elbo_history_ : list of float
        Mean of the estimates of the bound over the batches of each pass.
    n_iter_ : int
        Number of passes.

    See Also
    --------
    SWSGPClassifier : The same for classes.

    Notes
    -----
    A prediction jumps where the set of the nearest inducing inputs changes; the jumps shrink as
    `n_neighbors` grows. Beyond 4096 inducing inputs neighbors are searched, during the fit, among
    2 H candidates found once a pass or every 131 072 rows.

    References
    ----------
    See [Tran2021]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.gp import SWSGPRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((2000, 1))
    >>> y = np.sin(20 * X[:, 0]) + 0.1 * rng.normal(size=2000)
    >>> model = SWSGPRegressor(n_inducing=50, n_neighbors=10, max_iter=30, random_state=0)
    >>> mean, std = model.fit(X, y).predict(X, return_std=True)
    >>> bool(np.sqrt(np.mean((mean - np.sin(20 * X[:, 0])) ** 2)) < 0.04)
    True
    """

    _parameter_constraints = SWSGP._parameter_constraints | {
        "noise_variance": [Interval(Real, 0, None, closed="neither")],
        "normalize_y": ["boolean"],
    }

    def __init__(
        self,
        kernel=None,
        *,
        n_inducing=1000,
        n_neighbors=20,
        noise_variance=0.1,
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
        normalize_y=True,
        random_state=None,
    ):
        self.kernel = kernel
        self.n_inducing = n_inducing
        self.n_neighbors = n_neighbors
        self.noise_variance = noise_variance
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
        self.normalize_y = normalize_y
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Learn q(u), inducing inputs, kernel and noise.

        Parameters
        ----------
        X : array or row source of shape (n_samples, n_features)
        y : array of shape (n_samples,)

        Returns
        -------
        self : SWSGPRegressor
            The fitted estimator.
        """
        A, target = self._check_training(X, y)
        self.y_mean_, self.y_scale_ = center_and_scale(target, self.normalize_y)
        target = (target - self.y_mean_) / self.y_scale_
        return self._train(A, target, X, y, Gaussian(self.noise_variance))

    def predict(self, X, return_std=False, return_cov=False, *, observation=False):
        """Predict values, with deviations or covariances if asked.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        return_std : bool, default=False
            Whether to return standard deviations.
        return_cov : bool, default=False
            Whether to return the joint covariance; only with `union`. Mean and covariance are then
            those given the neighbors of all rows of X together.
        observation : bool, default=False
            Whether deviations and covariances are those of new measurements, noise included.

        Returns
        -------
        mean : array of shape (n_samples,)
            In the library of X.
        std : array of shape (n_samples,)
            Only with `return_std`.
        cov : array of shape (n_samples, n_samples)
            Only with `return_cov`.

        Raises
        ------
        ValueError
            If both are asked for, or `return_cov` without `union`.
        """
        A = self._check_queries(X)
        if return_std and return_cov:
            raise ValueError("At most one of return_std and return_cov can be asked for.")
        if return_cov and not self.union:
            raise ValueError(
                "return_cov=True needs union=True: otherwise every point has a model of its own."
            )
        noise = self.noise_variance_ if observation else 0.0
        xp, size = compute_namespace(A), self.y_scale_
        if return_cov:
            mean, cov = self._joint_moments(A)
            cov = (cov + noise * xp.eye(len(A))) * size**2
            return self._like_given(mean * size + self.y_mean_, X), self._like_given(cov, X)
        mean, variance = self._latent_moments(A)
        mean = self._like_given(mean * size + self.y_mean_, X)
        if not return_std:
            return mean
        return mean, self._like_given(xp.sqrt(variance + noise) * size, X)

    def elbo(self, X, y):
        """Return the bound of given rows, in one batch.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)

        Returns
        -------
        float
            For the normalized y.
        """
        A = self._check_queries(X, "elbo")
        target = compute_namespace(A).asarray(to_compute(self._check_target(y)), dtype=np.float64)
        target = (target - self.y_mean_) / self.y_scale_
        return self._full_bound(A, target, Gaussian(self.noise_variance_))

    def _prior_variance(self, target):
        return float(target.var()) or 1.0

    def _latent(self, target):
        return target

    def _set_likelihood(self, likelihood):
        self.noise_variance_ = float(likelihood.noise_variance)
