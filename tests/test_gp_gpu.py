"""The kernels of Gaussian processes on a GPU give what their twins on the CPU give."""

from importlib import import_module

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pytestmark = pytest.mark.gpu

CASES = [  # kinds, features, lengthscales, neighbors, points
    ([1], 2, 1, 30, 150), ([1], 2, 2, 30, 150), ([0, 4], 3, 3, 12, 90), ([2, 3], 1, 1, 40, 90),
    ([1], 2, 2, 70, 110), ([4], 6, 6, 7, 40), ([3], 12, 12, 5, 40),
]  # fmt: skip
FACTOR = 1e-9  # matrices with condition numbers of up to 1e6
SUMS = 1e-11  # noisy matrices; sums over columns in another order


def twins(topic):
    """Return the modules of kernels for the CPU and for the GPU."""
    return (import_module(f"sparseprob._kernels._{topic}_{name}") for name in ("numba", "cupy"))


def on_gpu(*values):
    """Copy arrays to the GPU; other values stay."""
    import cupy

    return [cupy.asarray(v) if isinstance(v, np.ndarray) else v for v in values]


def on_host(values):
    """Copy arrays to the host."""
    import cupy

    return [cupy.asnumpy(v) for v in values]


def close(actual, desired, rtol):
    """Compare relative to the largest value."""
    desired = np.asarray(desired)
    assert_allclose(actual, desired, rtol=0, atol=rtol * max(np.abs(desired).max(), 1e-300))


class Columns:
    """Terms, patterns and values of a problem; patterns are random earlier points."""

    def __init__(self, kinds, d, n_lengthscales, m, n):
        self.rng = rng = np.random.default_rng(n + m)
        T = len(kinds)
        self.X, self.lengths = rng.random((n, d)), rng.uniform(0.3, 1, (T, d))
        if n_lengthscales == 1:
            self.lengths[:] = self.lengths[:, :1]
        self.terms = (
            np.array(kinds), rng.uniform(0.5, 2, T), rng.uniform(0.5, 2, T), self.scaled(self.X),
        )  # fmt: skip
        columns = [
            [*np.sort(rng.choice(j, min(j, m), replace=False)), j] if j else [0] for j in range(n)
        ]
        self.indptr = np.cumsum([0] + [len(c) for c in columns])
        self.indices = np.concatenate(columns).astype(np.int32)
        self.pattern = (self.indptr, self.indices)

    def scaled(self, X):
        """Inputs over the lengthscales of each term."""
        return np.ascontiguousarray(X[None] / self.lengths[:, None])

    def factored(self, library, nugget=1e-4):
        """Return the factor and the counts of failures on one device."""
        kernel = tuple(twins("inverse_cholesky"))[library == "gpu"]
        n = len(self.X)
        arrays = [*self.terms, *self.pattern, np.zeros(len(self.indices)), np.zeros(n, np.int8)]
        *terms, indptr, indices, data, failed = on_gpu(*arrays) if library == "gpu" else arrays
        kernel.factor_columns(*terms, nugget, indptr, indices, 0, n, data, failed)
        return on_host([data, failed]) if library == "gpu" else (data, failed)


@pytest.mark.parametrize("case", [*CASES, ([1], 2, 2, 130, 140)])
def test_factor(case):
    """Columns of factors, small, of more than 32 points, and of one warp to a block."""
    problem = Columns(*case)
    (data, failed), (expected, _) = problem.factored("gpu"), problem.factored("cpu")
    close(data, expected, FACTOR)
    assert not failed.any()
    again = problem.factored("gpu")[0]
    assert_array_equal(again, data)


def test_factor_of_full_pattern():
    """A factor on the full pattern has U U^T = K^-1, and the largest columns need global memory."""
    n, nugget = 260, 1e-2
    problem = Columns([0], 2, 2, n, n)
    data = problem.factored("gpu", nugget)[0]
    U = np.zeros((n, n))
    U.T[np.tril_indices(n)] = data
    R = np.linalg.norm(problem.terms[3][0][:, None] - problem.terms[3][0], axis=2)
    K = problem.terms[1][0] * np.exp(-R) + nugget * np.eye(n)
    assert_allclose(K @ U @ U.T, np.eye(n), atol=1e-9)


