"""Maximin orderings and sparsity patterns against their definitions."""

import numba
import numpy as np
import pytest
import reference_gp_ordering as reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.gaussian_process.kernels import RBF, Matern

from sparseprob._arrays import to_numpy
from sparseprob.gp import ball_sparsity, maximin_order, nearest_predecessors
from sparseprob.gp._neighbors import nearest_training
from sparseprob.gp._ordering import order_points


def uniform(n, d, seed=0):
    return np.random.default_rng(seed).random((n, d))


def lattice():
    """Many equal distances, and repeated points."""
    X = np.stack(np.meshgrid(np.arange(12.0), np.arange(17.0)), axis=-1).reshape(-1, 2)
    return np.vstack([X, X[:30]])


def with_outliers():
    rng = np.random.default_rng(1)
    return np.vstack([rng.random((150, 2)), [[1e6, 0.0]], rng.standard_cauchy((150, 2))])


def on_a_line():
    t = uniform(300, 1)
    return np.hstack([t, 2 * t, np.zeros_like(t)])


POINTS = {f"uniform, d={d}": uniform(400, d) for d in range(1, 7)} | {
    "lattice": lattice(), "outliers": with_outliers(), "line": on_a_line(),
}  # fmt: skip


@pytest.fixture(params=POINTS.values(), ids=POINTS.keys())
def X(request):
    return request.param


def columns(indptr, indices):
    return [list(indices[a:b]) for a, b in zip(indptr[:-1], indptr[1:], strict=True)]


def test_maximin_is_that_of_the_definition(X):
    order, lengths = maximin_order(X, start=3)
    expected = reference.maximin(X, 3)
    assert_array_equal(order, expected[0])
    assert_allclose(lengths, expected[1], rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6])
def test_maximin_of_two_thousand_points(d):
    X = uniform(2000, d, seed=d)
    assert_array_equal(maximin_order(X, start=0)[0], reference.maximin(X, 0)[0])


def test_points_to_predict_come_last_and_in_maximin_order(X):
    order, lengths = maximin_order(X, start=2, n_last=40)
    expected = reference.maximin(X, 2, n_last=40)
    assert_array_equal(order, expected[0])
    assert_allclose(lengths, expected[1], rtol=1e-12)
    assert set(order[-40:]) == set(range(len(X) - 40, len(X)))


def test_the_order_begins_in_the_middle_whatever_the_order_of_rows():
    X = uniform(300, 2)
    shuffled = np.random.default_rng(2).permutation(300)
    order = maximin_order(X)[0]
    assert np.linalg.norm(X[order[0]] - X.mean(axis=0)) < 0.1
    assert_array_equal(shuffled[maximin_order(X[shuffled])[0]], order)


def test_the_approximate_order_spreads_points_nearly_as_well():
    X = uniform(3000, 2)
    lengths = maximin_order(X)[1]
    order, octaves = maximin_order(X, method="approximate", random_state=0)
    assert sorted(order) == list(range(3000))
    D = reference.distances(X[order])
    nearest = np.array([D[k, :k].min() for k in range(1, 3000)])
    assert (nearest >= octaves[1:] * (1 - 1e-12)).all()  # all are farther than their octave says
    assert (octaves[1:] >= 0.4 * lengths[1:]).all()
    assert_array_equal(maximin_order(X, method="approximate", random_state=0)[0], order)


def test_correlation_of_an_isotropic_kernel_gives_the_same_order():
    X, kernel = uniform(250, 3), Matern(0.7, nu=1.5)
    order = maximin_order(X, start=1)[0]
    by_correlation, lengths = maximin_order(X, start=1, metric="correlation", kernel=kernel)
    assert_array_equal(by_correlation, order)
    squared = 1 - kernel(X)
    assert_allclose(lengths, reference.maximin_by(squared, 1)[1], rtol=1e-6)
    two_scales = RBF([0.1, 10.0]) + RBF([10.0, 0.1])  # is not a function of one distance
    other = maximin_order(X[:, :2], start=1, metric="correlation", kernel=two_scales, n_last=20)
    expected = reference.maximin_by(1 - two_scales(X[:, :2]) / 2, 1, n_last=20)
    assert_array_equal(other[0], expected[0])


@pytest.mark.parametrize("ordering", ["random", "coordinate", "given", "maximin-approximate"])
def test_named_orders_hold_every_point_once(ordering):
    X = uniform(200, 2)
    order, lengths = order_points(X, ordering, np.random.RandomState(0))
    assert sorted(order) == list(range(200))
    assert len(lengths) == 200
    if ordering == "coordinate":
        assert (np.diff(X[order, 0]) >= 0).all()


@pytest.mark.parametrize("m", [1, 7, 30])
def test_nearest_predecessors_are_those_of_the_definition(X, m):
    indptr, indices = nearest_predecessors(X, m)
    assert indptr.dtype == np.int64
    assert indices.dtype == np.int32
    assert columns(indptr, indices) == reference.nearest_before(X, m)


