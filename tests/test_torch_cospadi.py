"""Layers as sparse codes over learned atoms: errors, sizes, groups, and the layer that runs."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from reference_torch_factorization import dense_codes, relative_error  # noqa: E402
from sklearn.base import clone  # noqa: E402
from torch_layer_checks import CHECKS  # noqa: E402

from sparseprob._arrays import to_numpy  # noqa: E402
from sparseprob.dictionary._ksvd_loop import ksvd  # noqa: E402
from sparseprob.torch import compress  # noqa: E402
from sparseprob.torch.calibration import LayerStats  # noqa: E402
from sparseprob.torch.layers import DictionaryLinear  # noqa: E402
from sparseprob.torch.solvers import CoSpaDi, LowRank  # noqa: E402


def layer(d_out=40, d_in=24, n=300, seed=0):
    """Weight and inputs whose scales and correlations differ."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d_in, d_in)) * np.logspace(0, -1.5, d_in)
    return rng.normal(size=(d_out, d_in)), rng.normal(size=(n, d_in)) @ mixing


def solver(**parameters):
    return CoSpaDi(**({"max_iter": 8, "random_state": 0} | parameters))


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (30, 30)])
def test_error_of_the_gram_is_that_of_the_activations(shape):
    W, X = layer(*shape)
    solution = solver(compression=0.4).solve(W, LayerStats.of(X))
    found = solution.relative_error(LayerStats.of(X))
    assert_allclose(found, relative_error(W, solution.dense(), X), rtol=1e-10)
    # The last entry of the history counts the damping of the Gram matrix too.
    assert_allclose(solution.history[-1], found**2, rtol=1e-3)
    codes = dense_codes(solution.indices, solution.values, solution.dictionary.shape[1])
    assert_allclose(solution.dense(), codes @ solution.dictionary.T, atol=1e-12)
    assert_allclose(np.linalg.norm(solution.dictionary, axis=0), 1, rtol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_iterations_never_raise_the_error(seed):
    W, X = layer(seed=seed)
    for init in ("random", "svd"):
        history = solver(compression=0.4, init=init, random_state=seed)
        history = np.array(history.solve(W, LayerStats.of(X)).history)
        assert (np.diff(history) <= 1e-12).all()
        assert history[-1] < 0.9 * history[0]


def test_a_gram_of_one_is_plain_ksvd():
    W, _ = layer()
    stats = LayerStats(np.eye(24), n_tokens=100)
    found = ksvd(
        W, 12, 3, max_iter=8, init="random", rng=np.random.RandomState(3).randint(2**31 - 1)
    )
    expected = dense_codes(to_numpy(found.indices), found.values, 12) @ found.components
    options = {"n_atoms": 12, "n_nonzero": 3, "init": "random", "random_state": 3}
    for solution in (
        solver(damp=0.0, **options).solve(W, stats),
        solver(whiten=False, **options).solve(W),
    ):
        assert_allclose(solution.dense(), expected, atol=1e-10)
        assert_array_equal(solution.indices, found.indices)


def test_started_from_low_rank_it_never_loses_to_low_rank():
    W, X = layer()
    stats = LayerStats.of(X)
    for rank in (2, 6):
        low = LowRank(rank=rank).solve(W, stats).relative_error(stats)
        found = solver(n_atoms=rank, n_nonzero=rank, init="svd", max_iter=3).solve(W, stats)
        assert found.relative_error(stats) <= low * (1 + 1e-9)
        wider = solver(n_atoms=3 * rank, n_nonzero=rank, init="svd").solve(W, stats)
        assert wider.relative_error(stats) < low


def test_more_atoms_than_dimensions_or_rows():
    W, X = layer(20, 8)
    stats, errors = LayerStats.of(X), []
    W[3] = 0
    for n_atoms in (8, 16, 40):
        solution = solver(n_atoms=n_atoms, n_nonzero=2).solve(W, stats)
        assert solution.dictionary.shape == (8, n_atoms)
        errors.append(solution.relative_error(stats))
    assert errors[0] > errors[1] > errors[2]
    assert_allclose(errors[2], 0, atol=1e-6)  # an atom for every row


def test_planted_atoms_are_found():
    rng = np.random.default_rng(0)
    D, S = rng.normal(size=(20, 40)), np.zeros((1500, 40))
    D /= np.linalg.norm(D, axis=0)
    for row in S:
        row[rng.choice(40, 3, replace=False)] = rng.normal(size=3)
    inputs = rng.normal(size=(500, 20)) * np.linspace(0.7, 1.4, 20)
    stats, options = LayerStats.of(inputs), {"n_atoms": 40, "n_nonzero": 3, "damp": 0.0}
    options["init"] = "random"
    shares = []
    for seed in range(3):
        solution = solver(max_iter=60, random_state=seed, **options).solve(S @ D.T, stats)
        shares.append((abs(solution.dictionary.T @ D).max(axis=0) > 0.99).mean())
    assert max(shares) >= 0.9


def test_it_beats_low_rank_on_a_union_of_subspaces():
    """What it is for: rows of the weight in several planes, which no low rank holds."""
    rng = np.random.default_rng(0)
    planes = rng.normal(size=(16, 3, 48))
    W = np.concatenate([rng.normal(size=(20, 3)) @ plane for plane in planes])
    stats = LayerStats.of(layer(4, 48)[1])
    low, ours = LowRank(0.6), solver(compression=0.6, rho=16.0, init="random", max_iter=20)
    low, ours = low.solve(W, stats), ours.solve(W, stats)
    assert ours.n_bits(index="bitmask") <= 0.4 * 16 * W.size
    assert ours.relative_error(stats) < 0.6 * low.relative_error(stats)


@pytest.mark.parametrize("compression", [0.2, 0.4])
def test_order_of_methods_on_a_layer_like_trained_ones(compression):
    """Singular values that decay, inputs that are correlated: whitening first, then codes."""
    rng = np.random.default_rng(0)
    factors = [np.linalg.qr(rng.normal(size=(96, 96)))[0] for _ in range(3)]
    W = factors[0] * np.logspace(0, -1, 96) @ factors[1].T + 0.02 * rng.normal(size=(96, 96))
    X = rng.normal(size=(2000, 96)) * np.logspace(0, -2, 96) @ factors[2]
    stats = LayerStats.of(X)
    plain, whitened, ours = (
        method.solve(W, stats).relative_error(stats)
        for method in (
            LowRank(compression, whiten=False),
            LowRank(compression),
            solver(compression=compression, max_iter=20),
        )
    )
    assert ours < 0.97 * whitened < 0.6 * plain


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (100, 7), (7, 100), (384, 1536)])
@pytest.mark.parametrize("compression", [0.0, 0.2, 0.55])
@pytest.mark.parametrize("rho", [1.0, 2.0, 3.5])
def test_sizes_are_the_largest_that_save_enough(shape, compression, rho):
    d_out, d_in = shape
    k, s = CoSpaDi(compression, rho=rho)._sizes(d_out, d_in)
    assert s == max(1, int(k / rho))

    def saved(k, s):
        return 1 - (d_in * k + s * d_out + k * d_out / 16) / (d_in * d_out)

    assert saved(k, s) >= compression - 1e-12
    assert saved(k + 1, (k + 1) / rho) < compression
    k, s = CoSpaDi(compression, n_nonzero=2)._sizes(d_out, d_in)
    assert saved(k, s) >= compression > saved(k + 1, s)


