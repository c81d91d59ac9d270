"""Kernels of gpytorch: read and written back, or evaluated in torch and learned by autograd."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_gp import (
    inverse_cholesky,
    nearest_pattern,
    normal_log_density,
    random_pattern,
    vecchia_log_likelihood,
)
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ExpSineSquared

from sparseprob._covariance import Covariance
from sparseprob.gp import SWSGPRegressor, VecchiaGPRegressor, sic_factor, vecchia_loglik
from sparseprob.gp._covariance import read_covariance, read_sum

gpytorch = pytest.importorskip("gpytorch")
torch = pytest.importorskip("torch")

from gpytorch import constraints  # noqa: E402
from gpytorch import kernels as gk  # noqa: E402

from sparseprob.gp import _torch_columns as columns  # noqa: E402
from sparseprob.gp._torch_covariance import TorchCovariance  # noqa: E402

NOISE, NUGGET = 0.1, 1e-4


def scaled(base, variance=1.7):
    """The kernel times a variance, in double precision."""
    kernel = gk.ScaleKernel(base).double()
    kernel.outputscale = variance
    return kernel


def matern(nu=1.5, lengthscale=(0.3, 0.4, 0.6), **options):
    """A Matern kernel with one lengthscale, or one for each feature."""
    n = len(lengthscale) if len(lengthscale) > 1 else None
    kernel = gk.MaternKernel(nu, ard_num_dims=n, **options).double()
    kernel.lengthscale = torch.tensor(lengthscale, dtype=torch.float64)
    return kernel


def rational(alpha=0.7, **options):
    """A rational quadratic kernel."""
    kernel = gk.RQKernel(**options).double()
    kernel.alpha = alpha
    return kernel


def deep(n_features=1, seed=0):
    """A small feature map with a kernel behind it."""
    torch.manual_seed(seed)
    layers = torch.nn.Linear(n_features, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)
    return torch.nn.Sequential(*layers, gk.ScaleKernel(gk.MaternKernel(2.5)))


STATIONARY = {
    "scaled Matern with a lengthscale for each feature": scaled(matern()),
    "Matern 1/2": matern(0.5, (0.5,)),
    "a sum": scaled(matern(2.5)) + scaled(gk.RBFKernel(), 0.3) + rational(),
    "a scaled sum of scaled kernels": scaled(scaled(matern(lengthscale=(0.2,))) + rational()),
    "one kernel for each feature": sum(
        (scaled(gk.RBFKernel(active_dims=(k,)), 1.0 + k) for k in (1, 2)),
        start=matern(active_dims=(0, 2), lengthscale=(0.3, 0.8)),
    ),
}
OTHERS = {
    "periodic": lambda: scaled(gk.PeriodicKernel().double()),
    "product": lambda: scaled(gk.RBFKernel() * gk.LinearKernel()).double(),
    "spectral mixture": lambda: gk.SpectralMixtureKernel(num_mixtures=2, ard_num_dims=3).double(),
    "deep": lambda: deep(3).double(),
}


@pytest.fixture
def X():
    return np.random.default_rng(0).random((40, 3))


@pytest.fixture
def y(X):
    return np.random.default_rng(1).standard_normal(len(X))


def dense(kernel, X):
    """What gpytorch itself says."""
    with torch.no_grad():
        return kernel(torch.from_numpy(X)).to_dense().numpy()


# ------------------------------------------------------------ stationary kernels are read
@pytest.mark.parametrize("kernel", STATIONARY.values(), ids=STATIONARY)
def test_sums_of_stationary_kernels_are_read_and_written_back(kernel, X):
    before = {name: p.detach().clone() for name, p in kernel.named_parameters()}
    covariance = read_covariance(kernel, 3)
    assert isinstance(covariance, Covariance)
    assert_allclose(covariance(X), dense(kernel, X), rtol=1e-11)  # distances of gpytorch
    assert len(covariance.names) == len(covariance.theta) == sum(p.numel() for p in before.values())
    step = np.linspace(-0.3, 0.4, len(covariance.theta))
    moved = pickle.loads(pickle.dumps(covariance)).with_theta(covariance.theta + step)
    assert_allclose(moved(X), dense(moved.kernel(), X), rtol=1e-11)
    assert abs(moved(X) - covariance(X)).max() > 0.01
    for name, p in kernel.named_parameters():
        assert torch.equal(p, before[name])


def test_shared_fixed_and_constrained_parameters(X):
    base = matern(lengthscale=(0.3,))
    base.register_constraint("raw_lengthscale", constraints.GreaterThan(0.2))
    interval = constraints.Interval(0.5, 2.0)
    kernel = gk.ScaleKernel(base, outputscale_constraint=interval).double() + gk.ScaleKernel(base)
    kernel.kernels[1].raw_outputscale.requires_grad_(False)
    covariance = read_covariance(kernel.double(), 3)
    assert covariance.names == ["kernels.0.outputscale", "kernels.0.base_kernel.lengthscale"]
    low, high = np.exp(covariance.bounds.T)
    assert_allclose(low, [0.5, 0.2], rtol=1e-5)
    assert_allclose(high[0], 2.0, rtol=1e-5)
    assert (low > [0.5, 0.2]).all()
    assert high[0] < 2.0
    moved = covariance.with_theta(covariance.bounds[:, 0])
    assert_allclose(moved(X), dense(moved.kernel(), X), rtol=1e-9)
    assert moved.kernel().kernels[1].outputscale == kernel.kernels[1].outputscale


def test_written_kernels_keep_the_precision_of_the_given_one(X):
    kernel = gk.ScaleKernel(gk.RBFKernel())
    written = read_sum(kernel, 3).with_theta(np.log([2.0, 0.5])).kernel()
    assert {p.dtype for p in written.parameters()} == {torch.float32}
    assert_allclose([written.outputscale.item(), written.base_kernel.lengthscale.item()], [2, 0.5])


def test_importing_the_family_loads_no_torch():
    code = "import sys, sparseprob.gp; assert not {'torch', 'gpytorch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# ------------------------------------------------------------ columns in torch
def test_gradients_of_columns_are_those_of_finite_differences():
    A = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 5, 7))).requires_grad_()

    def function(A):
        return columns.InverseCholeskyColumn.apply(A @ A.mT, 0.0)[0]

    assert torch.autograd.gradcheck(function, (A,))


def patterns(X):
    """Columns of one size, and of many."""
    return [nearest_pattern(X, 9), random_pattern(len(X), 12, np.random.default_rng(2))]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_columns_in_torch_are_those_of_the_cpu_kernels(which, nu, X, y):
    indptr, indices = patterns(X)[which]
    kernel, n, Q = scaled(matern(nu)), len(X), np.random.default_rng(3).random((7, 3))
    dU = np.random.default_rng(4).standard_normal(len(indices))
    found = []
    for covariance in (read_covariance(kernel, 3), TorchCovariance(kernel, 3)):
        terms = covariance.terms(X)
        factors, responses = terms.kernels("inverse_cholesky"), terms.kernels("response")
        data, partly = np.zeros((2, len(indices)))
        failed = np.zeros((4, n), dtype=np.int8)
        factors.factor_columns(*terms, NUGGET, indptr, indices, 0, n, data, failed[0])
        factors.posterior_columns(
            *terms, NOISE, NUGGET, n // 2, indptr, indices, 5, n - 3, partly, failed[1]
        )
        dtheta = factors.column_gradients(
            *terms, NUGGET, indptr, indices, 3, n, dU, covariance.n_lengthscales
        )
        sums = responses.response_columns(
            *terms, NOISE, indptr, indices, y, 2, n - 1, covariance.n_lengthscales, failed[2]
        )
        bare = responses.response_columns(*terms, NOISE, indptr, indices, y, 2, n - 1, 0, failed[2])
        assert_allclose(bare[:2], sums[:2], rtol=1e-12)
        means, deviations = np.zeros((2, 7))
        near = np.argsort(((Q[:, None] - X) ** 2).sum(-1), axis=1)[:, :6].astype(np.int32)
        responses.predict_columns(
            *terms, NOISE, covariance.terms(Q).scaled, near, y, means, deviations, failed[3, :7]
        )
        assert not failed.any()
        # by raw parameters: softplus has the derivative 1 - exp(-value)
        raw = 1.0
        if isinstance(covariance, Covariance):
            values = np.exp(covariance.theta)
            raw = -np.expm1(-values) / values
        order = [covariance.names.index(name) for name in sorted(covariance.names)]
        by_theta = [covariance.chain(g) * raw for g in (dtheta, sums[2][:-1])]
        found.append([
            data, partly, *(g[order] for g in by_theta), sums[2][-1], *sums[:2], means, deviations,
        ])  # fmt: skip
    for ours, theirs in zip(*found, strict=True):
        assert_allclose(theirs, ours, rtol=1e-9, atol=1e-9 * np.abs(ours).max())


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_other_kernels_have_factors_and_likelihoods(make, X, y):
    kernel = make()
    covariance, K = read_covariance(kernel, 3), None
    assert isinstance(covariance, TorchCovariance)
    K = covariance(X)
    for indptr, indices in patterns(X):
        noisy = K + NOISE * np.eye(len(X))
        U = sic_factor(kernel, X, indptr, indices, NOISE).toarray()
        assert_allclose(U, inverse_cholesky(noisy, indptr, indices), atol=1e-10)
        value = vecchia_loglik(kernel, X, y, indptr, indices, NOISE)
        assert_allclose(value, vecchia_log_likelihood(noisy, y, indptr, indices), rtol=1e-11)


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_gradients_of_other_kernels_are_those_of_finite_differences(make, X, y):
    covariance, (indptr, indices) = read_covariance(make(), 3), patterns(X)[1]
    n, step, rng = len(X), 1e-5, np.random.default_rng(4)
    dU, failed = rng.standard_normal(len(indices)), np.zeros(n, dtype=np.int8)

    def values(theta, log_noise):
        terms, data = covariance.with_theta(theta).terms(X), np.zeros(len(indices))
        columns.factor_columns(*terms, NOISE, indptr, indices, 0, n, data, failed)
        logs, squares, *_ = columns.response_columns(
            *terms, np.exp(log_noise), indptr, indices, y, 0, n, 0, failed
        )
        return np.array([logs - 0.5 * squares, data @ dU])

    terms, point = covariance.terms(X), np.append(covariance.theta, np.log(NOISE))
    of_response = columns.response_columns(*terms, NOISE, indptr, indices, y, 0, n, 1, failed)[2]
    of_factor = columns.column_gradients(*terms, NOISE, indptr, indices, 0, n, dU)
    for h in rng.standard_normal((4, len(point))):
        above, below = (values(p[:-1], p[-1]) for p in (point + step * h, point - step * h))
        slopes = (above - below) / (2 * step)
        assert_allclose([of_response @ h, of_factor @ h[:-1]], slopes, rtol=1e-5)


def test_blocks_may_be_smaller_than_the_pattern(X, y, monkeypatch):
    indptr, indices = patterns(X)[1]
    arguments = TorchCovariance(deep(3), 3), X, NOISE, indptr, indices, y, 0, len(X), 1
    whole = columns.response_columns(*arguments, np.zeros(len(X), dtype=np.int8))
    monkeypatch.setattr(columns, "_BLOCK", 300)
    parts = columns.response_columns(*arguments, np.zeros(len(X), dtype=np.int8))
    for part, expected in zip(parts[:3], whole[:3], strict=True):
        assert_allclose(part, expected, rtol=1e-9, atol=1e-10)


def test_singular_columns_take_the_jitter_of_the_cpu_kernels(X):
    X[7] = X[3]
    indptr, indices = nearest_pattern(X, 9)
    found = []
    for covariance in (read_covariance(scaled(matern()), 3), TorchCovariance(scaled(matern()), 3)):
        data, failed = np.zeros(len(indices)), np.zeros(len(X), dtype=np.int8)
        terms = covariance.terms(X)
        terms.kernels("inverse_cholesky").factor_columns(
            *terms, 0.0, indptr, indices, 0, len(X), data, failed
        )
        found.append((data, failed))
    assert_array_equal(found[0][1], found[1][1])
    assert 0 < (found[0][1] > 0).sum() < len(X)
    assert_allclose(found[0][0], found[1][0], rtol=1e-4, atol=1e-4 * abs(found[0][0]).max())


def test_what_no_jitter_repairs_is_an_error(X):
    indptr, indices = nearest_pattern(X, 9)
    kernel = gk.LinearKernel().double()
    kernel.variance = 1e30
    kernel = kernel + gk.ConstantKernel().double()
    X[5] = 1e200
    with pytest.raises(np.linalg.LinAlgError, match="column"):
        sic_factor(kernel, X, indptr, indices, 0.0)


# ------------------------------------------------------------ learning
def test_a_periodic_kernel_is_the_exact_model_with_all_neighbors():
    rng = np.random.default_rng(0)
    X, Q = rng.uniform(0, 10, (60, 1)), rng.uniform(0, 10, (20, 1))
    y = np.sin(2 * X[:, 0]) + 0.1 * rng.standard_normal(60)
    periodic = gk.PeriodicKernel().double()
    periodic.lengthscale, periodic.period_length = 0.8, 3.0
    model = VecchiaGPRegressor(
        scaled(periodic, 1.0), noise_variance=0.01, n_neighbors=59, optimize_kernel=False
    ).fit(X, y)
    # gpytorch: exp(-2 sin^2(pi r / p) / l); scikit-learn: with l^2
    theirs = ExpSineSquared(length_scale=0.8**0.5, periodicity=3.0)
    exact = GaussianProcessRegressor(theirs, alpha=0.01, optimizer=None).fit(X, y)
    expected = exact.predict(Q, return_std=True)
    assert_allclose(model.predict(Q, return_std=True), expected, atol=1e-8)
    ours, covariance = (m.predict(Q, return_cov=True)[1] for m in (model, exact))
    assert_allclose(ours, covariance, atol=1e-6)
    K = theirs(X) + 0.01 * np.eye(60)
    assert_allclose(model.log_marginal_likelihood_value_, normal_log_density(y, K), rtol=1e-8)


def test_learned_parameters_are_those_of_the_cpu_kernels(X):
    y = np.sin(5 * X[:, 0]) + X[:, 1] + 0.1 * np.random.default_rng(1).standard_normal(len(X))
    kernel = scaled(matern())
    ours = VecchiaGPRegressor(kernel, n_neighbors=10, tol=1e-9, ordering="given").fit(X, y)
    given = torch.nn.Sequential(torch.nn.Identity(), kernel)
    model = clone(VecchiaGPRegressor(given, n_neighbors=10, tol=1e-9, ordering="given")).fit(X, y)
    assert isinstance(model._covariance, TorchCovariance)
    value = ours.log_marginal_likelihood_value_
    assert_allclose(model.log_marginal_likelihood_value_, value, atol=1e-3)


def warped(X):
    """A function whose waves get longer."""
    return np.sin(12 / (X[:, 0] + 0.12))


def test_a_deep_kernel_learns_a_warped_function():
    rng = np.random.default_rng(0)
    X, Q = rng.uniform(0, 1, (150, 1)), rng.uniform(0, 1, (300, 1))
    y, kernel = warped(X) + 0.05 * rng.standard_normal(150), deep()
    before = [p.detach().clone() for p in kernel.parameters()]
    options = {"n_neighbors": 15, "tol": 1e-3}
    start = VecchiaGPRegressor(kernel, optimize_kernel=False, **options).fit(X, y)
    plain = VecchiaGPRegressor(gk.ScaleKernel(gk.MaternKernel(2.5)), n_neighbors=15).fit(X, y)
    model = VecchiaGPRegressor(kernel, **options).fit(X, y)
    value = model.log_marginal_likelihood_value_
    assert value > start.log_marginal_likelihood_value_ + 50
    assert value > plain.log_marginal_likelihood_value_ + 20
    errors = [np.sqrt(np.mean((m.predict(Q) - warped(Q)) ** 2)) for m in (model, plain)]
    assert errors[0] < 0.8 * errors[1]
    assert all(torch.equal(p, q) for p, q in zip(kernel.parameters(), before, strict=True))
    assert isinstance(model.kernel_, torch.nn.Sequential)
    assert {p.dtype for p in model.kernel_.parameters()} == {torch.float32}
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(Q), model.predict(Q))


PROGRAM = """
import sys
import numpy as np
import torch
from gpytorch.kernels import MaternKernel, ScaleKernel
from sparseprob import distributed, mpi, row_slice
from sparseprob.gp import VecchiaGPRegressor

