"""Functions with known minima, and the random bandit problem."""

import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.gaussian_process.kernels import RBF

from sparseprob._arrays import to_numpy
from sparseprob.datasets import make_rkhs_bandit, test_functions
from sparseprob.datasets.test_functions import (
    Ackley,
    Branin,
    Griewank,
    Hartmann3,
    Hartmann6,
    Levy,
    Rastrigin,
    Rosenbrock,
    StyblinskiTang,
)

FUNCTIONS = [
    Branin(), Hartmann3(), Hartmann6(), Ackley(3), Rosenbrock(4), Levy(3), Rastrigin(2),
    Griewank(3), StyblinskiTang(2),
]  # fmt: skip


def inside(function, n, seed=0):
    low, high = function.bounds.T
    return np.random.default_rng(seed).uniform(low, high, (n, function.n_features))


@pytest.mark.parametrize(
    ("function", "point", "value"),
    [
        (Branin(), [-np.pi, 12.275], 0.397887),
        (Branin(), [np.pi, 2.275], 0.397887),
        (Branin(), [9.42478, 2.475], 0.397887),
        (Branin(), [0.0, 0.0], 36 + 20 - 10 / (8 * np.pi)),
        (Hartmann3(), [0.114614, 0.555649, 0.852547], -3.86278),
        (Hartmann6(), [0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573], -3.32237),
        (Ackley(5), [0.0] * 5, 0.0),
        (Ackley(1), [0.5], 20 + np.e - 20 * np.exp(-0.1) - np.exp(-1)),
        (Rosenbrock(3), [1.0] * 3, 0.0),
        (Rosenbrock(3), [0.0, 1.0, 3.0], 100 + 1 + 400),
        (Levy(2), [1.0, 1.0], 0.0),
        (Levy(2), [1.0, 2.0], (1 + 1) / 16),
        (Rastrigin(3), [0.0] * 3, 0.0),
        (Rastrigin(3), [1.0, -1.0, 0.5], 1 + 1 + 20.25),
        (Griewank(2), [0.0, 0.0], 0.0),
        (Griewank(2), [np.pi, 2**0.5 * np.pi], 3 * np.pi**2 / 4000),
        (StyblinskiTang(3), [-2.903534] * 3, -39.16617 * 3),
    ],
)
def test_values_at_published_points(function, point, value):
    assert_allclose(function(point), value, atol=6e-6)  # as many digits as are published


@pytest.mark.parametrize("function", FUNCTIONS, ids=repr)
def test_optimizers_are_the_lowest_points(function):
    """The value there is the stated one, steps of any length and direction lead up."""
    values = function(function.optimizers)
    assert_allclose(values, function.optimum_value, rtol=1e-13, atol=1e-13)
    assert np.all(function.optimizers >= function.bounds[:, 0])
    assert np.all(function.optimizers <= function.bounds[:, 1])
    rng = np.random.default_rng(1)
    width = np.ptp(function.bounds, axis=1)
    for optimizer in function.optimizers:
        directions = rng.normal(size=(300, function.n_features)) * width
        for length in (1e-6, 1e-4, 1e-2):
            near = np.clip(optimizer + length * directions, *function.bounds.T)
            assert np.all(function(near) >= function.optimum_value - 1e-12)
        # second differences along each axis: positive, and the slope is nothing beside them
        steps = np.diag(1e-4 * width)
        up, down = function(optimizer + steps), function(optimizer - steps)
        curvature = up + down - 2 * function.optimum_value
        assert np.all(curvature > 0)
        assert np.all(np.abs(up - down) < 1e-2 * curvature)
    assert function(inside(function, 20_000)).min() >= function.optimum_value


def test_the_slope_check_sees_a_moved_optimizer():
    function = Hartmann6()
    moved = function.optimizers[0] + 1e-4
    up, down = function(moved + np.diag([1e-4] * 6)), function(moved - np.diag([1e-4] * 6))
    assert np.any(np.abs(up - down) > 1e-2 * np.abs(up + down - 2 * function(moved)))