def test_bits_are_those_of_the_formula():
    W, X = layer()
    solution = solver(n_atoms=10, n_nonzero=3).solve(W, LayerStats.of(X))
    assert solution.n_params == 24 * 10 + 40 * 3
    assert solution.n_bits(index="bitmask") == 16 * 360 + 400
    assert solution.n_bits(8, index="coo") == 8 * 360 + 4 * 120
    assert solution.n_bits() == 16 * 360 + 400
    with pytest.raises(ValueError, match="index must be 'bitmask', 'coo' or None, got 'csr'"):
        solution.n_bits(index="csr")


def test_groups_share_one_dictionary():
    W, X = layer()
    weights, stats = [W, 2 * W[:10] + 1], [LayerStats.of(X), LayerStats.of(X[:100] ** 3)]
    solutions = solver(compression=0.3).solve_group(weights, stats)
    first, second = solutions
    assert first.dictionary is second.dictionary
    assert [s.shape for s in solutions] == [(40, 24), (10, 24)]
    assert [s.method for s in solutions] == ["CoSpaDi", "CoSpaDi"]
    assert [s.n_sharing for s in solutions] == [2, 2]
    k, s = solver(compression=0.3)._sizes(50, 24)
    assert sum(x.n_params for x in solutions) == 24 * k + 50 * s
    assert sum(x.n_bits(index="bitmask") for x in solutions) <= 0.7 * 16 * 50 * 24
    joint = solver(compression=0.3).solve(np.concatenate(weights), stats[0].merge(stats[1]))
    assert_array_equal(np.concatenate([x.dense() for x in solutions]), joint.dense())
    alone = solver(compression=0.3).solve_group([W], [stats[0]])[0]
    assert_array_equal(alone.dense(), solver(compression=0.3).solve(W, stats[0]).dense())