X, y = np.load(sys.argv[1]).values()
with distributed():
    torch.manual_seed(mpi.rank())
    layers = torch.nn.Linear(2, 3), torch.nn.Tanh()
    kernel = torch.nn.Sequential(*layers, ScaleKernel(MaternKernel(2.5)))
    rows = row_slice(len(X))
    model = VecchiaGPRegressor(kernel, n_neighbors=6, tol=1e-2).fit(X[rows], y[rows])
    found = np.array([model.log_marginal_likelihood_value_, *model.predict(X[:5])])
    assert np.array_equal(found, mpi.broadcast(found))
    if mpi.rank() == 0:
        np.save(sys.argv[2], found)
"""


@pytest.mark.mpi
def test_ranks_learn_the_kernel_of_the_first(tmp_path, mpiexec):
    rng = np.random.default_rng(0)
    X, found = rng.random((60, 2)), []
    np.savez(tmp_path / "data.npz", X=X, y=np.sin(5 * X[:, 0]) + 0.1 * rng.standard_normal(60))
    for n_ranks in (1, 3):
        output = tmp_path / f"{n_ranks}.npy"
        mpiexec(n_ranks, PROGRAM, str(tmp_path / "data.npz"), str(output))
        found.append(np.load(output))
    assert_allclose(found[1], found[0], rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_columns_on_the_gpu_are_those_of_the_host(make, X, y):
    import cupy

    covariance, (indptr, indices) = read_covariance(make(), 3), patterns(X)[1]
    found = []
    for asarray in (np.asarray, cupy.asarray):
        arrays = [asarray(a) for a in (indptr, indices, y)]
        failed = asarray(np.zeros(len(X), dtype=np.int8))
        sums = columns.response_columns(
            *covariance.terms(asarray(X)), NOISE, *arrays, 0, len(X), 1, failed
        )
        data = asarray(np.zeros(len(indices)))
        columns.factor_columns(
            *covariance.terms(asarray(X)), NOISE, *arrays[:2], 0, len(X), data, failed
        )
        scale = covariance.scale(asarray(X))
        found.append([*sums[:3], *(cupy.asnumpy(a) for a in (data, scale))])
    for host, device in zip(*found, strict=True):
        assert_allclose(device, host, rtol=1e-8, atol=1e-9 * np.abs(host).max())


# ------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: torch.nn.Linear(3, 1), TypeError, "Linear is not a kernel; supported"),
        (lambda: torch.nn.Sequential(torch.nn.Linear(3, 1)), TypeError, "not a kernel"),
        (lambda: torch.nn.Sequential(), TypeError, "not a kernel"),
        (lambda: gk.RBFKernel(batch_shape=torch.Size([2])), ValueError, "without a batch"),
        (lambda: gk.RBFKernel(ard_num_dims=2), ValueError, "2 length-scales, but X has 3"),
        (lambda: gk.RBFKernel(active_dims=(0, 4)), ValueError, r"active_dims=\[0, 4\]"),
        (lambda: gk.RBFKernelGrad(), ValueError, "one output for each row"),
        (lambda: deep(2), ValueError, "does not take rows of 3 features"),
    ],
)
def test_other_modules_are_refused_in_one_sentence(make, error, match):
    with pytest.raises(error, match=match):
        read_covariance(make(), 3)


def test_estimators_with_loops_of_their_own_take_stationary_kernels_only(X, y):
    message = "PeriodicKernel is not a sum .* use VecchiaGPRegressor"
    with pytest.raises(TypeError, match=message):
        SWSGPRegressor(gk.PeriodicKernel(), n_inducing=20, n_neighbors=5).fit(X, y)
    model = SWSGPRegressor(scaled(matern()), n_inducing=20, n_neighbors=5, max_iter=2, tol=0)
    assert isinstance(model.fit(X, y).kernel_, gk.ScaleKernel)
