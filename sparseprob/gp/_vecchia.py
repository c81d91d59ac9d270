"""Gaussian-process regression by Vecchia's approximation of the likelihood of noisy values."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from .. import mpi
from .._arrays import compute_namespace, like, to_compute
from ._base import SparseGP, center_and_scale, check_gpu_memory
from ._covariance import default_kernel
from ._inverse_cholesky import as_covariance, response_sums
from ._neighbors import nearest_predecessors
from ._response_search import ResponseSearch
from ._scores import ScoredRegressorMixin
from ._vecchia_prediction import JointPosterior, predict_locally


class VecchiaGPRegressor(ScoredRegressorMixin, SparseGP):
    r"""Gaussian-process regression with Gaussian noise for many points.

    The log likelihood of all values is replaced by the sum over j of the log density of value j
    given those of its nearest points before it in a coarse-to-fine order: with n_neighbors = m it
    costs :math:`O(n m^3)`, and with :math:`m \ge n - 1` it is exact. Kernel and noise maximize it;
    predictions condition on the 2m nearest values.

    Parameters
    ----------
    kernel : kernel object, default=None
        Products of ConstantKernel with Matern (nu 0.5, 1.5, 2.5), RBF or RationalQuadratic of
        scikit-learn, and sums of these. Any kernel of gpytorch, or a torch.nn.Sequential of a
        feature map and such a kernel: a deep kernel. None is a constant times a Matern
        with nu=1.5 and one length-scale for each feature, with start values from the data.
    noise_variance : float, default=0.1
        Start value of the variance of the noise, in the units of y squared after
        `normalize_y`; learned unless `optimize_kernel` is False.
    n_neighbors : int, default=30
        How many earlier values each value is conditioned on; a prediction is on twice as many.
    ordering : str, default="maximin"
        "maximin", "maximin-approximate", "random", "coordinate" or "given".
        Order of the points. "given" is that of the rows.
    solver : {"fisher", "lbfgs"}, default="fisher"
        Fisher scoring takes 5 to 15 iterations; L-BFGS more, of the same cost. Kernels that are
        computed in torch take L-BFGS.
    optimize_kernel : bool, default=True
        Whether kernel and noise are learned.
    max_iter : int, default=50
        Largest number of iterations.
    tol : float, default=1e-5
        The fit ends after a step that was expected to raise the log likelihood by less than this
        share of it.
    reorder_tol : float, default=0.2
        Order and neighbors are found anew when the ratio of two length-scales has changed by more
        than this share.
    normalize_y : bool, default=False
        Whether y is centered and scaled to variance 1 for the fit. Otherwise its mean is taken to
        be zero.
    random_state : int, RandomState instance or None, default=None
        For ``ordering="random"`` and ``"maximin-approximate"``.

    Attributes
    ----------
    kernel_ : kernel object
        The kernel with learned hyper-parameters.
    noise_variance_ : float
        Variance of the noise, in the units of y squared after `normalize_y`.
    log_marginal_likelihood_value_ : float
        Vecchia log likelihood at these.
    order_ : array of int of shape (n_samples,)
        Numbers of the rows, coarse to fine.
    lengths_ : array of shape (n_samples,)
        Distance of each point, in that order, to those before it, on inputs over length-scales.
    X_train_ : array of shape (n_samples, n_features)
        In the library of X; all rows of all ranks.
    y_train_ : array of shape (n_samples,)
        Targets, after `normalize_y`.
    n_jitter_ : int
        Columns whose covariance had to be made regular by more than the noise.
    n_iter_ : int
        Number of iterations.
    converged_ : bool
        Whether the last step was as small as `tol` asks.

    See Also
    --------
    sklearn.gaussian_process.GaussianProcessRegressor : The exact model, for a few thousand points.

    Notes
    -----
    A fit begins with the likelihood of the first 5000 points of the order, which are spread over
    all the data; only the last few iterations see all points. Under
    ``with sparseprob.distributed():`` every rank passes its own rows, all ranks come to hold all
    points, and share the columns of the likelihood.

    References
    ----------
    See [Vecchia1988]_, [Guinness2021]_ and [Katzfuss2021]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.gp import VecchiaGPRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((500, 2))
    >>> y = np.sin(6 * X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=500)
    >>> model = VecchiaGPRegressor(n_neighbors=15).fit(X, y)
    >>> bool(abs(model.noise_variance_**0.5 - 0.1) < 0.02)
    True
    >>> mean, std = model.predict([[0.5, 0.5]], return_std=True)
    >>> bool(abs(mean[0] - np.sin(3.0) - 0.5) < 3 * std[0])
    True
    """

    _parameter_constraints = {
        "kernel": "no_validation",
        "noise_variance": [Interval(Real, 0, None, closed="neither")],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "ordering": [
            StrOptions({"maximin", "maximin-approximate", "random", "coordinate", "given"})
        ],
        "solver": [StrOptions({"fisher", "lbfgs"})],
        "optimize_kernel": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "reorder_tol": [Interval(Real, 0, None, closed="left")],
        "normalize_y": ["boolean"],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        kernel=None,
        *,
        noise_variance=0.1,
        n_neighbors=30,
        ordering="maximin",
        solver="fisher",
        optimize_kernel=True,
        max_iter=50,
        tol=1e-5,
        reorder_tol=0.2,
        normalize_y=False,
        random_state=None,
    ):
        self.kernel = kernel
        self.noise_variance = noise_variance
        self.n_neighbors = n_neighbors
        self.ordering = ordering
        self.solver = solver
        self.optimize_kernel = optimize_kernel
        self.max_iter = max_iter
        self.tol = tol
        self.reorder_tol = reorder_tol
        self.normalize_y = normalize_y
        self.random_state = random_state

    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Learn kernel and noise, and keep the data.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
        y : array of shape (n_samples,)

        Returns
        -------
        self : VecchiaGPRegressor
            The fitted estimator.
        """
        A, target = self._check_training(X, y)
        self._y_mean, self._y_scale = center_and_scale(target, self.normalize_y)
        target = (target - self._y_mean) / self._y_scale
        n_entries = len(A) * (min(self.n_neighbors, len(A) - 1) + 1)
        check_gpu_memory(A, 16 * n_entries, f"lower n_neighbors={self.n_neighbors}")
        self._keep_training(A, X)
        self.y_train_ = self._like_given(target, X)
        kernel = default_kernel(A, float(target.var())) if self.kernel is None else self.kernel
        seed = mpi.broadcast(int(check_random_state(self.random_state).randint(2**31 - 1)))
        self._search = ResponseSearch(
            A,
            target,
            as_covariance(kernel, A.shape[1]),
            float(self.noise_variance),
            n_neighbors=self.n_neighbors,
            ordering=self.ordering,
            seed=seed,
        )
        self._given = X
        self.n_iter_: int = 0
        if self.optimize_kernel:
            self._optimize(X, y)
        self._search.finish()
        self._set_fitted()
        at_bounds = self._search.at_bounds() if self.optimize_kernel else []
        del self._search, self._given
        self._warn_of_fit(at_bounds)
        return self

    def _optimize(self, X, y):
        search = self._search
        search.start(self.solver, self.reorder_tol)
        for n_iter in self._iterations(
            X, y, max_iter=self.max_iter, until=lambda: search.converged
        ):
            search.step(self.tol)
            self.n_iter_ = n_iter + 1

    def _fitted_attributes(self):
        self._set_fitted()
        return {name: value for name, value in vars(self).items() if name.endswith("_")}

    def _set_fitted(self):
        """Set all fitted attributes from the state of the search."""
        search = self._search
        self._covariance = search.covariance
        self.kernel_ = search.covariance.kernel()
        self.noise_variance_ = search.noise
        self.log_marginal_likelihood_value_ = search.value
        self.n_jitter_, self.converged_ = search.n_jitter, search.converged
        self.order_ = like(search.order, self._given)
        self.lengths_ = self._like_given(search.lengths, self._given)

    def _warn_of_fit(self, at_bounds):
        if at_bounds:
            warnings.warn(
                f"The parameters {at_bounds} ended at a bound; widen their bounds.",
                UserWarning,
                stacklevel=3,
            )
        if self.optimize_kernel and not self.converged_ and self.tol > 0:
            warnings.warn(
                f"The log likelihood still rose by more than tol={self.tol} of itself after "
                f"max_iter={self.max_iter} iterations; increase max_iter or tol.",
                ConvergenceWarning,
                stacklevel=3,
            )
        if self.n_jitter_:
            warnings.warn(
                f"The covariances of {self.n_jitter_} neighborhoods are singular to rounding and "
                "got a larger diagonal; raise noise_variance, or take a rougher kernel.",
                UserWarning,
                stacklevel=3,
            )

    def predict(self, X, return_std=False, return_cov=False, *, joint=False, observation=False):
        """Predict the function without noise, with standard deviations or covariances if asked.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)
        return_std : bool, default=False
            Whether to return standard deviations.
        return_cov : bool, default=False
            Whether to return the covariance matrix of all queries, which takes a joint prediction.
        joint : bool, default=False
            Whether queries also see queries before them. Then means and deviations belong to one
            Gaussian distribution, at the cost of a search among all points; otherwise every query
            is predicted from its nearest values alone.
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
        noise = self.noise_variance_ if observation else 0.0
        if return_cov or joint:
            posterior = self._posterior(queries)
            mean = posterior.mean()
            if return_cov:
                spread = posterior.covariance() + noise * np.eye(len(mean))
            elif return_std:
                spread = np.sqrt(posterior.deviations() ** 2 + noise)
        else:
            A, target = self._data()
            mean, spread = predict_locally(
                self._covariance, self.noise_variance_, A, target, queries, 2 * self.n_neighbors
            )
            spread = (spread**2 + noise) ** 0.5 if noise else spread
        mean = self._like_given(self._y_mean + self._y_scale * mean, X)
        if not (return_std or return_cov):
            return mean
        return mean, self._like_given(self._y_scale ** (1 + return_cov) * spread, X)

    def sample_y(self, X, n_samples=1, random_state=0):
        """Draw functions without noise from the posterior.

        Parameters
        ----------
        X : array of shape (n_queries, n_features)
        n_samples : int, default=1
        random_state : int, RandomState instance or None, default=0

        Returns
        -------
        samples : array of shape (n_queries, n_samples)
        """
        rng = check_random_state(random_state)
        samples = self._posterior(self._check_queries(X, "sample_y")).samples(n_samples, rng)
        return self._like_given(self._y_mean + self._y_scale * samples, X)

    def log_marginal_likelihood(self, theta=None, *, noise_variance=None):
        """Return the Vecchia log likelihood of the training targets.

        Parameters
        ----------
        theta : array of shape (n_parameters,), default=None
            Logarithms of the kernel's free hyper-parameters, as in ``kernel_.theta``; None are the
            learned ones.
        noise_variance : float, default=None
            None is the learned one.

        Returns
        -------
        log_likelihood : float
        """
        check_is_fitted(self)
        covariance = self._covariance if theta is None else self._covariance.with_theta(theta)
        noise = self.noise_variance_ if noise_variance is None else noise_variance
        A, target = self._data()
        xp = compute_namespace(A)
        order = xp.asarray(to_compute(self.order_))
        A, target = A[order], target[order]
        indptr, indices = nearest_predecessors(
            self._covariance.scale(A), min(self.n_neighbors, len(A) - 1)
        )
        return response_sums(covariance.terms(A), noise, indptr, indices, target, len(A), 0)[0]

    def _data(self):
        """Training points and targets in double precision."""
        A, target = to_compute(self.X_train_), to_compute(self.y_train_)
        xp = compute_namespace(A)
        return (
            xp.ascontiguousarray(A, dtype=np.float64),
            xp.ascontiguousarray(target, dtype=np.float64),
        )

    def _posterior(self, queries):
        A, target = self._data()
        return JointPosterior(
            self._covariance, self.noise_variance_, A, target, queries, 2 * self.n_neighbors
        )
