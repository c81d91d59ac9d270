"""Sparse-within-sparse Gaussian processes: bounds, gradients, neighbors, estimators."""

import importlib
import sys

import numpy as np
import pytest
import reference_gp_swsgp as reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    Matern,
    RationalQuadratic,
    WhiteKernel,
)

from sparseprob._arrays import to_numpy
from sparseprob._covariance import Covariance
from sparseprob._kernels import _local_bound_numba as compiled
from sparseprob.gp import SWSGPClassifier, SWSGPRegressor, _inducing, _swsgp_bound, _swsgp_union
from sparseprob.gp._likelihoods import Gaussian
from sparseprob.gp._swsgp_bound import JITTER, Batch, Spread, local_bound
from sparseprob.gp._swsgp_union import union_bound

KERNELS = [
    1.3 * Matern([0.3, 0.5, 0.4], nu=1.5),
    Matern(0.4, nu=0.5),
    2 * Matern(0.4, nu=2.5) + RBF([0.3, 0.5, 0.4]),
    1.5 * RationalQuadratic(0.5, alpha=0.7),
]
COVARIANCES = ["diag", "block", "full"]
NOISE = 0.3


class Problem:
    """Rows, inducing inputs and a q(u), drawn at random."""

    def __init__(self, covariance, kernel=KERNELS[0], n=30, n_inducing=12, n_neighbors=5):
        rng = np.random.default_rng(0)
        self.X, self.y = rng.random((n, 3)), rng.standard_normal(n)
        self.kernel, self.spread = Covariance.from_kernel(kernel, 3), Spread(covariance)
        factor = np.tril(0.1 * rng.standard_normal((n_inducing,) * 2), -1)
        scale = np.diag(rng.uniform(0.2, 0.6, n_inducing)) + factor
        scale = np.diag(scale)[:, None] if covariance == "diag" else scale
        inputs = rng.random((n_inducing, 3))
        self.neighbors = reference.nearest(self.X, inputs, n_neighbors)
        self.arrays = {
            "mean": rng.standard_normal(n_inducing),
            "spread": self.spread.stored(scale),
            "inputs": inputs,
            "theta": self.kernel.theta,
            "noise": np.log([NOISE]),
        }

    def bound(self, how, arrays=None):
        arrays = self.arrays if arrays is None else arrays
        batch = Batch(self.X, self.y, self.neighbors, 2 * len(self.X), len(self.X))
        kernel = self.kernel.with_theta(arrays["theta"])
        return how(kernel, Gaussian(float(np.exp(arrays["noise"][0]))), batch, arrays, self.spread)

    def covariance(self, rows):
        scale = self.spread.scale(self.arrays["spread"])
        if self.spread.mode == compiled.DIAGONAL:
            return np.diag(scale[rows, 0] ** 2)
        if self.spread.mode == compiled.BLOCK:
            return scale[np.ix_(rows, rows)] @ scale[np.ix_(rows, rows)].T
        return (scale @ scale.T)[np.ix_(rows, rows)]


def changed(arrays, name, index, step):
    moved = arrays[name].copy()
    moved[index] += step
    return arrays | {name: moved}


# ---------------------------------------------------------------- bounds and gradients
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_local_bound_is_the_formula(covariance, kernel):
    problem = Problem(covariance, kernel)
    expected = reference.gaussian_bound(
        problem.kernel, problem.X, problem.y, problem.arrays["inputs"], problem.neighbors,
        problem.arrays["mean"], problem.covariance, NOISE, JITTER, n_represented=60,
    )  # fmt: skip
    assert_allclose(problem.bound(local_bound).value, expected, rtol=1e-9)


