"""Tensors and arrays share memory, in both directions and on both devices."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from sparseprob.torch._tensors import back, solver_dtype, to_array, to_tensor
from sparseprob.torch.calibration import LayerStats
from sparseprob.torch.solvers import LayerProblem
from sparseprob.torch.solvers._registry import METHODS, solver_named

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def pointer(A):
    return A.ctypes.data if isinstance(A, np.ndarray) else A.data.ptr


def layer(device="cpu", dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    W = torch.randn(16, 24, generator=generator, dtype=dtype)
    x = torch.randn(100, 24, generator=generator, dtype=torch.float64)
    return W.to(device), LayerStats.of(x.to(device))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensors_are_viewed(device, dtype):
    parameter = torch.nn.Parameter(torch.ones(3, 4, device=device, dtype=dtype))
    A = to_array(parameter)
    assert pointer(A) == parameter.data_ptr()
    assert back(A, parameter).data_ptr() == parameter.data_ptr()
    assert to_tensor(A, parameter).data_ptr() == parameter.data_ptr()


@pytest.mark.parametrize("device", DEVICES)
def test_weights_are_not_copied_for_the_solvers(device):
    dtype = torch.float64 if device == "cpu" else torch.float32
    W, stats = layer(device, dtype)
    problem = LayerProblem(W, LayerStats(stats.gram.to(dtype), None, 100))
    assert pointer(problem.W) == W.data_ptr()
    assert pointer(problem.gram) == problem.stats.gram.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_and_comes_back(dtype):
    W = torch.randn(5, 6).to(dtype)
    A = to_array(W, solver_dtype(W))
    assert A.dtype == np.float64
    assert back(A, W).dtype == dtype
    assert_array_equal(back(A, W).float().numpy(), W.float().numpy())


def test_indices_keep_their_type():
    W = torch.zeros(2, 2, dtype=torch.bfloat16)
    assert to_tensor(np.arange(3, dtype=np.int32), W).dtype == torch.int32
    assert to_tensor(np.ones(3, dtype=bool), W).dtype == torch.bool
    assert to_tensor(np.ones(3), np.zeros(2, dtype=np.float32)).dtype == torch.float32


@pytest.mark.parametrize("name", METHODS)
def test_no_solver_writes_into_what_it_was_given(name):
    W, stats = layer()
    before = W.clone(), stats.gram.clone()
    given = {"max_iter": 3} if name in ("awp", "cospadi") else {}
    solution = solver_named(name, **given).solve(W, stats)
    assert_array_equal(W, before[0])
    assert_array_equal(stats.gram, before[1])
    assert solution.dense().shape == W.shape
    assert solution.dense().data_ptr() != W.data_ptr()
