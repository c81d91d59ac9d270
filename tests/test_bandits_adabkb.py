"""AdaBKB: cells and clouds in a box, the posterior under them, fitted kernels."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_bandits_adabkb import SlowAdaBKB, dtc, exact
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import (
    RBF,
    ConstantKernel,
    DotProduct,
    Matern,
    RationalQuadratic,
)

from sparseprob._arrays import to_numpy
from sparseprob.bandits import AdaBKB, BanditWarning
from sparseprob.bandits._box_points import BoxPoints
from sparseprob.bandits._kernel import KernelFunction
from sparseprob.bandits._kernel_fit import Evidence, fit_kernel
from sparseprob.bandits._partition_tree import kernel_radii
from sparseprob.bandits._point_cloud import cloud
from sparseprob.datasets.test_functions import Branin, Hartmann3

ROOT = Path(__file__).parents[1]
SQUARE = np.array([[-1.0, 2.0], [0.0, 1.0]])
MATERN = Matern([0.6, 0.3], nu=2.5)
LAM = 0.01


def wavy(x):
    return np.sin(3 * x[0]) + (0.7321 - x[-1]) * x[-1]


def policy(**parameters):
    settings = {"beta": "posterior", "beta_scale": 2.0, "noise_variance": LAM, "random_state": 0}
    kernel = parameters.pop("kernel", MATERN)
    return AdaBKB(kernel, **(settings | parameters))


def started(n_candidates=300, bounds=SQUARE, **parameters):
    return policy(**parameters).initialize(bounds=bounds, n_candidates=n_candidates)


def told(opt, n_batches, f=wavy):
    for _ in range(n_batches):
        batch = opt.ask()
        opt.tell(batch, [f(x) for x in batch.X])
    return opt


CLOUD = {"discretization": "cloud", "n_initial": 5, "min_batch_size": 4, "max_batch_size": 4}
TREE = {"n_initial": 3, "min_batch_size": 3, "max_batch_size": 3, "max_depth": 8}


# ---- the tree ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "kernel", "parameters"),
    [
        (np.array([[0.0, 1.0]]), Matern([0.2], nu=2.5), {"fnorm": 2.0}),
        (SQUARE, MATERN, {}),
        (SQUARE, ConstantKernel(2.0) * RBF([0.6, 0.5]), {"n_split": 2, "fnorm": 2.0}),
        (SQUARE, DotProduct(1.0) ** 2 + RBF([0.6, 0.3]), {"fnorm": 0.5}),
    ],
)
def test_picks_are_those_of_the_slow_tree(bounds, kernel, parameters):
    """The first evaluations have no symmetry, and so no two cells are equal."""
    lengths = KernelFunction(kernel, len(bounds)).terms
    lengths = np.ptp(bounds, axis=1) if lengths is None else lengths.lengthscales[0]
    initial = bounds[:, 0] + np.array([[0.31], [0.77]]) ** [1, 2][: len(bounds)]
    slow = SlowAdaBKB(
        wavy, kernel, LAM, bounds, lengths, 2 * np.sqrt(LAM), initial, max_depth=6, **parameters
    )
    for _ in range(20):
        slow.step()
    opt = started(
        bounds=bounds, kernel=kernel, qbar=1e9, max_depth=6, initial=initial, **parameters
    )
    opt.run(wavy, 22)
    assert_allclose(opt.points_[opt.history_["index"]], np.array(slow.X), atol=1e-12)


def test_width_of_the_authors():
    """With every point in the dictionary, the determinant is that of the whole matrix."""
    opt = told(started(beta="self-normalized", qbar=1e9, delta=0.1, fnorm=0.7, **TREE), 4)
    X = opt.points_[opt.history_["index"]]
    logdet = np.linalg.slogdet(np.eye(len(X)) + MATERN(X) / LAM)[1]
    expected = np.sqrt(LAM) * 0.7 + np.sqrt(LAM * (logdet + np.log(10)))
    assert_allclose(opt.beta_, 2.0 * expected, rtol=1e-9)


def test_leaves_are_a_partition_and_share_centers():
    opt = told(started(optimizer="fmin_l_bfgs_b", **TREE), 5)  # gives up no cell
    tree = opt._search.tree
    leaves = np.flatnonzero(tree.is_leaf)
    assert_allclose(tree.widths[leaves].prod(axis=1).sum(), 3.0, rtol=1e-12)
    for x in np.random.default_rng(0).uniform(*SQUARE.T, size=(200, 2)):
        centers, sides = opt.points_[tree.numbers[leaves]], tree.widths[leaves]
        inside = (np.abs(x - centers) <= sides / 2 + 1e-12).all(axis=1)
        assert inside.sum() == 1
    assert len(np.unique(opt.points_, axis=0)) == len(opt.points_)
    children = tree.parents >= 0
    same = tree.numbers[children] == tree.numbers[tree.parents[children]]
    assert same.sum() == (~tree.is_leaf).sum()  # the middle one of each cut


@pytest.mark.parametrize(
    "kernel",
    [
        MATERN,
        ConstantKernel(3.0) * RBF([0.6, 0.3]) + RationalQuadratic(0.7, 1.5),
        DotProduct(1.0),
    ],
)
def test_radii_bound_functions_of_the_norm(kernel):
    """Functions of norm 1 move less than the radius, one of them by all of it at the corner."""
    rng = np.random.default_rng(0)
    center, widths = np.array([[0.4, 0.6]]), np.array([[0.5, 0.3]])
    function = KernelFunction(kernel, 2)
    radius = kernel_radii(function, 1.0, center, widths)[0]
    assert_allclose(kernel_radii(function, 2.0, center, widths), 2 * radius)
    inside = center + widths * rng.uniform(-0.5, 0.5, (200, 2))
    for _ in range(50):
        anchors, weights = rng.uniform(*SQUARE.T, size=(6, 2)), rng.normal(size=6)
        weights /= np.sqrt(weights @ kernel(anchors) @ weights)
        moved = (kernel(inside, anchors) - kernel(center, anchors)) @ weights
        assert np.abs(moved).max() <= radius
    corner = center + widths / 2
    ends = np.vstack([center, corner])
    weights = np.array([-1.0, 1.0]) / np.sqrt(np.array([-1, 1]) @ kernel(ends) @ [-1, 1])
    assert_allclose((kernel(corner, ends) - kernel(center, ends)) @ weights, radius, rtol=1e-7)


def test_cells_run_out():
    opt = started(max_cells=20, max_depth=None, beta_scale=0.1)
    with pytest.warns(BanditWarning, match="max_cells=20 cells .* discretization='cloud'"):
        told(opt, 12)
    told(opt, 3)  # said once
    assert opt.n_cells_ <= 22
    assert opt.n_evals_ == 15


# ---- the posterior -------------------------------------------------------------------------------


@pytest.mark.parametrize("qbar", [1e9, 0.3])
@pytest.mark.parametrize("kind", [TREE, CLOUD])
def test_posterior_is_that_of_the_dictionary(kind, qbar):
    opt = told(started(qbar=qbar, **kind), 8)
    ledger = opt._ledger
    dictionary = opt.points_[opt.dictionary_indices_]
    assert (len(dictionary) < len(ledger.indices)) == (qbar < 1)
    expected = dtc(MATERN, LAM, dictionary, ledger.points, ledger.counts, ledger.sums, opt.points_)
    assert_allclose(opt.mean_, expected[0], atol=1e-8)
    assert_allclose(opt.leverage_, expected[1], rtol=1e-7)
    Q = np.random.default_rng(0).uniform(*SQUARE.T, size=(30, 2))
    mean, std = opt.predict(Q, return_std=True)
    expected = dtc(MATERN, LAM, dictionary, ledger.points, ledger.counts, ledger.sums, Q)
    assert_allclose(mean, expected[0], atol=1e-8)
    assert_allclose(std, np.sqrt(LAM * expected[1]), rtol=1e-7)


@pytest.mark.parametrize("qbar", [1e9, 0.3])
@pytest.mark.parametrize("kind", [TREE, CLOUD])
def test_picks_of_a_batch_count_in_the_variances_only(kind, qbar):
    """Pending points are in the dictionary, with a count and no value; the mean is that before."""
    opt = told(started(qbar=qbar, **{**kind, "max_batch_size": 6, "min_batch_size": 6}), 5)
    dictionary = opt.points_[opt.dictionary_indices_]
    ledger = opt._ledger
    opt.ask(5)
    mean, _ = dtc(MATERN, LAM, dictionary, ledger.points, ledger.counts, ledger.sums, opt.points_)
    pending = ledger.unabsorbed_indices
    assert len(pending) == 5
    numbers = np.append(ledger.indices, pending)
    counts = np.append(ledger.counts, np.ones(5))
    larger = opt.points_[np.union1d(opt.dictionary_indices_, pending)]
    _, leverage = dtc(
        MATERN, LAM, larger, opt.points_[numbers], counts, np.zeros(len(numbers)), opt.points_
    )
    assert_allclose(opt.mean_, mean, atol=1e-8)
    assert_allclose(opt.leverage_, leverage, rtol=1e-6)


def test_cloud_picks_are_those_of_the_exact_posterior():
    opt = told(started(qbar=1e9, **CLOUD), 3)
    for _ in range(4):
        X, y = opt.points_[opt.history_["index"]], opt.history_["y"]
        candidates = opt.points_.copy()
        batch, extra = opt.ask(), []
        for x in batch.X:
            mean, variance = exact(MATERN, LAM, X, y, candidates, np.array(extra))
            values = mean + 2 * np.sqrt(variance)
            assert_array_equal(x, candidates[np.argmax(values)])
            extra.append(x)
        assert_array_equal(opt.points_, candidates)
        opt.tell(batch, [wavy(x) for x in batch.X])
    assert_array_equal(opt.points_[batch.indices], batch.X)  # evaluated points stay


def test_posterior_does_not_drift():
    """A hundred updates without building anew, against one build."""
    opt = told(started(qbar=1e9, **{**CLOUD, "min_batch_size": 1, "max_batch_size": 1}), 100)
    ledger, X = opt._ledger, opt.points_
    expected = dtc(MATERN, LAM, ledger.points, ledger.points, ledger.counts, ledger.sums, X)
    assert_allclose(opt.mean_, expected[0], atol=1e-7)
    assert_allclose(opt.leverage_, expected[1], rtol=1e-5)


# ---- batches -------------------------------------------------------------------------------------


def test_batches_end_by_the_rule_of_bbkb():
    settings = {"kernel": RBF(0.5), "noise_variance": 1.0, "qbar": 1e9, "discretization": "cloud"}
    opt = told(started(ratio_threshold=2.0, **settings), 25)
    sizes = opt.batch_sizes_
    assert sizes[-5:].min() > 2
    X, history = opt.points_, opt.history_
    for b in range(1, 1 + len(sizes)):
        before, members = history["batch"] < b, history["index"][history["batch"] == b]
        known = X[history["index"][before]]
        _, variance = exact(RBF(0.5), 1.0, known, np.zeros(len(known)), X[members])
        ratios = 1 + np.cumsum(variance)
        assert ratios[-1] > 2
        assert len(ratios) == 1 or ratios[-2] <= 2
    assert_array_equal(told(started(**settings), 10).batch_sizes_, 1)


@pytest.mark.parametrize("kind", [TREE, CLOUD])
def test_partial_asks_and_shuffled_answers(kind):
    whole, parts = started(**kind), started(**kind)
    rng = np.random.default_rng(0)
    for _ in range(5):
        batch = whole.ask()
        pieces = [piece for n in (2, 1, 5) if len(piece := parts.ask(n))]
        assert_array_equal(np.concatenate([piece.indices for piece in pieces]), batch.indices)
        y = np.array([wavy(x) for x in batch.X])
        whole.tell(batch, y)
        order = rng.permutation(len(batch))
        for row in order:
            parts.tell(batch[row], y[[row]])
    assert_array_equal(whole.mean_, parts.mean_)


@pytest.mark.parametrize("kind", [TREE, CLOUD])
def test_a_saved_policy_goes_on_in_the_same_way(kind, tmp_path):
    opt = told(started(optimizer="fmin_l_bfgs_b", **kind), 4)
    part = opt.ask(2)
    opt.save(tmp_path / "policy.npz")
    loaded, copied = AdaBKB.load(tmp_path / "policy.npz"), copy.deepcopy(opt)
    for other in (opt, loaded, copied):
        other.tell(part, [wavy(x) for x in part.X])
        rest = other.ask()
        other.tell(rest, [wavy(x) for x in rest.X])
        told(other, 3)
    for other in (loaded, copied):
        assert_array_equal(other.points_, opt.points_)
        assert_array_equal(other.history_["index"], opt.history_["index"])
    assert_array_equal(loaded.mean_, opt.mean_)


@pytest.mark.parametrize("kind", [TREE, CLOUD])
def test_flush_learns_from_a_part(kind):
    opt = told(started(qbar=1e9, **kind), 3)
    batch = opt.ask()
    opt.tell(batch[:1], [wavy(batch.X[0])]).flush()
    history, pending = opt.history_, batch.indices[1:]
    known = np.isfinite(history["y"])
    X = opt.points_
    mean, variance = exact(
        MATERN, LAM, X[history["index"][known]], history["y"][known], X, X[pending]
    )
    assert_allclose(opt.mean_, mean, atol=1e-8)
    assert_allclose(LAM * opt.leverage_, variance, rtol=1e-6, atol=1e-9)
    opt.tell(batch[1:], [wavy(x) for x in batch.X[1:]])
    mean, _ = exact(MATERN, LAM, X[history["index"]], [wavy(x) for x in X[history["index"]]], X)
    assert_allclose(opt.predict(X), mean, atol=1e-8)


@pytest.mark.parametrize("kind", [TREE, CLOUD])
def test_failed_evaluations_are_forgotten(kind):
    opt = told(started(qbar=1e9, **kind), 3)
    batch = opt.ask()
    y = [wavy(x) for x in batch.X]
    y[1] = np.nan
    opt.tell(batch, y, failed="drop")
    known = np.isfinite(opt.history_["y"])
    X = opt.points_[opt.history_["index"][known]]
    mean, variance = exact(MATERN, LAM, X, opt.history_["y"][known], opt.points_)
    assert_allclose(opt.mean_, mean, atol=1e-8)
    assert_allclose(LAM * opt.leverage_, variance, rtol=1e-6, atol=1e-9)


def test_points_measured_elsewhere():
    X = np.random.default_rng(0).uniform(*SQUARE.T, size=(12, 2))
    y = [wavy(x) for x in X]
    for kind in (TREE, CLOUD):
        opt = started(qbar=1e9, **kind).observe(X, y)
        assert opt.n_batches_ == 0
        assert_allclose(opt.predict(X), exact(MATERN, LAM, X, np.array(y), X)[0], atol=1e-8)
        told(opt, 2)
        assert opt.n_evals_ == 12 + 2 * kind["min_batch_size"]
    given = started(initial=X, **{**CLOUD, "n_initial": 1})
    assert_array_equal(given.ask().X, X)
    numbers = started(**CLOUD).observe([3, 4], [1.0, 2.0])
    assert_array_equal(numbers.history_["index"], [3, 4])


def test_minimizing_is_maximizing_the_negative():
    up = told(started(**CLOUD), 4)
    down = told(started(maximize=False, **CLOUD), 4, lambda x: -wavy(x))
    assert_array_equal(up.history_["index"], down.history_["index"])
    assert_allclose(down.best_.mean, -up.best_.mean, rtol=1e-12)


def test_same_seed_same_points():
    first, again = (told(started(**CLOUD), 3).points_ for _ in range(2))
    assert_array_equal(first, again)
    assert np.any(told(started(**{**CLOUD, "random_state": 1}), 3).points_ != first)


def test_bounds_of_any_library(xp):
    opt = policy(**CLOUD).initialize(bounds=xp.asarray(SQUARE), n_candidates=300)
    assert_array_equal(told(opt, 2).points_, told(started(**CLOUD), 2).points_)
    given = xp.asarray(SQUARE.T.copy())
    mean = opt.predict(given)
    assert type(mean) is type(given)
    assert_allclose(to_numpy(mean), opt.predict(SQUARE.T), rtol=1e-12)


@pytest.mark.mpi
def test_ranks_agree(mpiexec):
    """Also where every rank would draw another seed."""
    program = """