def test_blocks_of_many_points_join_up():
    X = uniform(3000, 2)
    assert columns(*nearest_predecessors(X, 4)) == reference.nearest_before(X, 4)


def test_more_neighbors_than_points_are_all_points():
    indptr, indices = nearest_predecessors(uniform(20, 2), 100)
    assert columns(indptr, indices) == [list(range(j + 1)) for j in range(20)]


@pytest.mark.parametrize("m", [1, 20])
def test_nearest_training_points(X, m):
    queries = np.vstack([X[:50], 1.5 * uniform(60, X.shape[1], seed=5) - 0.2])
    found = nearest_training(X, queries, m)
    assert found.dtype == np.int32
    for query, row in zip(queries, found, strict=True):
        squares = ((X - query) ** 2).sum(axis=1)
        nearest = np.lexsort((np.arange(len(X)), squares))[:m]
        assert_array_equal(row, np.sort(nearest))
    assert nearest_training(X, queries[:0], m).shape == (0, m)


@pytest.mark.parametrize("rho", [1.0, 2.0, 3.0])
def test_balls_are_those_of_the_definition(X, rho):
    order, lengths = maximin_order(X, n_last=40)
    X = X[order]
    indptr, indices, ancestors_indptr, ancestors = ball_sparsity(X, lengths, rho)
    inside, above = reference.balls(X, lengths, rho)
    assert columns(indptr, indices) == inside
    assert columns(ancestors_indptr, ancestors) == above


def test_sizes_of_balls_are_the_published_ones():
    """Mean sizes measured at n=4000, uniform in the unit square; one draw, so 5 %."""
    X = uniform(4000, 2)
    order, lengths = maximin_order(X)
    for rho, size, n_ancestors in ((1.5, 3.4, 29), (2, 4.6, 45), (2.5, 6.8, 62), (3, 9.2, 79)):
        _, indices, _, ancestors = ball_sparsity(X[order], lengths, rho)
        assert_allclose(
            [len(indices) / 4000, len(ancestors) / 4000], [size, n_ancestors], rtol=0.05
        )


def test_nothing_depends_on_the_number_of_threads():
    X = uniform(5000, 2)
    order, lengths = maximin_order(X)
    many = (*nearest_predecessors(X, 10), *ball_sparsity(X[order], lengths, 2.0))
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = (*nearest_predecessors(X, 10), *ball_sparsity(X[order], lengths, 2.0))
    finally:
        numba.set_num_threads(before)
    for a, b in zip(many, one, strict=True):
        assert_array_equal(a, b)


def test_answers_come_in_the_library_of_the_points(xp):
    X = uniform(700, 2)
    order, lengths = maximin_order(xp.asarray(X))
    assert_array_equal(to_numpy(order), maximin_order(X)[0])
    assert_allclose(to_numpy(lengths), maximin_order(X)[1], rtol=1e-15)


@pytest.mark.gpu
def test_the_search_on_a_gpu_is_that_on_the_host(X):
    import cupy

    for m in (1, 30):
        on_host, on_gpu = (nearest_predecessors(A, m) for A in (X, cupy.asarray(X)))
        for a, b in zip(on_host, on_gpu, strict=True):
            assert_array_equal(b.get(), a)
        queries = 1.5 * uniform(60, X.shape[1], seed=5)
        found = nearest_training(cupy.asarray(X), cupy.asarray(queries), m)
        assert_array_equal(found.get(), nearest_training(X, queries, m))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda X: maximin_order(X[0]), "2-dimensional and not empty, got shape"),
        (lambda X: maximin_order(np.where(X > 0.9, np.nan, X)), "NaN or infinity"),
        (lambda X: maximin_order(X, start=50), "number of a row, from 0 to 49, got 50"),
        (lambda X: maximin_order(X, n_last=50), "from 0 to 49, got 50"),
        (lambda X: maximin_order(X, method="fast"), "'exact' or 'approximate'"),
        (lambda X: maximin_order(X, metric="correlation"), "needs a kernel"),
        (lambda X: nearest_predecessors(X, 0), "at least 1, got 0"),
        (lambda X: nearest_predecessors(X, 2.5), "whole number"),
        (lambda X: nearest_predecessors(X[0], 1), "2-dimensional"),
        (lambda X: nearest_predecessors(np.where(X > 0.9, np.nan, X), 1), "NaN or infinity"),
        (lambda X: ball_sparsity(X, np.ones(50), 0.5), "rho must be at least 1, got 0.5"),
        (lambda X: ball_sparsity(X, np.ones(49), 2.0), "lengths must be 50"),
        (lambda X: ball_sparsity(X, -np.ones(50), 2.0), "non-negative"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(call, match):
    with pytest.raises(ValueError, match=match):
        call(uniform(50, 2))