@pytest.mark.parametrize("how", [local_bound, union_bound])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_gradients_are_central_differences(covariance, kernel, how):
    problem, step = Problem(covariance, kernel), 1e-5
    gradients = problem.bound(how).gradients
    for name, gradient in gradients.items():
        found = np.zeros_like(gradient)
        for index in np.ndindex(found.shape):
            ends = (
                problem.bound(how, changed(problem.arrays, name, index, sign * step)).value
                for sign in (1, -1)
            )
            found[index] = np.subtract(*ends) / (2 * step)
        assert_allclose(gradient, found, atol=1e-6 * abs(found).max(), err_msg=name)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_with_all_neighbors_it_is_the_variational_bound(covariance):
    problem = Problem(covariance, n_neighbors=12)
    S = problem.covariance(np.arange(12))
    expected = reference.svgp_bound(
        problem.kernel, problem.X, problem.y, problem.arrays["inputs"], problem.arrays["mean"], S,
        NOISE, JITTER, n_represented=60,
    )  # fmt: skip
    local, union = problem.bound(local_bound), problem.bound(union_bound)
    assert_allclose(local.value, expected, rtol=1e-8)
    assert_allclose(union.value, expected, rtol=1e-8)
    for name, gradient in local.gradients.items():
        assert_allclose(gradient, union.gradients[name], atol=1e-7 * abs(gradient).max())


def test_the_best_q_on_all_rows_reaches_the_log_marginal_likelihood(monkeypatch):
    for module in (_swsgp_bound, _swsgp_union):
        monkeypatch.setattr(module, "JITTER", 1e-10)
    rng = np.random.default_rng(0)
    X, kernel = rng.random((25, 3)), ConstantKernel(1.3) * Matern([0.3, 0.5, 0.4], nu=0.5)
    y = rng.standard_normal(25)
    exact = GaussianProcessRegressor(kernel, alpha=NOISE, optimizer=None).fit(X, y)
    model = hand_made(X, y, kernel, *reference.best_gaussian(kernel, X, y, X, NOISE, 1e-10))
    for union in (False, True):
        bound = model.set_params(union=union).elbo(X, y)
        assert_allclose(bound, exact.log_marginal_likelihood_value_, rtol=1e-7)
    queries = rng.random((9, 3))
    mean, cov = exact.predict(queries, return_cov=True)
    assert_allclose(model.predict(queries), mean, rtol=1e-6)
    assert_allclose(model.predict(queries, return_std=True)[1] ** 2, np.diag(cov), rtol=1e-6)
    found, joint = model.predict(queries, return_cov=True)
    assert_allclose(found, mean, rtol=1e-6)
    assert_allclose(joint, cov, atol=1e-7)


def hand_made(Z, y, kernel, mean, S):
    """A regressor whose q(u) is given, all inducing inputs neighbors of all points."""
    options = {"n_inducing": len(Z), "n_neighbors": len(Z), "covariance": "full"}
    model = SWSGPRegressor(kernel, **options, max_iter=1, normalize_y=False).fit(Z, y)
    model.kernel_, model.noise_variance_, model.inducing_inputs_ = kernel, NOISE, Z
    model.inducing_mean_, model.inducing_scale_ = mean, np.linalg.cholesky(S)
    return model


def test_the_bound_of_gpytorch_with_the_same_parameters():
    torch, gpytorch = pytest.importorskip("torch"), pytest.importorskip("gpytorch")
    problem = Problem("full", n_neighbors=12)
    S = torch.as_tensor(problem.covariance(np.arange(12)))
    tensors = [torch.as_tensor(a) for a in (problem.X, problem.y, problem.arrays["inputs"])]
    base = gpytorch.kernels.MaternKernel(nu=1.5, ard_num_dims=3).double()
    base.lengthscale = torch.as_tensor(problem.kernel.lengthscales[0])
    kernel = gpytorch.kernels.ScaleKernel(base).double()
    kernel.outputscale = 1.3
    distribution = gpytorch.variational.CholeskyVariationalDistribution(12)

    class Model(gpytorch.models.ApproximateGP):
        def __init__(self):
            strategy = gpytorch.variational.UnwhitenedVariationalStrategy(
                self, tensors[2], distribution, learn_inducing_locations=False, jitter_val=1.3e-6
            )
            super().__init__(strategy)

        def forward(self, x):
            zero = torch.zeros(x.shape[0], dtype=x.dtype)
            return gpytorch.distributions.MultivariateNormal(zero, kernel(x))

    model = Model().double()
    model.variational_strategy.variational_params_initialized.fill_(1)
    distribution.variational_mean.data = torch.as_tensor(problem.arrays["mean"])
    distribution.chol_variational_covar.data = torch.linalg.cholesky(S)
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    likelihood.noise = NOISE
    elbo = gpytorch.mlls.VariationalELBO(likelihood, model, num_data=60)
    theirs = elbo(model(tensors[0]), tensors[1]).item() * 60
    assert_allclose(problem.bound(local_bound).value, theirs, rtol=1e-5)