import numpy as np
from sklearn.gaussian_process.kernels import Matern
from sparseprob import distributed
from sparseprob.bandits import AdaBKB
with distributed() as comm:
    opt = AdaBKB(Matern([0.6, 0.3], nu=2.5), discretization="cloud", n_initial=5,
                 min_batch_size=4, max_batch_size=4, beta="posterior", random_state=None)
    opt.initialize(bounds=[[-1, 2], [0, 1]], n_candidates=200).run(lambda x: x[0] - x[1]**2, 21)
    found = comm.gather(opt.points_[opt.history_["index"]])
    if comm.rank == 0:
        print(all(np.array_equal(found[0], other) for other in found), len(found), opt.n_evals_)
"""
    assert mpiexec(3, program).stdout.split() == ["True", "3", "21"]


# ---- the cloud -----------------------------------------------------------------------------------


def test_cloud_is_everywhere_and_near_the_best():
    rng = np.random.default_rng(0)
    points = BoxPoints(np.array([-1.0, 0.0, 0.0]), np.array([2.0, 1.0, 10.0]))
    best = points.in_box(np.array([[0.5, 0.5, 0.5], [0.2, 0.4, 0.6]]))
    drawn = cloud(best, 4096, points, rng)
    assert drawn.shape == (4096, 3)
    assert np.all((drawn >= points.low) & (drawn <= points.high))
    unit = (drawn - points.low) / (points.high - points.low)
    # Sobol points: the mean of each coordinate is that of the box to their discrepancy
    assert_allclose(unit[:2048].mean(axis=0), 0.5, atol=1e-3)
    away = np.abs(unit[2048::2] - 0.5)
    # log-uniform deviations s in (a, b): the mean of |s z| is (b - a) / log(b / a) * sqrt(2 / pi)
    expected = (0.2 - 0.001) / np.log(200) * np.sqrt(2 / np.pi)
    assert_allclose(away.mean(), expected, atol=4 * away.std() / np.sqrt(away.shape[0]))
    assert (away.max(axis=1) < 0.003).sum() > 50
    wide = BoxPoints(np.zeros(100), np.ones(100))
    moved = cloud(np.full((1, 100), 0.5), 2000, wide, rng)[1000:] != 0.5
    assert_allclose(moved.sum(axis=1).mean(), 20.8, atol=0.6)  # 20, and one that always moves
    assert moved.any(axis=1).all()


def test_cloud_finds_the_optima():
    for function, tolerance in ((Branin(), 1e-3), (Hartmann3(), 1e-3)):
        opt = AdaBKB(
            optimizer="fmin_l_bfgs_b", noise_variance=1e-6, maximize=False, beta="posterior",
            beta_scale=2.0, random_state=0, normalize_y="initial", **{**CLOUD, "n_initial": 12},
        )  # fmt: skip
        opt.initialize(bounds=function.bounds, n_candidates=1000).run(function, 72)
        regret = function(opt.points_[opt.history_["index"]]).min() - function.optimum_value
        assert regret < tolerance


# ---- fitted kernels ------------------------------------------------------------------------------

KERNELS = [
    RBF(0.3),
    ConstantKernel(2.0) * RBF([0.3, 0.4, 0.5]),
    Matern(0.5, nu=0.5) + ConstantKernel(0.5) * Matern([0.1, 0.2, 1.0], nu=1.5),
    Matern([0.3, 0.2, 0.9], nu=2.5) * ConstantKernel(3.0, "fixed"),
    ConstantKernel(3.0) * RationalQuadratic(0.4, 0.7),
    DotProduct(1.0),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_evidence_is_that_of_scikit_learn(kernel):
    rng = np.random.default_rng(0)
    X, y, noise = rng.random((40, 3)), rng.normal(size=40), rng.uniform(0.05, 0.2, 40)
    X[1] = X[0]  # repeated points: no slope by the distance of nothing
    peer = GaussianProcessRegressor(kernel, alpha=noise, optimizer=None).fit(X, y)
    value, gradient = peer.log_marginal_likelihood(kernel.theta, eval_gradient=True)
    loss, slope = Evidence(kernel, X, y, noise).loss(kernel.theta)
    assert_allclose(loss, -value, rtol=1e-10)
    assert_allclose(slope, -gradient, rtol=1e-7, atol=1e-7 * np.abs(gradient).max())


def test_fitted_kernel_is_no_worse_than_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    X, start = rng.random((80, 2)), ConstantKernel(1.0) * Matern([0.5, 0.5], nu=2.5)
    truth = ConstantKernel(4.0) * Matern([0.2, 0.8], nu=2.5)
    y = rng.multivariate_normal(np.zeros(80), truth(X) + 0.01 * np.eye(80), method="cholesky")
    ours = fit_kernel(start, X, y, np.ones(80), 0.01)
    peer = GaussianProcessRegressor(start, alpha=0.01).fit(X, y)
    assert peer.log_marginal_likelihood(ours.theta) >= peer.log_marginal_likelihood_value_ - 1e-4
    assert_array_equal(start.theta, np.log([1.0, 0.5, 0.5]))  # the given one is not changed
    # 3 values each at some points: the same as their means with a third of the noise
    means = y.reshape(-1, 4).mean(axis=1)
    few = fit_kernel(start, X[:20], means, np.full(20, 4), 0.04)
    same = fit_kernel(start, X[:20], means, np.ones(20), 0.01)
    assert_array_equal(few.theta, same.theta)
    fixed = RBF(0.2, "fixed")
    assert fit_kernel(fixed, X, y, np.ones(80), 0.01) is fixed
    spread = fit_kernel(start, X, y, np.ones(80), 0.01, n_hyper=40)
    rows = np.linspace(0, 79, 40).round().astype(int)
    assert_array_equal(spread.theta, fit_kernel(start, X[rows], y[rows], np.ones(40), 0.01).theta)


def test_kernel_is_refitted_as_often_as_asked():
    def kernels(**parameters):
        opt, seen = started(kernel=None, **{**CLOUD, **parameters}), []
        for _ in range(7):
            told(opt, 1)
            seen.append(opt.kernel_)
        return opt, seen

    opt, seen = kernels(optimizer="fmin_l_bfgs_b", refit_every=3, qbar=1e9)
    assert [a is b for a, b in zip(seen, seen[1:], strict=False)] == [
        True, True, False, True, True, False,
    ]  # fmt: skip
    assert opt.kernel is None
    ledger = opt._ledger
    X, counts = ledger.points, ledger.counts
    last = fit_kernel(
        ConstantKernel(1.0) * Matern([1.5, 0.5], nu=2.5), X, ledger.sums / counts, counts, LAM,
        starts=(seen[-2],),
    )  # fmt: skip
    assert_allclose(seen[-1].theta, last.theta, rtol=1e-12)
    mean, _ = dtc(seen[-1], LAM, X, X, counts, ledger.sums, X)
    assert_allclose(opt.predict(X), mean, atol=1e-6)
    _, seen = kernels()
    assert_allclose(np.exp(seen[-1].theta), [0.6, 0.2])


# ---- bad input -----------------------------------------------------------------------------------


def test_bad_input():
    with pytest.raises(ValueError, match="searches a box: give its bounds"):
        policy().initialize(np.zeros((5, 2)))
    with pytest.raises(ValueError, match="searches a box: give its bounds"):
        policy().initialize()
    with pytest.raises(ValueError, match="finite with low < high"):
        policy().initialize(bounds=[[0, 1], [1, 1]])
    with pytest.raises(ValueError, match="n_candidates must be a positive integer, got 0"):
        started(n_candidates=0)
    with pytest.raises(ValueError, match="max_batch_size=2 is less than min_batch_size=3"):
        started(min_batch_size=3, max_batch_size=2)
    with pytest.raises(ValueError, match=r"initial must hold points of shape \(n, 2\)"):
        started(initial=[[0.1, 0.2, 0.3]])
    with pytest.raises(ValueError, match="initial holds a point outside the bounds"):
        started(initial=[[0.1, 1.2]])
    with pytest.raises(ValueError, match="'discretization' parameter"):
        started(discretization="grid")
    with pytest.raises(ValueError, match="'ratio_threshold' parameter"):
        started(ratio_threshold=0.5)
    with pytest.raises(ValueError, match="'n_split' parameter"):
        started(n_split=1)
    with pytest.raises(TypeError, match="kernel must be a kernel object"):
        started(kernel="rbf")
    with pytest.raises(NotFittedError, match="call initialize"):
        policy().ask()
    opt = started(**CLOUD)
    n_points = len(opt.points_)
    with pytest.raises(ValueError, match="y must have one value for each of 2"):
        opt.observe(SQUARE.T, [1.0])
    assert len(opt.points_) == n_points
    assert clone(policy()).get_params() == policy().get_params()


# ---- the benchmark -------------------------------------------------------------------------------


def test_program_measures_its_claims(tmp_path):
    output = tmp_path / "results.json"
    command = [
        sys.executable,
        ROOT / "benchmarks/bandits_hartmann.py",
        "--quick",
        "--output",
        output,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    content = json.loads(output.read_text())
    regrets = {name: found[0]["regrets"] for name, found in content["runs"]["0"].items()}
    assert set(regrets) == {"random", "cloud", "tree", "sobol"}
    for found in regrets.values():
        assert len(found) == 10
        assert np.all(np.diff(found) <= 0)
        assert found[0] == regrets["random"][0]  # the same first batch
    assert regrets["cloud"][-1] < 0.25 < regrets["random"][-1]
    assert len(content["rows"]) == 4
