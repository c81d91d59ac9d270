"""Solves and incomplete factors on a GPU give what their twins on the CPU give."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from test_gp_gpu import SUMS, Columns, close, on_gpu, on_host, twins

pytestmark = pytest.mark.gpu

CASES = [(5, 120), (30, 200), (70, 90), (1, 40)]  # neighbors, points


class Factor(Columns):
    """A triangular matrix with a large diagonal, and its pattern by rows."""

    def __init__(self, m, n):
        super().__init__([1], 2, 2, m, n)
        self.data = 0.3 * self.rng.normal(size=len(self.indices)) / m**0.5
        self.data[self.indptr[1:] - 1] = self.rng.uniform(1, 2, n)
        self.columns = (*self.pattern, self.data)
        self.n, (cpu, _) = n, twins("triangular")
        self.rows = cpu.row_view(*self.pattern)


@pytest.mark.parametrize("case", CASES)
def test_row_view(case):
    """The pattern by rows."""
    problem, (_, gpu) = Factor(*case), twins("triangular")
    for ours, theirs in zip(gpu.row_view(*on_gpu(*problem.pattern)), problem.rows, strict=True):
        assert_array_equal(on_host([ours])[0], theirs)
        assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("solve", ()),
        ("solve_transposed", ()),
        ("solve_many", (3,)),
        ("solve_transposed_many", (3,)),
    ],
)
def test_solve(case, name, shape):
    """Substitutions in both directions."""
    problem, (cpu, gpu) = Factor(*case), twins("triangular")
    x = problem.rng.normal(size=(problem.n, *shape))
    *arguments, device = on_gpu(*problem.columns, x)
    getattr(cpu, name)(*problem.columns, x)
    getattr(gpu, name)(*arguments, device)
    close(on_host([device])[0], x, SUMS)


@pytest.mark.parametrize("case", CASES)
def test_products(case):
    """Products with the matrix by rows and by columns."""
    problem, (cpu, gpu) = Factor(*case), twins("triangular")
    starts, columns, positions = problem.rows
    x = problem.rng.normal(size=problem.n)
    for view in (problem.columns, (starts, columns, problem.data[positions])):
        out = np.empty(problem.n)
        *arguments, device = on_gpu(*view, x, out)
        cpu.compressed_products(*view, x, out)
        gpu.compressed_products(*arguments, device)
        close(on_host([device])[0], out, SUMS)


@pytest.mark.parametrize("case", CASES)
def test_inverse_diagonal(case):
    """Exact variances at some rows."""
    problem, (cpu, gpu) = Factor(*case), twins("triangular")
    rows = np.sort(problem.rng.choice(problem.n, 21, replace=False))
    work, out = np.zeros((2, problem.n, 8)), np.empty(21)
    *arguments, device = on_gpu(*problem.columns, rows, work, out)
    cpu.inverse_diagonal(*problem.columns, rows, work, out)
    gpu.inverse_diagonal(*arguments, device)
    close(on_host([device])[0], out, SUMS)


def gram(problem):
    """Entries of the Gram matrix on the pattern, on the host and on the device."""
    cpu, gpu = twins("incomplete_cholesky")
    edges, places = np.array([0, problem.n // 3, problem.n]), np.full((2, problem.n), -1, np.int32)
    out = np.empty(len(problem.data))
    *arguments, device = on_gpu(*problem.columns, *problem.rows, edges, places, out)
    cpu.gram_columns(*problem.columns, *problem.rows, edges, places, out)
    gpu.gram_columns(*arguments, device)
    return out, device


@pytest.mark.parametrize("case", CASES)
def test_incomplete_factor(case):
    """Gram matrices on the pattern and their incomplete factors."""
    problem, (cpu, gpu) = Factor(*case), twins("incomplete_cholesky")
    Q, on_device = gram(problem)
    close(on_host([on_device])[0], Q, SUMS)
    Q[problem.indptr[1:] - 1] += 1.0
    floors, work = np.full(problem.n, 1e-10), np.zeros(problem.n)
    *arguments, device, floors_device, work_device = on_gpu(*problem.pattern, Q, floors, work)
    assert cpu.factor_without_fill(*problem.pattern, Q, floors, work) == -1
    assert gpu.factor_without_fill(*arguments, device, floors_device, work_device) == -1
    close(on_host([device])[0], Q, 1e-9)  # pivots of 0.1 and more in quantities of about 10


def test_incomplete_factor_breaks_down():
    """The column that is met first is named, and nothing waits forever."""
    problem, (cpu, gpu) = Factor(5, 120), twins("incomplete_cholesky")
    Q = problem.data.copy()
    Q[problem.indptr[[31, 78]] - 1] = -1.0
    floors, work = np.full(problem.n, 1e-10), np.zeros(problem.n)
    device = on_gpu(*problem.pattern, Q, floors, work)
    expected = cpu.factor_without_fill(*problem.pattern, Q, floors, work)
    assert gpu.factor_without_fill(*device) == expected >= 77
