"""Other implementations of Gaussian processes, as generators of predictions; for gp.py.

Each takes a task and yields a `Prediction` each time it has seen more of the data: one for exact
and Vecchia methods, several for those that train by stochastic gradients. Seconds are those of the
processor spent in fitting, without the predictions. Schedules of the latter were tuned on the task
with the Matern-3/2 field: natural gradients for the variational distribution of SVGP, larger steps
with a decay for VNNGP.
"""

import importlib.util
import os
import time
from typing import Any, NamedTuple

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads of peers that wait cost no time
ALONE = False


class Prediction(NamedTuple):
    """Means and variances of the field at the test points, and what it took."""

    mean: np.ndarray
    variance: np.ndarray
    noise: float
    seconds: float
    note: str = ""
    log_likelihood: float = np.nan
    parameters: Any = None  # noise, variance and lengthscale
    clock: float = np.nan  # seconds by the clock


def installed(package):
    """Whether a peer can be imported and is wanted."""
    return not ALONE and importlib.util.find_spec(package) is not None


def exact(task):
    """Exact regression of scikit-learn with the true kernel: the best that can be."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    model = GaussianProcessRegressor(task.kernel, alpha=task.noise, optimizer=None)
    began = time.process_time()
    model.fit(task.X, task.y)
    seconds = time.process_time() - began
    mean, std = model.predict(task.X_test, return_std=True)
    yield Prediction(mean, std**2, task.noise, seconds, "true parameters",
                     model.log_marginal_likelihood_value_)  # fmt: skip


def exact_posterior(task):
    """Posterior mean and deviations of the field at the training points, true parameters."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    model = GaussianProcessRegressor(task.kernel, alpha=task.noise, optimizer=None)
    return model.fit(task.X, task.y).predict(task.X, return_std=True)


def gpboost_vecchia(task, n_neighbors, n_threads=1):
    """Vecchia approximation of gpboost, kernel and noise learned."""
    import gpboost

    began, wall = time.process_time(), time.perf_counter()
    model = gpboost.GPModel(
        gp_coords=task.X, cov_function="matern", cov_fct_shape=task.nu, gp_approx="vecchia",
        num_neighbors=n_neighbors, likelihood="gaussian", num_parallel_threads=n_threads, seed=0,
    )  # fmt: skip
    model.fit(y=task.y)
    seconds, wall = time.process_time() - began, time.perf_counter() - wall
    noise, *rest = np.asarray(model.get_cov_pars(format_pandas=False)).ravel()
    model.set_prediction_data(
        num_neighbors_pred=2 * n_neighbors, vecchia_pred_type="order_obs_first_cond_obs_only"
    )
    found = model.predict(gp_coords_pred=task.X_test, predict_var=True, predict_response=False)
    note = "noise {:.3g}, variance {:.3g}, lengthscale {:.3g}".format(noise, *rest)
    yield Prediction(found["mu"], found["var"], noise, seconds, note,
                     -model.get_current_neg_log_likelihood(), (noise, *rest), wall)  # fmt: skip


def _torch_kernel(task):
    """Matern kernel with an output scale, started where ours starts."""
    import gpytorch

    kernel = gpytorch.kernels.ScaleKernel(gpytorch.kernels.MaternKernel(nu=task.nu))
    kernel.base_kernel.lengthscale = 0.25
    kernel.outputscale = float(task.y.var())
    return kernel


def _tensors(task):
    import torch

    torch.manual_seed(0)
    return [torch.as_tensor(A, dtype=torch.float64) for A in (task.X, task.y, task.X_test)]


def _likelihood():
    import gpytorch

    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    likelihood.noise = 0.1
    return likelihood


def gpytorch_exact(task, n_steps=40):
    """Exact regression of gpytorch by Adam, with Cholesky factors throughout."""
    import gpytorch
    import torch

    X, y, X_test = _tensors(task)
    likelihood = _likelihood()

    class Model(gpytorch.models.ExactGP):
        def __init__(self):
            super().__init__(X, y, likelihood)
            self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), _torch_kernel(task)

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(
                self.mean_module(x), self.covar_module(x)
            )

    model = Model().double()
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    with gpytorch.settings.fast_computations(False, False, False):
        began = time.process_time()
        for _ in range(n_steps):
            optimizer.zero_grad()
            loss = -objective(model(X), y)
            loss.backward()
            optimizer.step()
        seconds = time.process_time() - began
        model.eval()
        with torch.no_grad():
            found = model(X_test)
            yield _prediction(found, likelihood, seconds, f"{n_steps} steps", -loss.item() * len(y))