def test_modules_of_a_group_share_one_parameter():
    W, X = layer()
    weights = [torch.tensor(A) for A in (W, W[:10], W[10:])]
    stats = [LayerStats.of(torch.tensor(X))] * 3
    solutions = solver(compression=0.3).solve_group(weights, stats)
    modules = [solution.to_module() for solution in solutions]
    assert all(module.dictionary is modules[0].dictionary for module in modules)
    again = [solution.to_module() for solution in solutions]
    assert all(module.dictionary is again[0].dictionary for module in again)
    assert again[0].dictionary is not modules[0].dictionary
    model = torch.nn.ModuleList(modules)
    assert len(list(model.parameters())) == 4
    copied = copy.deepcopy(model)
    assert copied[0].dictionary is copied[2].dictionary
    x = torch.randn(5, 24, dtype=torch.float64)
    sum(module(x).sum() for module in model[:1]).backward()
    one = model[0].dictionary.grad.clone()
    model.zero_grad()
    sum(module(x).sum() for module in model).backward()
    assert not torch.allclose(model[0].dictionary.grad, one)
    for module, solution in zip(modules, solutions, strict=True):
        torch.testing.assert_close(module.dense_weight(), solution.dense())


@pytest.mark.parametrize(
    ("weights", "n_stats", "message"),
    [
        ([], 0, "A group needs at least one layer"),
        ([np.ones((4, 5)), np.ones((4, 6))], 2, r"equally many inputs, got \[5, 6\]"),
        ([np.ones((4, 5)), np.ones((4, 5), np.float32)], 2, "of one type and on one device"),
        ([np.ones((4, 5)), np.ones((4, 5))], 1, "Got 2 weights but 1 statistics"),
        ([np.ones((4, 5)), np.ones((4, 5))], None, "CoSpaDi needs statistics of the inputs"),
    ],
)
def test_groups_that_do_not_fit_are_refused(weights, n_stats, message):
    stats = None if n_stats is None else [LayerStats(np.eye(5), n_tokens=9)] * n_stats
    with pytest.raises(ValueError, match=message):
        solver().solve_group(weights, stats)


@pytest.mark.parametrize("replace", ["dense", "module"])
def test_models_compressed_in_groups_count_a_dictionary_once(replace):
    torch.manual_seed(0)
    parts = (torch.nn.Linear(24, 24), torch.nn.ReLU(), torch.nn.Linear(24, 32))
    model, batches = torch.nn.Sequential(*parts), [torch.randn(100, 24)]
    method = solver(compression=0.3)
    small, report = compress(
        model, method, batches, groups=[["0", "2"]], replace=replace, mode="one_shot"
    )
    k, s = method._sizes(56, 24)
    expected = 16 * (24 * k + 56 * s) + min(56 * k, 56 * s * int(np.ceil(np.log2(k))))
    assert sum(row["bits_after"] for row in report.to_dict()["rows"]) == expected
    if replace == "module":
        assert small[0].dictionary is small[2].dictionary
    errors = [row["rel_error"] for row in report.to_dict()["rows"]]
    assert all(0 < error < 0.6 for error in errors)