def test_jitter_grows_as_on_the_cpu():
    """Repeated points without a nugget take the same jitter; not-a-number fails for good."""
    problem = Columns([1], 2, 2, 20, 80)
    problem.terms[3][0, 7] = problem.terms[3][0, 3]
    (data, failed), (expected, counts) = problem.factored("gpu", 0.0), problem.factored("cpu", 0.0)
    assert_array_equal(failed, counts)
    assert 0 < (failed > 0).sum() < len(failed)
    close(data, expected, 1e-5)  # matrices with condition numbers of 1e11
    problem.terms[3][0, 50] = np.nan
    failed = problem.factored("gpu")[1]
    assert_array_equal(failed, problem.factored("cpu")[1])
    assert failed[50] == -1


@pytest.mark.parametrize("case", CASES)
def test_posterior_columns(case):
    """Some of the points have noise; some of the columns are asked for."""
    cpu, gpu = twins("inverse_cholesky")
    problem = Columns(*case)
    n = len(problem.X)
    options = (0.1, 1e-4, n // 2, *problem.pattern, n // 4, n - 3)
    results = np.zeros(len(problem.indices)), np.zeros(n, np.int8)
    device = on_gpu(*results)
    gpu.posterior_columns(*on_gpu(*problem.terms, *options), *device)
    cpu.posterior_columns(*problem.terms, *options, *results)
    close(on_host(device)[0], results[0], FACTOR)


@pytest.mark.parametrize("case", CASES)
def test_column_gradients(case):
    """Gradients by the parameters; those of ranges of columns add up."""
    cpu, gpu = twins("inverse_cholesky")
    problem, n_lengthscales = Columns(*case), case[2]
    n, dU = len(problem.X), problem.rng.normal(size=len(problem.indices))

    def gradient(first, stop):
        arguments = (*problem.terms, 1e-4, *problem.pattern, first, stop, dU, n_lengthscales)
        return gpu.column_gradients(*on_gpu(*arguments))

    expected = cpu.column_gradients(
        *problem.terms, 1e-4, *problem.pattern, 0, n, dU, n_lengthscales
    )
    close(gradient(0, n), expected, FACTOR)
    close(gradient(0, 11) + gradient(11, n) + gradient(n, n), expected, FACTOR)
    assert_array_equal(gradient(0, n), gradient(0, n))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("derivatives", [True, False])
def test_response_columns(case, derivatives):
    """Likelihood, gradient and information; without derivatives, too."""
    cpu, gpu = twins("response")
    problem = Columns(*case)
    n, n_lengthscales = len(problem.X), case[2] if derivatives else 0
    y = problem.rng.normal(size=n)
    options = (0.1, *problem.pattern, y, 0, n, n_lengthscales, np.zeros(n, np.int8))
    expected = cpu.response_columns(*problem.terms, *options)
    actual = gpu.response_columns(*on_gpu(*problem.terms, *options))
    for ours, theirs in zip(actual, expected, strict=True):
        assert np.shape(ours) == np.shape(theirs)
        if np.size(theirs):
            close(ours, theirs, SUMS)
    again = gpu.response_columns(*on_gpu(*problem.terms, *options))
    assert all(np.array_equal(a, b) for a, b in zip(actual, again, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_predict_columns(case):
    """Means and deviations at new points."""
    cpu, gpu = twins("response")
    problem, m = Columns(*case), case[3]
    n, q, rng = len(problem.X), 37, problem.rng
    neighbors = np.array([rng.choice(n, m, replace=False) for _ in range(q)], dtype=np.int32)
    arguments = (
        *problem.terms, 0.1, problem.scaled(rng.random((q, case[1]))), neighbors,
        rng.normal(size=n),
    )  # fmt: skip
    results = np.empty(q), np.empty(q), np.empty(q, np.int8)
    device = on_gpu(*results)
    cpu.predict_columns(*arguments, *results)
    gpu.predict_columns(*on_gpu(*arguments), *device)
    for ours, theirs in zip(on_host(device), results, strict=True):
        close(ours, theirs, SUMS)


BOUNDS = [  # neighbors, whether ancestors are closed, points
    (5, False, 120), (5, True, 120), (40, False, 90), (3, True, 300), (30, False, 200),
]  # fmt: skip


class Posterior(Columns):
    """Prior and posterior factors on one pattern, ancestors, and what the bound needs."""

    def __init__(self, m, closed, n):
        super().__init__([1], 2, 2, m, n)
        rng, diagonal = self.rng, self.indptr[1:] - 1
        self.U, self.V = 0.1 * rng.normal(size=(2, len(self.indices)))
        self.U[diagonal], self.V[diagonal] = rng.uniform(1, 2, (2, n))
        self.ancestors = self.pattern
        if closed:
            cpu, counts = next(iter(twins("elbo"))), np.zeros(n, np.int64)
            cpu.closure(*self.pattern, np.zeros(0, np.int64), counts, np.zeros(0, np.int32))
            indptr = np.concatenate([[0], np.cumsum(counts)])
            self.ancestors = indptr, np.zeros(indptr[-1], np.int32)
            cpu.closure(*self.pattern, indptr, counts, self.ancestors[1])
        self.factor = (*self.ancestors, *self.pattern, self.V)
        self.columns = np.sort(rng.choice(n, n - 7, replace=False))


@pytest.mark.parametrize("case", BOUNDS)
def test_marginal_columns(case):
    """Posterior variances of some columns."""
    cpu, gpu = twins("elbo")
    problem = Posterior(*case)
    expected = np.zeros(len(problem.columns))
    (device,) = on_gpu(np.zeros_like(expected))
    cpu.marginal_columns(problem.columns, *problem.factor, 2, expected)
    gpu.marginal_columns(*on_gpu(problem.columns, *problem.factor), 1, device)
    close(on_host([device])[0], expected, SUMS)


@pytest.mark.parametrize("case", BOUNDS)
def test_elbo_gradient_columns(case):
    """Terms and gradients of the bound; what is there already is added to."""
    cpu, gpu = twins("elbo")
    problem, n = Posterior(*case), case[2]
    delta, by_variance = problem.rng.normal(size=(2, n))
    arguments = (
        problem.columns, *problem.pattern, problem.U, *problem.factor, delta,
        by_variance[: len(problem.columns)],
    )  # fmt: skip
    nnz = len(problem.indices)
    results = [np.zeros(len(problem.columns)), np.zeros(nnz), np.ones((1, nnz)), np.ones((1, n))]
    device = on_gpu(*results)
    cpu.elbo_gradient_columns(*arguments, *results)
    gpu.elbo_gradient_columns(*on_gpu(*arguments), *device)
    for ours, theirs in zip(on_host(device), results, strict=True):
        close(ours, theirs, SUMS)


@pytest.mark.parametrize("case", BOUNDS)
@pytest.mark.parametrize("whole", [False, True])
def test_projected_variances(case, whole):
    """Variances of queries, from the ancestors of their neighbors and from all points."""
    cpu, gpu = twins("elbo")
    problem, m, rng = Posterior(*case), case[0], np.random.default_rng(0)
    near = np.array([rng.choice(case[2], m, replace=False) for _ in range(41)], dtype=np.int32)
    ancestors = (problem.ancestors[0], np.zeros(0, np.int32)) if whole else problem.ancestors
    arguments = (near, rng.normal(size=near.shape), *ancestors, *problem.pattern, problem.V)
    expected = np.zeros(len(near))
    (device,) = on_gpu(np.zeros_like(expected))
    cpu.projected_variances(*arguments, 2, expected)
    gpu.projected_variances(*on_gpu(*arguments), 1, device)
    close(on_host([device])[0], expected, SUMS)


def test_not_enough_memory():
    """What is needed, and what to lower."""
    from sparseprob.gp._base import check_gpu_memory

    (A,) = on_gpu(np.zeros(1))
    check_gpu_memory(A, 1000, "lower n_neighbors")
    with pytest.raises(MemoryError, match=r"about 1000000.0 GB of GPU memory, .*lower n_neighbors"):
        check_gpu_memory(A, 1e15, "lower n_neighbors")