def test_threads_change_nothing():
    import numba

    problem, bounds = Problem("diag", n=200), []
    before = numba.get_num_threads()
    for n_threads in (1, before):
        numba.set_num_threads(n_threads)
        bounds.append(problem.bound(local_bound))
    assert bounds[0].value == bounds[1].value
    for name, gradient in bounds[0].gradients.items():
        assert_array_equal(gradient, bounds[1].gradients[name])


@pytest.fixture
def twin(monkeypatch):
    """The kernels of the GPU, which are whole-array formulas, on NumPy."""
    name = "sparseprob._kernels._local_bound_cupy"
    monkeypatch.setitem(sys.modules, "cupy", np)
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("sparseprob._kernels._local_bound_cupy", None, raising=False)
    module = importlib.import_module(name)
    yield module
    del sys.modules[name]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_formulas_of_the_gpu_are_those_of_the_loops(twin, monkeypatch, covariance, kernel):
    problem = Problem(covariance, kernel)
    expected = problem.bound(local_bound)
    monkeypatch.setattr(_swsgp_bound, "kernels", lambda topic, A: twin)
    found = problem.bound(local_bound)
    assert_allclose(found.value, expected.value, rtol=1e-10)
    for name, gradient in expected.gradients.items():
        atol = 1e-10 * abs(gradient).max()
        assert_allclose(found.gradients[name], gradient, atol=atol, err_msg=name)
    candidates = reference.nearest(problem.X, problem.arrays["inputs"], 8)
    for given in (candidates, candidates[:, :0]):
        rows = np.empty_like(problem.neighbors)
        twin.nearest(problem.X, problem.arrays["inputs"], given, rows)
        assert_array_equal(rows, problem.neighbors)


# ---------------------------------------------------------------- inducing inputs and neighbors
@pytest.mark.parametrize("how", ["lattice", "random"])
@pytest.mark.parametrize("n_scanned", [4096, 5])
def test_neighbors_are_the_nearest_inducing_inputs(monkeypatch, how, n_scanned):
    """On a lattice there are ties, which go to the smaller number."""
    monkeypatch.setattr(_inducing, "_SCANNED", n_scanned)
    rng = np.random.default_rng(0)
    X, Z = rng.random((70, 2)), rng.random((30, 2))
    if how == "lattice":
        Z = np.stack(np.meshgrid(range(6), range(5)), axis=2).reshape(30, 2).astype(float)
        X = Z[rng.integers(30, size=70)]
    expected = reference.nearest(X, Z, 4)
    if n_scanned > 30:
        assert_array_equal(_inducing.exact_nearest(X, Z, 4), expected)
    search = _inducing.NeighborSearch(4)
    search.refresh(X, Z)
    found = search.nearest(X[10:50], Z, slice(10, 50))
    distances = [np.sort(((X[10:50, None] - Z[rows[10:50]]) ** 2).sum(2)) for rows in (expected,)]
    assert_allclose(np.sort(((X[10:50, None] - Z[found]) ** 2).sum(2)), distances[0])
    assert (np.diff(found) > 0).all()