def _prediction(found, likelihood, seconds, note, log_likelihood=np.nan):
    mean, variance = found.mean.numpy(), found.variance.numpy()
    return Prediction(mean, variance, likelihood.noise.item(), seconds, note, log_likelihood)


def svgp(task, n_inducing, n_epochs, batch_size=256, checkpoints=(), rates=(0.1, 0.02)):
    """Inducing points of gpytorch: natural gradients, and Adam for the rest."""
    import gpytorch
    import torch
    from sklearn.cluster import KMeans

    X, y, X_test = _tensors(task)
    began = time.process_time()
    centers = KMeans(n_inducing, n_init=1, random_state=0).fit(task.X).cluster_centers_

    class Model(gpytorch.models.ApproximateGP):
        def __init__(self):
            q = gpytorch.variational.NaturalVariationalDistribution(n_inducing)
            super().__init__(
                gpytorch.variational.VariationalStrategy(self, torch.as_tensor(centers), q)
            )
            self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), _torch_kernel(task)

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(
                self.mean_module(x), self.covar_module(x)
            )

    model, likelihood = Model().double(), _likelihood()
    natural = gpytorch.optim.NGD(model.variational_parameters(), num_data=len(y), lr=rates[0])
    adam = torch.optim.Adam([*model.hyperparameters(), *likelihood.parameters()], lr=rates[1])
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_epochs)
    objective = gpytorch.mlls.VariationalELBO(likelihood, model, num_data=len(y))

    def step(rows):
        natural.zero_grad()
        adam.zero_grad()
        loss = -objective(model(X[rows]), y[rows])
        loss.backward()
        natural.step()
        adam.step()

    def epoch():
        for rows in torch.randperm(len(y)).split(batch_size):
            step(rows)
        decay.step()

    began -= time.process_time()  # what has passed so far counts
    yield from _trained(epoch, model, X_test, likelihood, n_epochs, checkpoints, -began)


def vnngp(task, n_neighbors, n_epochs, *, checkpoints=(), learning_rate=0.05, start=None):
    """Nearest neighbors of gpytorch, all points inducing, mean-field posterior.

    With a `start`, the posterior mean of the field at the training points, it starts there and with
    the true parameters: as good a start as there is.
    """
    import gpytorch
    import torch
    from gpytorch.variational.nearest_neighbor_variational_strategy import NNVariationalStrategy

    X, y, X_test = _tensors(task)

    class Model(gpytorch.models.ApproximateGP):
        def __init__(self):
            q = gpytorch.variational.MeanFieldVariationalDistribution(len(X))
            super().__init__(
                NNVariationalStrategy(self, X, q, k=n_neighbors, training_batch_size=256)
            )
            self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), _torch_kernel(task)

        def forward(self, x):
            return gpytorch.distributions.MultivariateNormal(
                self.mean_module(x), self.covar_module(x)
            )

        def __call__(self, x, prior=False, **kwargs):
            return self.variational_strategy(x=x, prior=False, **kwargs)

    began = time.process_time()
    model, likelihood, batch_size = Model().double(), _likelihood(), 256
    if start is not None:
        _start_at(model, likelihood, task, torch.as_tensor(start))
    adam = torch.optim.Adam([*model.parameters(), *likelihood.parameters()], lr=learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, n_epochs)
    objective = gpytorch.mlls.VariationalELBO(likelihood, model, num_data=len(y))

    def epoch():
        for _ in range(-(-len(y) // batch_size)):
            adam.zero_grad()
            found = model(x=None)
            rows = model.variational_strategy.current_training_indices
            (-objective(found, y[rows])).backward()
            adam.step()
        decay.step()

    spent = time.process_time() - began
    yield from _trained(epoch, model, X_test, likelihood, n_epochs, checkpoints, spent)


def _start_at(model, likelihood, task, mean):
    """Put a model at a posterior mean and the true parameters, deviations half of the noise's."""
    model.variational_strategy.variational_params_initialized.fill_(1)
    q = model.variational_strategy._variational_distribution
    q.variational_mean.data.copy_(mean)
    q._variational_stddev.data.fill_(0.5 * task.noise**0.5)
    model.covar_module.outputscale, likelihood.noise = 1.0, task.noise
    model.covar_module.base_kernel.lengthscale = 0.1


def _trained(epoch, model, X_test, likelihood, n_epochs, checkpoints, seconds):
    """Train, and yield predictions at some epochs and at the end."""
    import torch

    for done in range(1, n_epochs + 1):
        model.train()
        began = time.process_time()
        epoch()
        seconds += time.process_time() - began
        if done in checkpoints or done == n_epochs:
            model.eval()
            with torch.no_grad():
                yield _prediction(model(X_test), likelihood, seconds, f"{done} epochs")
