"""Polynomials in many variables: index sets, orthonormality, weights."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import eval_chebyt, eval_legendre

from sparseprob._arrays import to_numpy
from sparseprob.polynomials import (
    intrinsic_weights,
    is_lower,
    max_order,
    multi_index_set,
    sample_points,
    tensor_design,
)

BELONGS = {
    "hyperbolic_cross": lambda nu, order: np.prod(np.add(nu, 1)) <= order + 1,
    "total_degree": lambda nu, order: sum(nu) <= order,
    "tensor": lambda nu, order: max(nu) <= order,
}


@pytest.mark.parametrize("kind", BELONGS)
@pytest.mark.parametrize(("n_dims", "order"), [(1, 0), (1, 4), (2, 5), (3, 4), (4, 3), (2, 0)])
def test_sets_are_all_degrees_within_the_bound(kind, n_dims, order):
    grid = product(range(order + 1), repeat=n_dims)  # lexicographic
    expected = [nu for nu in grid if BELONGS[kind](nu, order)]
    assert_array_equal(multi_index_set(kind, n_dims, order), expected)


@pytest.mark.parametrize("kind", BELONGS)
@pytest.mark.parametrize(("n_dims", "n_max"), [(1, 7), (3, 1), (3, 50), (5, 500)])
def test_the_largest_order_fits_and_the_next_does_not(kind, n_dims, n_max):
    order = max_order(kind, n_dims, n_max)
    assert len(multi_index_set(kind, n_dims, order)) <= n_max
    assert len(multi_index_set(kind, n_dims, order + 1)) > n_max


def test_sizes_of_the_paper():
    assert max_order("hyperbolic_cross", 5, 500) == 18
    assert len(multi_index_set("hyperbolic_cross", 5, 18)) == 426
    order = max_order("hyperbolic_cross", 10, 500)
    assert len(multi_index_set("hyperbolic_cross", 10, order)) == 471


def test_many_variables_are_counted_without_listing():
    # order 1 leaves one variable at degree 1: the constant and d others
    assert max_order("hyperbolic_cross", 1000, 1001) == 1
    assert max_order("hyperbolic_cross", 20, 10**9) > 100
    with pytest.raises(ValueError, match="too many to list; max_order"):
        multi_index_set("tensor", 30, 3)


@pytest.mark.parametrize("kind", BELONGS)
def test_sets_are_lower_and_stop_being_so_with_a_gap(kind):
    indices = multi_index_set(kind, 3, 3)
    assert is_lower(indices)
    assert is_lower(indices[::-1])
    assert not is_lower(indices[1:])  # without the constant
    inner = np.flatnonzero((indices == [0, 1, 0]).all(axis=1))
    assert not is_lower(np.delete(indices, inner, axis=0))


@pytest.mark.parametrize("kind", ["legendre", "chebyshev"])
def test_values_are_products_of_polynomials_in_one_variable(kind):
    indices = multi_index_set("tensor", 2, 5)[::-2]  # neither lower nor in order
    points = np.random.default_rng(0).uniform(-1, 1, size=(7, 2))
    one = {
        "legendre": lambda n, t: np.sqrt(2 * n + 1) * eval_legendre(n, t),
        "chebyshev": lambda n, t: np.where(n > 0, np.sqrt(2), 1) * eval_chebyt(n, t),
    }[kind]
    expected = [[one(a, s) * one(b, t) for a, b in indices] for s, t in points]
    assert_allclose(tensor_design(kind, indices, points), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["legendre", "chebyshev"])
def test_polynomials_are_orthonormal_under_their_measure(kind):
    """Gauss quadrature with n nodes integrates products of degree up to 2n - 1 exactly."""
    nodes, weights = {
        "legendre": lambda: np.polynomial.legendre.leggauss(8),
        "chebyshev": lambda: np.polynomial.chebyshev.chebgauss(8),
    }[kind]()
    weights = weights / weights.sum()
    grid = np.array(list(product(nodes, repeat=3)))
    weight = np.prod(list(product(weights, repeat=3)), axis=1)
    design = tensor_design(kind, multi_index_set("hyperbolic_cross", 3, 7), grid)
    assert_allclose(design.T @ (weight[:, None] * design), np.eye(design.shape[1]), atol=1e-12)


@pytest.mark.parametrize("kind", ["legendre", "chebyshev"])
def test_weights_are_the_largest_values_reached_at_a_corner(kind):
    indices = multi_index_set("total_degree", 3, 4)
    grid = np.array(list(product(np.linspace(-1, 1, 21), repeat=3)))
    weights = intrinsic_weights(kind, indices)
    assert_allclose(np.abs(tensor_design(kind, indices, grid)).max(axis=0), weights, rtol=1e-12)
    assert_allclose(tensor_design(kind, indices, np.ones((1, 3)))[0], weights, rtol=1e-12)


@pytest.mark.parametrize("kind", ["legendre", "chebyshev"])
def test_designs_follow_the_points(kind, xp):
    indices = multi_index_set("hyperbolic_cross", 2, 6)
    points = np.random.default_rng(1).uniform(-1, 1, size=(9, 2))
    design = tensor_design(kind, indices, xp.asarray(points))
    assert type(design) is type(xp.asarray(points))
    assert_allclose(to_numpy(design), tensor_design(kind, indices, points), rtol=1e-12)
    single = tensor_design(kind, indices, xp.asarray(points.astype(np.float32)))
    assert to_numpy(single).dtype == np.float32
    assert_allclose(to_numpy(single), to_numpy(design), atol=1e-4)


def test_bad_input_is_refused_in_one_sentence():
    with pytest.raises(ValueError, match="kind must be 'hyperbolic_cross'"):
        multi_index_set("cross", 2, 2)
    with pytest.raises(ValueError, match="order must be an integer of at least 0, got -1"):
        multi_index_set("tensor", 2, -1)
    with pytest.raises(ValueError, match="n_dims must be an integer of at least 1, got 0"):
        max_order("tensor", 0, 5)
    with pytest.raises(ValueError, match="n_max must be an integer of at least 1, got 0"):
        max_order("tensor", 2, 0)
    with pytest.raises(ValueError, match="kind must be 'legendre' or 'chebyshev'"):
        tensor_design("hermite", [[0]], np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"points must have shape \(n_points, 1\)"):
        tensor_design("legendre", [[0]], np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"points must lie in \[-1, 1\]"):
        tensor_design("legendre", [[0]], np.array([[np.nan]]))
    with pytest.raises(ValueError, match="points must be real numbers, got dtype complex128"):
        tensor_design("legendre", [[0]], np.array([[1j]]))
    with pytest.raises(ValueError, match="indices must be a table of integers"):
        intrinsic_weights("legendre", [[0.5]])
    with pytest.raises(ValueError, match="indices must not be negative, got -2"):
        is_lower([[0, -2]])


@pytest.mark.parametrize("kind", ["legendre", "chebyshev"])
def test_sampled_points_make_the_basis_orthonormal(kind):
    points = sample_points(kind, 200_000, 2, random_state=0)
    design = tensor_design(kind, multi_index_set("total_degree", 2, 2), points)
    gram = design.T @ design / len(points)
    spread = np.sqrt((design**2).T @ design**2 / len(points) / len(points))
    assert (np.abs(gram - np.eye(6)) <= 5 * spread + 1e-12).all()
    assert_array_equal(points, sample_points(kind, 200_000, 2, random_state=0))