def test_start_inducing_inputs():
    rng = np.random.RandomState(0)
    A = rng.rand(100, 2)
    assert_array_equal(_inducing.initial_inputs(A, 100, "auto", rng), A)
    chosen = _inducing.initial_inputs(A, 10, "random", rng)
    assert all((A == row).all(axis=1).any() for row in chosen)
    centers = _inducing.initial_inputs(A, 10, "kmeans", rng)
    distances = [((A[:, None] - Z) ** 2).sum(2).min(1).mean() for Z in (chosen, centers)]
    assert distances[1] < distances[0]
    assert len(_inducing.initial_inputs(np.repeat(A[:3], 20, axis=0), 10, "kmeans", rng)) == 10
    assert_allclose(_inducing.spacing(np.array([[0.0], [1.0], [3.0]])), 4 / 3)
    assert_allclose(_inducing.local_means(A, A[:, 0], A[:3], 1), A[:3, 0])


# ---------------------------------------------------------------- estimators
def waves(n=500, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.random((n, 2))
    f = 5 + 3 * np.sin(8 * X[:, 0]) * np.cos(5 * X[:, 1])
    return X, f + 0.3 * rng.standard_normal(n), f


def small(**options):
    return SWSGPRegressor(**({"n_inducing": 60, "n_neighbors": 8, "random_state": 0} | options))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"covariance": "block"},
        {"covariance": "full", "union": True, "max_iter": 20},
        {"inducing_init": "random", "train_inducing": False, "n_inducing": 200},
        {"kernel": 4 * RBF(0.3), "normalize_y": False, "noise_variance": 0.2},
        {"kernel": RBF(0.3) + Matern(0.3, nu=2.5)},
        {"divergence": "mean", "max_iter": 20},
    ],
    ids=str,
)
def test_regression_finds_function_and_noise(options):
    X, y, _ = waves(700)
    model = small(**({"max_iter": 60} | options)).fit(X, y)
    queries, measured, f = waves(500, seed=1)
    mean, std = model.predict(queries, return_std=True, observation=True)
    assert np.sqrt(np.mean((mean - f) ** 2)) < 0.2  # of the noise 0.3
    scores = (measured - mean) / std
    assert 0.8 < np.sqrt(np.mean(scores**2)) < 1.2  # 4 standard errors are 0.13
    assert_allclose(model.noise_variance_ * model.y_scale_**2, 0.09, rtol=0.3)
    assert model.elbo_history_[-1] > model.elbo_history_[0]
    assert model.score(queries, f) > 0.99


def test_deviations_of_measurements_and_covariances():
    X, y, _ = waves(200)
    model = small(union=True, max_iter=3).fit(X, y)
    _, std = model.predict(X[:9], return_std=True)
    _, wider = model.predict(X[:9], return_std=True, observation=True)
    noise = model.noise_variance_ * model.y_scale_**2
    assert_allclose(wider**2 - std**2, noise, rtol=1e-9)
    _, cov = model.predict(X[:9], return_cov=True)
    _, measured = model.predict(X[:9], return_cov=True, observation=True)
    assert_allclose(measured - cov, noise * np.eye(9), atol=1e-12)
    assert np.linalg.eigvalsh(cov).min() > 0


def test_queries_are_predicted_one_by_one():
    X, y, _ = waves()
    model = small(max_iter=2).fit(X, y)
    order = np.random.default_rng(0).permutation(200)
    assert_allclose(model.predict(X[:200])[order], model.predict(X[order]), rtol=1e-13)
    assert_allclose(model.predict(X[:1]), model.predict(X[:200])[:1], rtol=1e-13)


def test_candidates_found_once_a_block_lead_to_the_same_fit(monkeypatch):
    """Inducing inputs stay, so candidates hold the neighbors; blocks are of one batch."""
    X, y, _ = waves()
    options = {"max_iter": 3, "train_inducing": False, "optimize_kernel": False}
    expected = small(**options).fit(X, y)
    monkeypatch.setattr(_inducing, "_SCANNED", 10)
    monkeypatch.setattr("sparseprob.gp._swsgp._BLOCK", 200)
    found = small(**options).fit(X, y)
    assert_allclose(found.inducing_mean_, expected.inducing_mean_, rtol=1e-12)
    assert_allclose(found.predict(X), expected.predict(X), rtol=1e-12)
    moving = small(max_iter=20).fit(X, y)
    assert moving.score(X, y) > 0.95