def test_groups_need_numbers_of_tokens():
    stats = [LayerStats(np.eye(24)), LayerStats(np.eye(24))]
    with pytest.raises(ValueError, match="Only statistics with n_tokens can be merged"):
        solver().solve_group([layer()[0]] * 2, stats)


def test_dead_inputs_are_left_out():
    W, X = layer()
    X[:, 4] = 0
    solution = solver().solve(W, LayerStats.of(X))
    assert (solution.dense()[:, 4] == 0).all()
    assert np.isfinite(solution.dense()).all()
    assert solution.relative_error(LayerStats.of(X)) < 0.5


def test_weights_of_zeros_stay():
    solution = solver().solve(np.zeros((40, 24)), LayerStats.of(layer()[1]))
    assert (solution.dense() == 0).all()
    assert solution.relative_error() == 0


def test_libraries_and_types_are_those_of_the_weight(xp):
    if xp.name == "array_api_strict":
        pytest.skip("solvers take tensors, NumPy and CuPy arrays")
    W, X = layer()
    expected = solver(compression=0.3).solve(W, LayerStats.of(X))
    stats = LayerStats.of(xp.asarray(X))
    found = solver(compression=0.3).solve(xp.asarray(W), stats)
    assert type(found.dense()) is type(xp.asarray(W))
    if xp.name == "cupy":  # in single precision greedy choices differ, errors hardly
        assert_allclose(
            found.relative_error(stats), expected.relative_error(LayerStats.of(X)), rtol=0.05
        )
    else:
        assert_allclose(to_numpy(found.dense()), expected.dense(), atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_narrow_layers_keep_their_type_and_their_accuracy(dtype):
    W, X = layer()
    weight, stats = torch.tensor(W).to(dtype), LayerStats.of(torch.tensor(X))
    before = weight.clone()
    solution = solver(compression=0.2).solve(weight, stats)
    module = solution.to_module(torch.zeros(40, dtype=dtype))
    assert {p.dtype for p in module.parameters()} == {dtype}
    assert torch.equal(weight, before)
    V = module.double().dense_weight().detach().numpy()
    exact = solution.relative_error(stats)
    assert abs(relative_error(weight.double().numpy(), V, X) - exact) < 0.02


def test_same_seed_same_layer():
    W, X = layer()
    a, b, c = (
        solver(init="random", random_state=s).solve(W, LayerStats.of(X)).dense() for s in (1, 1, 2)
    )
    assert_array_equal(a, b)
    assert abs(a - c).max() > 1e-3


def test_parameters_and_copies():
    ours = clone(CoSpaDi(0.5, n_atoms=30)).set_params(n_nonzero=3, whiten=False)
    assert repr(ours) == "CoSpaDi(compression=0.5, n_atoms=30, n_nonzero=3, whiten=False)"
    assert not ours.needs_calibration
    assert CoSpaDi().needs_calibration


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"compression": 1.0}, r"compression.*must be a float in the range \[0.0, 1.0\)"),
        ({"compression": 0.99}, r"leaves no room for an atom in a weight of shape \(40, 24\)"),
        ({"n_nonzero": 20, "compression": 0.5}, "leaves no room for an atom"),
        ({"n_atoms": 10, "n_nonzero": 11}, r"n_nonzero must be at most 10 for 10 atoms .* got 11"),
        ({"n_atoms": 99, "n_nonzero": 25}, "n_nonzero must be at most 24"),
        ({"rho": 0.5}, "rho.*must be a float in the range"),
        ({"init": "zeros"}, "init.*must be a str among"),
        ({"max_iter": 0}, "max_iter.*must be an int"),
        ({"n_power_iterations": 0}, "n_power_iterations.*must be an int"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters, message):
    W, X = layer()
    with pytest.raises(ValueError, match=message):
        CoSpaDi(**parameters).solve(W, LayerStats.of(X))


def test_missing_statistics_are_named():
    with pytest.raises(ValueError, match="CoSpaDi needs statistics of the inputs"):
        CoSpaDi().solve(layer()[0])


