"""Regression by double Kullback-Leibler minimization (Cao et al., 2023)."""

from numbers import Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .._arrays import compute_namespace, like, to_compute
from ._base import center_and_scale
from ._dklgp import DKLGP
from ._dklgp_docs import described
from ._dklgp_prediction import JointLatent
from ._inverse_cholesky import vecchia_loglik
from ._likelihoods import Gaussian, StudentT
from ._neighbors import nearest_predecessors
from ._scores import ScoredRegressorMixin

_START_DF = 5.0


@described(gaussian=True)
class DKLGPRegressor(ScoredRegressorMixin, DKLGP):
    r"""Gaussian-process regression for many points, with Gaussian or heavy-tailed noise.

    The latent values at the training points have a Gaussian prior and a Gaussian posterior whose
    precisions :math:`U U^\top` and :math:`V V^\top` have sparse factors. That of the prior is the
    closest to the kernel's covariance in Kullback-Leibler divergence, in closed form; the
    posterior, kernel and noise maximize the evidence lower bound

    .. math:: \sum_i \mathrm E_q \log p(y_i \mid f_i) - \mathrm{KL}(q \,\|\, p),

    whose terms need the ancestors of one point each: a pass costs :math:`O(n m^3)` for m
    neighbors. For Gaussian noise and :math:`m \ge n - 1` it is exact.

    Parameters
    ----------
    {kernel}
    likelihood : {"gaussian", "student_t"}, default="gaussian"
        Noise. With "student_t" outliers pull little.
    noise_variance : float, default=0.1
        Start value of the variance of the noise, of "student_t" of its squared scale, in the units
        of y squared after `normalize_y`; learned unless `optimize_kernel` is False.
    df : float, default=None
        Degrees of freedom of "student_t", more than 1; None learns them.
    {others}
    normalize_y : bool, default=False
        Whether y is centered and scaled to variance 1 for the fit. Otherwise its mean is taken to
        be zero.
    {last}

    Attributes
    ----------
    {attributes}
    noise_variance_ : float
        Variance of the noise, or squared scale, in the units of y squared after `normalize_y`.
    df_ : float
        Degrees of freedom; infinite for Gaussian noise.
    y_train_ : array of shape (n_samples,)
        Targets, after `normalize_y`.

    See Also
    --------
    VecchiaGPRegressor : For Gaussian noise alone; conditions on noisy values.
    DKLGPClassifier : The same for two classes.
    DKLGPPoissonRegressor : The same for counts.

    Notes
    -----
    [Cao2023]_ moves all parameters by stochastic gradients. The best posterior for a given kernel,
    however, is a fixed point that three or four incomplete Cholesky factors find, and what is left
    is a function of the kernel's few parameters, with a known gradient; that is ``solver="lbfgs"``.

    Under ``with sparseprob.distributed():`` every rank passes its own rows, all ranks come to hold
    all points, and share the columns of factors and bounds.

    References
    ----------
    See [Cao2023]_, [Schafer2021]_ and [Zilber2021]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.gp import DKLGPRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((300, 2))
    >>> y = np.sin(6 * X[:, 0]) + X[:, 1] + 0.1 * rng.standard_t(2, size=300)
    >>> model = DKLGPRegressor(likelihood="student_t", n_neighbors=15).fit(X, y)
    >>> mean, std = model.predict([[0.5, 0.5]], return_std=True)
    >>> bool(abs(mean[0] - np.sin(3.0) - 0.5) < 3 * std[0])
    True
    """

    _parameter_constraints = {
        **DKLGP._parameter_constraints,
        "likelihood": [StrOptions({"gaussian", "student_t"})],
        "noise_variance": [Interval(Real, 0, None, closed="neither")],
        "df": [Interval(Real, 1, None, closed="neither"), None],
        "normalize_y": ["boolean"],
    }

    def __init__(
        self,
        kernel=None,
        *,
        likelihood="gaussian",
        noise_variance=0.1,
        df=None,
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
        normalize_y=False,
        random_state=None,
    ):
        self.kernel = kernel
        self.likelihood = likelihood
        self.noise_variance = noise_variance
        self.df = df
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
        self.normalize_y = normalize_y
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Learn kernel, noise and posterior.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)

        Returns
        -------
        self : DKLGPRegressor
            The fitted estimator.
        """
        A, target = self._check_training(X, y)
        self._y_mean, self._y_scale = center_and_scale(target, self.normalize_y)
        target = (target - self._y_mean) / self._y_scale
        self.y_train_ = self._like_given(target, X)
        return self._train(A, target, X, y, self._noise(), float(target.var()))

    def _noise(self):
        if self.likelihood == "gaussian":
            return Gaussian(float(self.noise_variance))
        scale = float(self.noise_variance) ** 0.5
        if self.df is None:
            return StudentT(_START_DF, scale, free=("scale", "df"))
        return StudentT(float(self.df), scale)

    def _set_likelihood(self, likelihood):
        super()._set_likelihood(likelihood)
        is_gaussian = isinstance(likelihood, Gaussian)
        self.noise_variance_ = (
            likelihood.noise_variance if is_gaussian else float(likelihood.scale**2)
        )
        self.df_ = np.inf if is_gaussian else float(likelihood.df)

    def predict(self, X, return_std=False, return_cov=False, *, joint=False, observation=False):
        """Predict the function without noise, with standard deviations or covariances if asked.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)
        return_std : bool, default=False
            Whether to return standard deviations.
        return_cov : bool, default=False
            Whether to return the covariance matrix of all queries, which takes a joint prediction
            and memory for all points times all queries.
        joint : bool, default=False
            Whether queries also see queries before them. Then means and deviations belong to one
            Gaussian distribution, at the cost of a search among all points; otherwise every query
            is predicted from its nearest training points alone.
        observation : bool, default=False
            Whether deviations and covariances are those of new noisy values.

        Returns
        -------
        mean : array of shape (n_queries,)
        std : array of shape (n_queries,)
            Only with `return_std`.
        cov : array of shape (n_queries, n_queries)
            Only with `return_cov`.
        """
        if return_std and return_cov:
            raise ValueError("At most one of return_std and return_cov can be True.")
        queries = self._check_queries(X)
        noise = self._likelihood.predictive(0.0, 0.0)[1] if observation else 0.0
        if return_cov:
            posterior = JointLatent(self._trained(queries), queries)
            mean = posterior.mean()
            spread = posterior.covariance() + noise * np.eye(len(mean))
        else:
            mean, spread = self._latent(queries, with_deviations=return_std, joint=joint)
            spread = (spread**2 + noise) ** 0.5
        mean = self._like_given(self._y_mean + self._y_scale * mean, X)
        if not (return_std or return_cov):
            return mean
        return mean, self._like_given(self._y_scale ** (1 + return_cov) * spread, X)

    def log_marginal_likelihood(self):
        """Return the Vecchia log likelihood of the training targets, for Gaussian noise.

        Returns
        -------
        log_likelihood : float
            That of noisy values given noisy neighbors, n_neighbors of them, in the order `order_`.
        """
        check_is_fitted(self)
        if not isinstance(self._likelihood, Gaussian):
            raise ValueError(
                "The log marginal likelihood is known for Gaussian noise only; use elbo()."
            )
        A = to_compute(self.X_train_)
        xp = compute_namespace(A)
        order = xp.asarray(to_compute(self.order_))
        points = xp.ascontiguousarray(A[order], dtype=np.float64)
        target = like(to_compute(self.y_train_), A)[order].astype(np.float64)
        indptr, indices = nearest_predecessors(self._covariance.scale(points), self.n_neighbors)
        return vecchia_loglik(
            self._covariance, points, target, indptr, indices, self.noise_variance_
        )