def test_what_is_not_learned_stays():
    X, y, _ = waves(200)
    kernel = ConstantKernel(1.0, "fixed") * Matern([0.3, 0.4], nu=1.5)
    model = small(kernel=kernel, optimize_kernel=False, train_inducing=False, max_iter=2)
    model.set_params(inducing_init="random").fit(X, y)
    assert model.kernel_ == kernel
    assert_allclose(model.noise_variance_, 0.1, rtol=1e-12)
    assert all(np.isclose(X, Z, rtol=1e-12).all(axis=1).any() for Z in model.inducing_inputs_)
    learned = small(kernel=kernel, max_iter=2).fit(X, y)
    assert learned.kernel_.k1 == kernel.k1
    assert learned.kernel_ != kernel


def test_a_tolerance_ends_the_fit():
    X, y, _ = waves(200)
    assert small(tol=0.5, max_iter=50).fit(X, y).n_iter_ < 50


def test_every_library_gives_the_same_model(xp):
    X, y, _ = waves(200)
    expected = small(max_iter=3).fit(X, y)
    model = small(max_iter=3).fit(xp.asarray(X), xp.asarray(y))
    assert type(model.inducing_inputs_) is type(xp.asarray(X))
    mean, std = model.predict(xp.asarray(X), return_std=True)
    assert type(mean) is type(std) is type(xp.asarray(X))
    assert_allclose(to_numpy(mean), expected.predict(X), rtol=1e-6)
    assert_allclose(to_numpy(std), expected.predict(X, return_std=True)[1], rtol=1e-5)