# Few non-zeros are summed up, many are multiplied as a matrix.
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("sizes", [(12, 2), (6, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_layer(check, sizes, bias):
    torch.manual_seed(0)
    options = {"bias": bias, "dtype": torch.float64}
    ours, fresh = (DictionaryLinear(9, 7, *sizes, **options) for _ in range(2))
    assert not torch.equal(ours.indices, fresh.indices)
    check(ours, fresh)


def test_both_ways_to_sum_agree_where_atoms_repeat():
    torch.manual_seed(0)
    sparse = DictionaryLinear(9, 7, 12, 3, dtype=torch.float64)
    sparse.indices[:, 1] = sparse.indices[:, 0]
    x = torch.randn(5, 9, dtype=torch.float64)
    codes = dense_codes(sparse.indices.numpy(), sparse.values.detach().numpy(), 12)
    expected = x @ sparse.dictionary @ torch.tensor(codes).T + sparse.bias
    torch.testing.assert_close(sparse(x), expected)
    torch.testing.assert_close(sparse.dense_weight(), torch.tensor(codes) @ sparse.dictionary.T)


def test_fresh_layers_vary_as_linear_ones():
    torch.manual_seed(0)
    x = torch.randn(2000, 100)
    ours = DictionaryLinear(100, 200, 50, 5, bias=False)(x)
    assert 0.8 < ours.std() / torch.nn.Linear(100, 200)(x).std() < 1.2


def test_outputs_are_contiguous_as_those_of_linear_layers():
    for sizes in ((12, 2), (6, 4)):
        assert DictionaryLinear(9, 6, *sizes)(torch.randn(4, 5, 9)).view(20, 6).shape == (20, 6)


def test_from_linear():
    torch.manual_seed(0)
    linear, X = torch.nn.Linear(24, 40), torch.tensor(layer()[1], dtype=torch.float32)
    near = DictionaryLinear.from_linear(linear, 0.3, random_state=0)
    better = DictionaryLinear.from_linear(linear, 0.3, stats=LayerStats.of(X), random_state=0)
    assert torch.equal(near.bias, linear.bias)
    assert (better(X) - linear(X)).norm() < (near(X) - linear(X)).norm() < linear(X).norm()
    assert (near.dense_weight() - linear.weight).norm() < 0.5 * linear.weight.norm()


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="n_nonzero must be between 1 and n_atoms=4, got 5"):
        DictionaryLinear(9, 7, 4, 5)


DIFFERENT_LAYERS = """
import numpy as np
from sparseprob import distributed, mpi
from sparseprob.torch.solvers import CoSpaDi

solver = CoSpaDi(0.3, whiten=False, max_iter=3, random_state=0)
with distributed():
    assert mpi.n_ranks() == 2
    W = np.random.default_rng(mpi.rank()).normal(size=(30, 12))
    found = solver.solve(W).dense()
assert np.array_equal(found, solver.solve(W).dense())
print("equal")
"""


@pytest.mark.mpi
def test_ranks_solve_layers_of_their_own(mpiexec):
    assert mpiexec(2, DIFFERENT_LAYERS).stdout.count("equal") == 2


@pytest.mark.gpu
def test_gpu_layers_agree_with_the_cpu():
    torch.manual_seed(0)
    for sizes in ((12, 2), (6, 4)):
        ours = DictionaryLinear(9, 7, *sizes)
        x = torch.randn(5, 9)
        found = copy.deepcopy(ours).cuda()(x.cuda()).cpu()
        torch.testing.assert_close(found, ours(x), rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
def test_gpu_tensors_give_errors_of_the_cpu():
    W, X = layer(200, 150, n=1000)
    stats, on_gpu = LayerStats.of(X), LayerStats.of(torch.tensor(X, device="cuda"))
    expected = solver(compression=0.4).solve(W, stats)
    weight = torch.tensor(W, device="cuda", dtype=torch.float32)
    found = solver(compression=0.4).solve(weight, on_gpu)
    assert_allclose(found.relative_error(on_gpu), expected.relative_error(stats), rtol=0.03)
    assert found.to_module().indices.device.type == "cuda"
    group = solver(compression=0.4).solve_group([weight, weight[:50]], [on_gpu, on_gpu])
    assert [x.dense().shape[0] for x in group] == [200, 50]