@pytest.mark.parametrize(
    ("name", "arguments", "ours"),
    [
        ("Branin", {}, Branin()),
        ("Hartmann", {"dim": 3}, Hartmann3()),
        ("Hartmann", {"dim": 6}, Hartmann6()),
        ("Ackley", {"dim": 3}, Ackley(3)),
        ("Rosenbrock", {"dim": 4}, Rosenbrock(4)),
        ("Levy", {"dim": 3}, Levy(3)),
        ("Rastrigin", {"dim": 2}, Rastrigin(2)),
        ("Griewank", {"dim": 3}, Griewank(3)),
        ("StyblinskiTang", {"dim": 2}, StyblinskiTang(2)),
    ],
)
def test_values_agree_with_botorch(name, arguments, ours):
    synthetic = pytest.importorskip("botorch.test_functions.synthetic")
    torch = pytest.importorskip("torch")
    theirs = getattr(synthetic, name)(**arguments, dtype=torch.double)
    X = inside(ours, 200)
    expected = theirs.evaluate_true(torch.from_numpy(X)).numpy()
    # BoTorch rounds the precisions or centers of Hartmann's bumps, and pi, to single precision
    assert_allclose(ours(X), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    # it has the box of Ackley in another size in some releases
    if name != "Ackley":
        assert_allclose(theirs.bounds.numpy().T, ours.bounds)


@pytest.mark.parametrize("function", FUNCTIONS, ids=repr)
def test_library_of_the_points_is_kept(function, xp):
    X = inside(function, 7)
    given = xp.asarray(X)
    values = function(given)
    assert type(values) is type(given)
    assert_allclose(to_numpy(values), function(X), rtol=1e-13)
    assert_allclose(float(function(given[3, ...])), function(X)[3], rtol=1e-13)
    single = function(xp.asarray(X.astype(np.float32)))
    assert to_numpy(single).dtype == np.float32
    scale = np.abs(function(X)).max()
    assert_allclose(to_numpy(single), function(X), rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("function", FUNCTIONS, ids=repr)
def test_unit_cube(function):
    cube = function.unit_cube
    U = np.random.default_rng(0).random((50, function.n_features))
    low, high = function.bounds.T
    assert_allclose(cube(U), function(low + U * (high - low)), rtol=1e-12)
    assert_allclose(cube(cube.optimizers), function.optimum_value, atol=1e-9)
    assert_array_equal(cube.bounds, [[0, 1]] * function.n_features)
    assert cube.optimum_value == function.optimum_value
    assert_array_equal(pickle.loads(pickle.dumps(cube))(U), cube(U))
    assert repr(cube) == f"{function!r}.unit_cube"


def test_bad_points_and_sizes():
    with pytest.raises(ValueError, match=r"Hartmann6 takes points of shape \(n_samples, 6\)"):
        Hartmann6()(np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"Branin takes points .* got \(1, 1, 2\)"):
        Branin()(np.zeros((1, 1, 2)))
    with pytest.raises(ValueError, match="n_features must be an integer of at least 1, got 0"):
        Ackley(0)
    with pytest.raises(ValueError, match="n_features must be an integer of at least 2, got 1"):
        Rosenbrock(1)
    with pytest.raises(ValueError, match="got 2.5"):
        Levy(2.5)
    assert sorted(test_functions.__all__) == test_functions.__all__


def test_random_bandit_is_the_stated_one():
    """The draws of problem P1, in their order, and a function of unit norm."""
    problem = make_rkhs_bandit(400, 2, length_scale=0.2, n_centers=30, random_state=0)
    rng = np.random.RandomState(0)  # noqa: NPY002 - the published draws are of this generator
    X, centers, coefficients = rng.rand(400, 2), rng.rand(30, 2), rng.randn(30)
    assert_array_equal(problem.X, X)
    assert_array_equal(problem.centers, centers)
    kernel = RBF(0.2)
    norm = np.sqrt(coefficients @ kernel(centers) @ coefficients)
    assert_allclose(problem.f, kernel(X, centers) @ coefficients / norm, rtol=1e-10, atol=1e-12)
    weights = problem.coefficients
    assert_allclose(weights @ kernel(centers) @ weights, 1.0, rtol=1e-12)
    assert_allclose(problem.function(X[:5]), problem.f[:5], rtol=1e-12)
    assert problem.optimum_value == problem.f.max()
    assert np.all(np.abs(problem.f) <= 1)  # |f(x)| <= ||f|| sqrt(k(x, x))


def test_random_bandit_seeds_and_kernels():
    first = make_rkhs_bandit(50, 3, random_state=3)
    assert_array_equal(first.f, make_rkhs_bandit(50, 3, random_state=3).f)
    assert np.any(first.f != make_rkhs_bandit(50, 3, random_state=4).f)
    uneven = make_rkhs_bandit(50, 2, length_scale=[0.1, 10.0], random_state=0)
    moved = uneven.X.copy()
    moved[:, 1] = 0.5
    assert_allclose(uneven.function(moved), uneven.f, atol=0.05)  # the second variable hardly acts
    many = make_rkhs_bandit(20_000, 2, random_state=0)
    assert_allclose(many.f[-3:], many.function(many.X[-3:]), rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_candidates": 0}, "n_candidates must be an integer of at least 1, got 0"),
        ({"n_features": 1.5}, "n_features must be an integer of at least 1, got 1.5"),
        ({"n_centers": 0}, "n_centers must be an integer of at least 1, got 0"),
        ({"length_scale": -1.0}, "length_scale must be positive"),
        ({"length_scale": [1.0, 2.0, 3.0]}, "one number or n_features=2 numbers"),
    ],
)
def test_random_bandit_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_rkhs_bandit(**{"n_candidates": 10, "n_features": 2, **arguments})
