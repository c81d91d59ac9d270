"""Pruning and quantization by projected gradient descent."""

import numpy as np
import pytest
import reference_torch_pruning as reference
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from sparseprob._arrays import to_numpy  # noqa: E402
from sparseprob.torch.calibration import LayerStats  # noqa: E402
from sparseprob.torch.solvers import (  # noqa: E402
    AWP,
    MagnitudePruner,
    Refit,
    SparseGPTPruner,
    WandaPruner,
)
from sparseprob.torch.solvers._grids import Grid  # noqa: E402
from sparseprob.torch.solvers._problem import LayerProblem  # noqa: E402
from sparseprob.torch.solvers._sparsegpt import round_in_turn  # noqa: E402


def layer(d_out=6, d_in=24, n=60, seed=0):
    """A weight, inputs that depend on each other, and their statistics."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d_in)) @ (np.eye(d_in) + 0.5 * rng.normal(size=(d_in, d_in)))
    return rng.normal(size=(d_out, d_in)), x, LayerStats.of(x)


# ---------------------------------------------------------------- closed forms
@pytest.mark.parametrize("step", ["fro", "lipschitz"])
@pytest.mark.parametrize("granularity", ["row", "matrix"])
def test_white_inputs_give_magnitude_pruning(step, granularity):
    W, _, _ = layer()
    stats = LayerStats(2.5 * np.eye(24))
    expected = MagnitudePruner(0.6, granularity=granularity).solve(W).dense()
    for refit in (False, True):
        found = AWP(0.6, granularity=granularity, step=step, refit=refit).solve(W, stats)
        assert_allclose(found.dense(), expected, rtol=1e-14 if refit else 0)
        assert found.converged


def test_uncorrelated_inputs_give_wanda():
    W, _, _ = layer()
    stats = LayerStats(np.diag(np.linspace(0.05, 3, 24) ** 2))
    expected = WandaPruner(0.5).solve(W, stats)
    found = AWP(0.5, refit=True).solve(W, stats)
    assert_array_equal(found.mask, expected.mask)
    assert_allclose(found.dense(), expected.dense(), rtol=1e-14)


def test_nothing_to_do_takes_no_iteration():
    W, _, stats = layer()
    for solver in (AWP(0.0), AWP(nm="4:4")):
        solution = solver.solve(W, stats)
        assert_array_equal(solution.dense(), W)
        assert solution.n_iter == 0
        assert solution.relative_error(stats) == 0


# ---------------------------------------------------------------- oracles
@pytest.mark.parametrize("step", ["fro", "lipschitz", 0.01])
@pytest.mark.parametrize(
    ("arguments", "runs", "n"),
    [
        ({}, lambda shape: reference.runs_of(shape, "row"), 10),
        ({"nm": "2:4"}, lambda shape: reference.runs_of(shape, "nm", 4), 2),
    ],
)
def test_awp_is_its_slow_form(step, arguments, runs, n):
    W, _, stats = layer()
    C = stats.gram
    sizes = {"fro": 2 / np.sqrt((C**2).sum()), "lipschitz": 1 / np.linalg.norm(C, 2)}

    def project(Z):
        return np.where(reference.keep(abs(Z), runs(W.shape), n), Z, 0)

    start = WandaPruner(14 / 24, **arguments).solve(W, stats).dense()
    expected, losses = reference.awp(W, C, start, project, sizes.get(step, step), 30)
    solver = AWP(14 / 24, step=step, max_iter=30, tol=0.0, **arguments)
    found = solver.solve(W, stats)
    assert_allclose(found.dense(), expected, rtol=1e-9, atol=1e-11)
    assert_allclose(found.history, np.divide(losses, reference.loss(W, 0 * W, C)), rtol=1e-9)
    assert found.n_iter == 30
    assert not found.converged


@pytest.mark.parametrize("step", ["fro", "lipschitz"])
def test_against_all_supports(step):
    """Ten inputs, three weights: the best of 120 supports, and how often it is found."""
    found_best = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x, w = rng.normal(size=(30, 10)), rng.normal(size=(1, 10))
        stats = LayerStats.of(x)
        solver = AWP(0.7, step=step, refit=True, tol=1e-9, max_iter=500)
        loss = reference.loss(w, solver.solve(w, stats).dense(), stats.gram)
        best = reference.best_support_loss(w[0], x, 3)
        assert loss >= best * (1 - 1e-9)
        found_best += loss <= best * (1 + 1e-7)
    assert found_best >= 40


@pytest.mark.parametrize("arguments", [{}, {"nm": "2:4"}, {"granularity": "matrix"}], ids=str)
def test_awp_beats_where_it_starts(arguments):
    W, _, stats = layer(32, 64, n=500)
    errors = {
        solver: solver.solve(W, stats).relative_error(stats)
        for solver in (
            WandaPruner(0.5, **arguments),
            SparseGPTPruner(0.5, **arguments),
            AWP(0.5, **arguments),
            AWP(0.5, init="sparsegpt", **arguments),
            AWP(0.5, init="magnitude", **arguments),
            AWP(0.5, refit=True, **arguments),
        )
    }
    wanda, gpt, awp, from_gpt, from_magnitude, fitted = errors.values()
    assert fitted < awp < 0.8 * gpt < wanda
    assert from_gpt < 0.8 * gpt
    assert from_magnitude < 0.9 * gpt


# ---------------------------------------------------------------- invariances
def problems(n):
    for seed in range(n):
        rng = np.random.default_rng(seed)
        d_in = 4 * int(rng.integers(2, 8))
        W, _, stats = layer(int(rng.integers(1, 7)), d_in, int(rng.integers(d_in, 90)), seed)
        yield W, stats, round(float(rng.uniform(0.2, 0.9)), 2)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"nm": "2:4"},
        {"granularity": "matrix"},
        {"granularity": "block", "block_size": 2},
        {"bits": 3, "grid": "fixed", "group_size": 8, "sparsity": 0.0},
    ],
    ids=str,
)
def test_safe_steps_never_raise_the_loss(arguments):
    for W, stats, sparsity in problems(200):
        solver = AWP(**{"sparsity": sparsity} | arguments, step="lipschitz", max_iter=25, tol=0.0)
        history = np.array(solver.solve(W, stats).history)
        assert (history[1:] <= history[:-1] + 1e-12).all()


def test_the_best_iterate_is_returned():
    """With a step of nearly twice the safe one the loss goes up and down."""
    rose = 0
    for W, stats, sparsity in problems(40):
        step = 1.95 / np.linalg.norm(stats.gram, 2)
        for arguments in ({}, {"granularity": "matrix"}):
            solution = AWP(sparsity, step=step, max_iter=30, tol=0.0, **arguments).solve(W, stats)
            rose += min(solution.history) < solution.history[-1] - 1e-9
            best = min(solution.history)
            error = solution.relative_error(stats) ** 2
            assert error <= best * (1 + 1e-9) + 1e-12
            if arguments:
                assert error == pytest.approx(best, rel=1e-9, abs=1e-12)
    assert rose >= 3


def test_the_gradient_vanishes_on_the_support():
    """Condition number below 100; steps go on to the rounding of the weights."""
    rng = np.random.default_rng(0)
    x, W = rng.normal(size=(400, 20)), rng.normal(size=(5, 20))
    stats = LayerStats.of(x)
    assert np.linalg.cond(stats.gram) < 100
    solver = AWP(0.5, step="lipschitz", tol=1e-10, max_iter=5000)
    solution, fitted = solver.solve(W, stats), Refit(solver).solve(W, stats)
    assert solution.converged
    gradient = ((W - solution.dense()) @ stats.gram)[solution.mask]
    assert abs(gradient).max() < 1e-8 * abs(W @ stats.gram).max()
    assert fitted.relative_error(stats) == pytest.approx(solution.relative_error(stats), rel=1e-6)
    same = AWP(0.5, step="lipschitz", tol=1e-10, max_iter=5000, refit=True).solve(W, stats)
    assert_array_equal(same.dense(), fitted.dense())


def test_order_of_outputs_and_inputs_does_not_matter():
    W, _, stats = layer()
    rng = np.random.default_rng(5)
    outputs, inputs = rng.permutation(6), rng.permutation(24)
    expected = AWP(0.6, max_iter=40).solve(W, stats).dense()
    moved = LayerStats(stats.gram[np.ix_(inputs, inputs)])
    found = AWP(0.6, max_iter=40).solve(W[np.ix_(outputs, inputs)], moved).dense()
    assert_allclose(found, expected[np.ix_(outputs, inputs)], rtol=1e-8, atol=1e-10)


def test_scale_does_not_matter():
    W, _, stats = layer()
    expected = AWP(0.6, max_iter=40).solve(W, stats)
    found = AWP(0.6, max_iter=40).solve(1e3 * W, LayerStats(1e-6 * stats.gram))
    assert_allclose(found.dense(), 1e3 * expected.dense(), rtol=1e-9)
    assert_allclose(found.history, expected.history, rtol=1e-9)


def test_weights_in_any_memory_order():
    W, _, stats = layer()
    expected = AWP(0.6, max_iter=10).solve(W, stats).dense()
    assert_array_equal(AWP(0.6, max_iter=10).solve(np.asfortranarray(W), stats).dense(), expected)


def test_convergence_stops_the_steps():
    W, _, stats = layer()
    solution = AWP(0.5, tol=1e-2, max_iter=500).solve(W, stats)
    assert solution.converged
    assert 0 < solution.n_iter < 500
    assert len(solution.history) == solution.n_iter + 1


# ---------------------------------------------------------------- grids
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("group_size", [24, 7, 100])
def test_grid_rounds_to_the_nearest_point(bits, group_size):
    rng = np.random.default_rng(bits)
    Z = rng.normal(size=(4, 24)) * np.array([[1.0], [1e3], [0.0], [1e-3]])
    Z[1] = abs(Z[1])
    found = Grid(bits, group_size).project(Z)
    for i in range(4):
        for first in range(0, 24, group_size):
            z = Z[i, first : first + group_size]
            expected = reference.on_grid(z, z.min(), z.max(), bits)
            assert_allclose(found[i, first : first + group_size], expected, rtol=1e-13)


def test_constant_groups_are_exact():
    for value in (0.3, -1.7, 0.0):
        Z = np.full((2, 8), value)
        assert_allclose(Grid(3, 4).project(Z), Z, rtol=1e-15)


def distinct_values(V, group_size):
    return max(len(np.unique(row[j : j + group_size]))
               for row in V for j in range(0, len(row), group_size))  # fmt: skip


@pytest.mark.parametrize("grid", ["refit", "fixed"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_quantized_weights_lie_on_few_values(grid, bits):
    W, _, stats = layer(16, 64, n=400)
    solver = AWP(0.0, bits=bits, group_size=32, grid=grid, max_iter=10)
    solution, start = solver.solve(W, stats), AWP(0.0, bits=bits, group_size=32, max_iter=0)
    assert distinct_values(solution.dense(), 32) <= 2**bits
    nearest = Grid(bits, 32).project(W)
    assert_array_equal(start.solve(W, stats).dense(), nearest)
    error, at_start = (
        reference.loss(W, solution.dense(), stats.gram),
        reference.loss(W, nearest, stats.gram),
    )
    assert error <= at_start
    if grid == "refit":
        assert error < at_start


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_rounding_in_turn_is_its_slow_form(sparsity):
    W, _, stats = layer()
    mask = WandaPruner(sparsity).solve(W, stats).mask
    V = np.where(mask, W, 0)
    grid = Grid(3, 24)
    scale, zero = (part[:, 0] for part in grid.levels(V))
    points = (np.arange(8) - zero) * scale
    blocks = iter([mask[:, :7], mask[:, 7:14], mask[:, 14:21], mask[:, 21:]])
    expected, _ = reference.sparse_gpt(V, stats.gram, 0.01, 7, lambda _: next(blocks), points)
    assert_allclose(round_in_turn(LayerProblem(W, stats), V, mask, grid), expected, atol=1e-12)


@pytest.mark.parametrize("grid", ["refit", "fixed"])
@pytest.mark.parametrize("arguments", [{"sparsity": 0.0}, {}, {"nm": "2:4"}], ids=str)
def test_rounding_in_turn_is_the_better_start(grid, arguments):
    W, _, stats = layer(16, 64, n=400)
    arguments = {"bits": 4, "group_size": 32, "grid": grid, "max_iter": 40} | arguments
    found, nearest = (
        AWP(init=init, **arguments).solve(W, stats) for init in ("sparsegpt", "wanda")
    )
    below = 0.85 if "sparsity" in arguments else 1.0  # pruning is most of the error there
    assert found.relative_error(stats) < below * nearest.relative_error(stats)
    assert found.n_bits() == nearest.n_bits()
    assert distinct_values(found.dense(), 32) <= 16
    assert not found.dense()[~found.mask].any()
    if grid == "fixed":
        levels = Grid(4, 32).levels(W)
        assert_allclose(Grid(4, 32).project(found.dense(), levels), found.dense(), atol=1e-13)


@pytest.mark.parametrize("arguments", [{}, {"nm": "2:4"}, {"ramp": 0}, {"ramp": 7}], ids=str)
def test_joint_solutions_are_sparse_and_on_a_grid(arguments):
    W, _, stats = layer(16, 64, n=400)
    solver = AWP(0.5, bits=4, group_size=32, max_iter=40, tol=0.0, **arguments)
    solution = solver.solve(W, stats)
    V = solution.dense()
    assert distinct_values(V, 32) <= 16
    assert ((V != 0).sum(axis=1) <= 32).all()
    if "nm" in arguments:
        assert ((V.reshape(16, 16, 4) != 0).sum(axis=2) <= 2).all()
    one_go = AWP(0.5, bits=4, group_size=32, max_iter=0, **arguments).solve(W, stats)
    assert solution.relative_error(stats) < one_go.relative_error(stats)
    assert not V[~solution.mask].any()


def test_a_ramp_helps_joint_solutions():
    W, _, stats = layer(32, 64, n=500)
    errors = [
        AWP(0.5, bits=4, max_iter=60, ramp=ramp).solve(W, stats).relative_error(stats)
        for ramp in (0, None)
    ]
    assert errors[1] < 0.9 * errors[0]


# ---------------------------------------------------------------- errors
def test_steps_that_are_too_long_are_refused():
    W, _, stats = layer()
    with pytest.raises(FloatingPointError, match='diverged in step .* smaller step, or "lipsch'):
        AWP(0.5, step=100.0, max_iter=2000, tol=0.0).solve(W, stats)
    solution = AWP(0.0, bits=3, step=100.0, max_iter=300, tol=0.0).solve(W, stats)
    assert solution.relative_error(stats) <= AWP(0.0, bits=3, max_iter=0).solve(
        W, stats
    ).relative_error(stats)
    assert not solution.converged


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (AWP(bits=0), "'bits' parameter of AWP"),
        (AWP(bits=4, refit=True), "refit=True would move the weights off their grid"),
        (AWP(group_size=0), "'group_size' parameter"),
        (AWP(grid="free"), "'grid' parameter"),
        (AWP(step=0), "'step' parameter"),
        (AWP(step="long"), "'step' parameter"),
        (AWP(init="zero"), "'init' parameter"),
        (AWP(max_iter=-1), "'max_iter' parameter"),
        (AWP(tol=-1e-3), "'tol' parameter"),
        (AWP(ramp=-1), "'ramp' parameter"),
    ],
)
def test_bad_parameters_are_refused(solver, message):
    W, _, stats = layer()
    with pytest.raises(ValueError, match=message):
        solver.solve(W, stats)


# ---------------------------------------------------------------- on a GPU
GPU = [
    {}, {"nm": "2:4"}, {"granularity": "matrix"}, {"granularity": "block"}, {"refit": True},
    {"step": "lipschitz"}, {"init": "sparsegpt"}, {"sparsity": 0.0, "bits": 4, "max_iter": 10},
    {"bits": 4, "max_iter": 40}, {"bits": 4, "max_iter": 40, "init": "sparsegpt"},
]  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("arguments", GPU, ids=str)
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_gpu_finds_solutions_as_good(arguments, library):
    """Single precision there may part ways with double here: errors agree, not weights."""
    import cupy

    W, _, stats = layer(64, 128, n=600)
    move = cupy.asarray if library == "cupy" else lambda A: torch.from_numpy(A).cuda()
    expected = AWP(**arguments).solve(W, stats)
    found = AWP(**arguments).solve(move(W), LayerStats(move(stats.gram), n_tokens=600))
    assert type(found.dense()) is type(move(W))
    assert int(found.mask.sum()) == int(expected.mask.sum())
    V = to_numpy(found.dense())
    assert not V[~to_numpy(found.mask)].any()
    error = np.sqrt(reference.loss(W, V, stats.gram) / reference.loss(W, 0 * W, stats.gram))
    assert error == pytest.approx(expected.relative_error(stats), rel=2e-2)