def test_classification_agrees_with_laplace():
    rng = np.random.default_rng(0)
    X = rng.random((200, 2))
    y = np.where(rng.random(200) < 1 / (1 + np.exp(-8 * np.sin(7 * X[:, 0]))), "yes", "no")
    kernel = ConstantKernel(9.0) * Matern(0.3, nu=2.5)
    exact = GaussianProcessClassifier(kernel, optimizer=None).fit(X, y)
    options = {"n_inducing": 40, "optimize_kernel": False, "random_state": 0}
    queries = rng.random((200, 2))
    for covariance, n_neighbors in (("full", 40), ("diag", 20)):
        model = SWSGPClassifier(
            kernel, n_neighbors=n_neighbors, covariance=covariance, **options
        ).fit(X, y)
        gap = model.predict_proba(queries) - exact.predict_proba(queries)
        assert np.sqrt(np.mean(gap**2)) < 0.05
        assert_array_equal(model.classes_, ["no", "yes"])
        assert model.score(queries, exact.predict(queries)) > 0.93
    probit = SWSGPClassifier(link="probit", n_inducing=50, n_neighbors=10, random_state=0)
    assert probit.fit(X, y).score(X, y) > 0.85


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({"n_neighbors": 70}, {}, "n_neighbors=70 must not exceed n_inducing=60"),
        ({"n_neighbors": 0}, {}, "n_neighbors"),
        ({"noise_variance": 0.0}, {}, "noise_variance"),
        ({"covariance": "low"}, {}, "covariance"),
        ({}, {"X": np.full((20, 2), np.nan)}, "NaN"),
        ({}, {"y": np.full(20, np.inf)}, "infinity"),
        ({}, {"y": np.zeros(19)}, "20 rows but y has 19"),
        ({}, {"X": np.zeros(20)}, "2D array"),
        ({}, {"X": np.zeros((1, 2)), "y": np.zeros(1)}, "minimum of 2"),
        ({"kernel": RBF([1.0, 2.0, 3.0])}, {}, "3 length-scales, but X has 2"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(options, data, message):
    X, y, _ = waves(20)
    data = {"X": X, "y": y} | data
    with pytest.raises(ValueError, match=message):
        small(**options).fit(**data)


def test_more_bad_input():
    X, y, _ = waves(20)
    with pytest.raises(TypeError, match="noise_variance"):
        small(kernel=RBF() + WhiteKernel()).fit(X, y)
    with pytest.raises(ValueError, match="Only binary classification"):
        SWSGPClassifier().fit(X, np.arange(20) % 3)
    with pytest.raises(ValueError, match="one class only"):
        SWSGPClassifier().fit(X, np.ones(20, dtype=int))
    model = small(max_iter=1).fit(X, y)
    with pytest.raises(ValueError, match="union=True"):
        model.predict(X, return_cov=True)
    with pytest.raises(ValueError, match="At most one"):
        model.predict(X, return_cov=True, return_std=True)
    with pytest.raises(ValueError, match="expecting 2 features"):
        model.predict(X[:, :1])
    with pytest.raises(FloatingPointError, match="learning_rate"):
        small(learning_rate=1e6, max_iter=5).fit(X, y)
    narrow = Matern([0.3, 0.3], length_scale_bounds=(0.3, 0.301))
    with pytest.warns(UserWarning, match="ended at a bound"):
        small(kernel=narrow, max_iter=5).fit(X, y)


PROGRAM = """
import sys
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.gp import SWSGPRegressor

data = np.load(sys.argv[1])
with distributed() as comm:
    rows = row_slice(len(data["X"]))
    model = SWSGPRegressor(n_inducing=40, n_neighbors=8, max_iter=3, random_state=0)
    model.fit(data["X"][rows], data["y"][rows])
    if comm.rank == comm.size - 1:
        np.save(sys.argv[2], model.predict(data["X"]))
"""


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [1, 3])
def test_ranks_share_batches(mpiexec, tmp_path, n_ranks):
    X, y, _ = waves(300)
    np.savez(tmp_path / "data.npz", X=X, y=y)
    mpiexec(n_ranks, PROGRAM, str(tmp_path / "data.npz"), str(tmp_path / "found.npy"))
    expected = SWSGPRegressor(n_inducing=40, n_neighbors=8, max_iter=3, random_state=0).fit(X, y)
    assert_allclose(np.load(tmp_path / "found.npy"), expected.predict(X), rtol=1e-8)


@pytest.mark.gpu
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_a_gpu_gives_the_same_bound(covariance):
    import cupy

    for kernel in KERNELS:
        problem = Problem(covariance, kernel)
        expected = problem.bound(local_bound)
        for name in ("X", "y", "neighbors"):
            setattr(problem, name, cupy.asarray(getattr(problem, name)))
        on_host = ("theta", "noise")
        arrays = {k: v if k in on_host else cupy.asarray(v) for k, v in problem.arrays.items()}
        found = problem.bound(local_bound, arrays)
        assert_allclose(found.value, expected.value, rtol=1e-9)
        for name, gradient in expected.gradients.items():
            assert_allclose(
                to_numpy(found.gradients[name]), gradient, atol=1e-8 * abs(gradient).max()
            )


@pytest.mark.slow
def test_the_field_of_the_paper_s_kind():
    """4000 rows of a Matern-3/2 field; the exact GP has NLPD -0.615 and RMSE 0.081."""
    rng = np.random.default_rng(0)
    X = rng.random((5000, 2))
    K = Matern(0.1, nu=1.5)(X) + 1e-8 * np.eye(5000)
    f = np.linalg.cholesky(K) @ rng.standard_normal(5000)
    y = f + 0.1 * rng.standard_normal(5000)
    model = SWSGPRegressor(n_neighbors=16, max_iter=60, random_state=0).fit(X[:4000], y[:4000])
    mean, std = model.predict(X[4000:], return_std=True, observation=True)
    density = 0.5 * np.log(2 * np.pi * std**2) + (y[4000:] - mean) ** 2 / 2 / std**2
    assert density.mean() < -0.55
    assert np.sqrt(np.mean((mean - f[4000:]) ** 2)) < 0.095
