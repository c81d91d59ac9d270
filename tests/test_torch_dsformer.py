"""Dense times semi-structured sparse: factors, their training straight through, and freezing."""

import copy

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

torch = pytest.importorskip("torch")

from reference_torch_factorization import (  # noqa: E402
    best_segment_code,
    dense_codes,
    relative_error,
)
from sklearn.base import clone  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch_layer_checks import CHECKS  # noqa: E402

from sparseprob._arrays import to_numpy  # noqa: E402
from sparseprob._kernels import _segments_numba as segments  # noqa: E402
from sparseprob.torch import apply_stf, freeze_stf  # noqa: E402
from sparseprob.torch.calibration import LayerStats  # noqa: E402
from sparseprob.torch.layers import DenseSparseLinear, DictionaryLinear  # noqa: E402
from sparseprob.torch.solvers import DSFormer, LowRank  # noqa: E402
from sparseprob.torch.solvers._alternation import (  # noqa: E402
    Pattern,
    alternate,
    first_factors,
)

PATTERNS = [
    Pattern(12, 4),
    Pattern(12, 6, "segment", 3),
    Pattern(12, 12),
    Pattern(40, 5),
    Pattern(12, 4, "topk"),
]


def weight(d_out=40, d_in=24, seed=0):
    return np.random.default_rng(seed).normal(size=(d_out, d_in))


def inputs(d_in=24, n=300, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d_in)) @ (rng.normal(size=(d_in, d_in)) * np.logspace(0, -1, d_in))


# ---------------------------------------------------------------- codes
@pytest.mark.parametrize("pattern", PATTERNS[:4])
def test_places_lie_in_their_segments_and_differ(pattern):
    A = weight(30, 10)
    D, indices, values = first_factors(A, pattern)
    for _ in range(4):
        D, _ = alternate(A, D, indices, values, pattern)
    expected = np.arange(pattern.n_nonzero) // pattern.n_per_segment
    assert_array_equal(indices // pattern.segment, np.broadcast_to(expected, indices.shape))
    assert all(len(set(row)) == pattern.n_nonzero for row in indices)


def test_a_pass_is_coordinate_descent_by_definition():
    rng = np.random.default_rng(0)
    A, D, pattern = rng.normal(size=(6, 8)), rng.normal(size=(12, 8)), Pattern(12, 6, "segment", 2)
    indices = np.tile(pattern.first_places(), (6, 1))
    values = rng.normal(size=(6, 6))
    expected_places, expected_values = indices.copy(), values.copy()
    for a, places, x in zip(A, expected_places, expected_values, strict=True):
        for p in range(6):
            rest = a - sum(x[q] * D[places[q]] for q in range(6) if q != p)
            taken = [places[q] for q in range(p // 2 * 2, p // 2 * 2 + 2) if q != p]
            free = [c for c in range(p // 2 * 4, p // 2 * 4 + 4) if c not in taken]
            gains = {c: (D[c] @ rest) ** 2 / (D[c] @ D[c]) for c in free}
            best = max(gains, key=gains.get)
            places[p], x[p] = best, D[best] @ rest / (D[best] @ D[best])
    B = A @ D.T
    segments.update_segment_codes(D @ D.T, B, indices, values, 2)
    assert_array_equal(indices, expected_places)
    assert_allclose(values, expected_values, rtol=1e-10)
    residual = A - dense_codes(indices, values, 12) @ D
    assert_allclose(B, residual @ D.T, atol=1e-12)


def test_codes_are_near_the_best_of_all_choices():
    """Descent ends in a local optimum: never below the best of 27 supports, at times at it."""
    n_best = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        a, D = rng.normal(size=(1, 6)), rng.normal(size=(9, 6))
        indices, values = np.array([[0, 3, 6]], dtype=np.int32), np.zeros((1, 3))
        for _ in range(100):
            segments.update_segment_codes(D @ D.T, a @ D.T, indices, values, 1)
        found = ((a - values @ D[indices[0]]) ** 2).sum()
        best = best_segment_code(a[0], D, 3)
        assert found >= best - 1e-10
        n_best += found <= best + 1e-8
    assert n_best >= 8


@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_alternation_never_raises_the_error(pattern, seed):
    A = np.ascontiguousarray(weight(30, 10, seed))
    D, indices, values = first_factors(A, pattern)
    errors = [(A**2).sum()]
    for _ in range(15):
        before = D
        D, residual = alternate(A, D, indices, values, pattern)
        S = dense_codes(indices, values, pattern.n_atoms)
        errors += [((A - S @ before) ** 2).sum(), (residual**2).sum()]
        used = (S != 0).any(axis=0)
        assert_allclose(A - S @ np.where(used[:, None], D, 0), residual, atol=1e-9)
    assert (np.diff(errors) <= 1e-9 * errors[0]).all()


def test_atoms_without_users_point_along_the_worst_rows():
    A = np.ascontiguousarray(weight(30, 10))
    pattern = Pattern(12, 4)
    D, indices, values = first_factors(A, pattern)
    D[[1, 5]] = 0  # nobody can use these
    D, residual = alternate(A, D, indices, values, pattern)
    worst = np.argsort(-(residual**2).sum(axis=1))[:2]
    expected = residual[worst] / np.linalg.norm(residual[worst], axis=1, keepdims=True)
    assert_allclose(D[[1, 5]], expected, rtol=1e-12)


def test_threads_do_not_change_codes(monkeypatch):
    import numba

    monkeypatch.setattr(segments, "_SHARED", 0)
    A = np.ascontiguousarray(weight(200, 24))
    found = []
    for n_threads in (1, numba.config.NUMBA_NUM_THREADS):
        before = numba.get_num_threads()
        numba.set_num_threads(n_threads)
        D, indices, values = first_factors(A, PATTERNS[0])
        D, _ = alternate(A, D, indices, values, PATTERNS[0])
        numba.set_num_threads(before)
        found.append((D, indices, values))
    for a, b in zip(*found, strict=True):
        assert_array_equal(a, b)


# ---------------------------------------------------------------- solver
def test_errors_are_those_of_the_factors():
    W, X = weight(), inputs()
    for solver in (DSFormer(0.5), DSFormer(0.5, whiten=True), DSFormer(0.5, pattern="topk")):
        solution = solver.solve(W, LayerStats.of(X))
        codes = dense_codes(solution.indices, solution.values, solution.dictionary.shape[1])
        V = codes @ solution.dictionary.T
        assert_allclose(solution.dense(), V, atol=1e-12)
        found = solution.relative_error(LayerStats.of(X) if solver.whiten else None)
        X_ = X if solver.whiten else np.eye(24)
        assert_allclose(found, relative_error(W, V, X_), rtol=1e-10)
        assert_allclose(solution.history[-1], found**2, rtol=1e-3)
        assert (np.diff(solution.history) <= 1e-12).all()
        assert solution.n_iter == 20


def test_whitening_lowers_the_error_of_the_outputs():
    W, stats = weight(), LayerStats.of(inputs())
    plain, whitened = (DSFormer(0.5, whiten=w).solve(W, stats) for w in (False, True))
    assert whitened.relative_error(stats) < 0.8 * plain.relative_error(stats)


def test_one_atom_a_segment_and_full_rank_is_exact():
    W = weight()
    solution = DSFormer(n_atoms=24, n_nonzero=24).solve(W)
    assert_allclose(solution.dense(), W, atol=1e-10)
    low = DSFormer(n_atoms=10, n_nonzero=10, max_iter=40).solve(W)
    assert_allclose(low.relative_error(), LowRank(rank=10, whiten=False).solve(W).relative_error())


def test_it_beats_low_rank_where_outputs_fall_into_groups():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(4, 8, 24))
    labels = rng.integers(8, size=(200, 4))
    W = sum(rng.normal(size=(200, 1)) * centers[g][labels[:, g]] for g in range(4))
    solution = DSFormer(n_atoms=32, n_nonzero=4, max_iter=60).solve(W)
    low = LowRank(rank=8, whiten=False).solve(W)
    assert solution.n_bits() < low.n_bits()
    assert solution.relative_error() < 0.7 * low.relative_error()


@pytest.mark.parametrize("shape", [(40, 24), (100, 10), (10, 100), (384, 1536)])
@pytest.mark.parametrize(
    "parameters",
    [{}, {"rho": 4}, {"rho": 3, "n_per_segment": 2}, {"pattern": "topk"}, {"n_nonzero": 2}],
)
@pytest.mark.parametrize("compression", [0.2, 0.5])
def test_sizes_are_the_largest_that_save_enough(shape, parameters, compression):
    d_out, d_in = shape
    solver = DSFormer(compression, **parameters)
    pattern = solver._pattern(d_out, d_in)

    def share(k, s, segment):
        bits = k if segment is None else s * int(np.ceil(np.log2(segment)))
        return (d_in * k + d_out * s + d_out * bits / 16) / (d_in * d_out)

    if pattern.n_atoms == 0:  # one segment of six atoms for a hundred inputs is too much
        assert share(6, 2, 6) > 1 - compression
        return
    pattern.check()
    k, s, segment = pattern.n_atoms, pattern.n_nonzero, pattern.segment
    assert share(k, s, segment) <= 1 - compression + 1e-12
    if "n_nonzero" in parameters:
        assert share(k + s, s, segment + 1) > 1 - compression
    elif segment is None:
        assert share(k + 1, (k + 1) / 2, None) > 1 - compression
    else:
        more = pattern.n_per_segment
        assert share(k + segment, s + more, segment) > 1 - compression


def test_bits_count_places_within_segments():
    solution = DSFormer(n_atoms=12, n_nonzero=3).solve(weight())
    assert solution.n_params == 24 * 12 + 40 * 3
    assert solution.n_bits() == 16 * 408 + 40 * 3 * 2
    assert solution.n_bits(index="bitmask") == 16 * 408 + 40 * 12
    free = DSFormer(n_atoms=12, n_nonzero=3, pattern="topk").solve(weight())
    assert free.n_bits(index="coo") == 16 * 408 + 40 * 3 * 4


def test_weights_of_zeros_stay():
    for pattern in ("segment", "topk"):
        solution = DSFormer(0.5, pattern=pattern).solve(np.zeros((40, 24)))
        assert (solution.dense() == 0).all()


def test_more_atoms_than_dimensions():
    W = weight(200, 6)
    W[::50] = 0
    solution = DSFormer(n_atoms=20, n_nonzero=5).solve(W)
    assert solution.dictionary.shape == (6, 20)
    assert 0 < solution.relative_error() < 0.3


@pytest.mark.parametrize("pattern", ["segment", "topk"])
def test_libraries_and_types_are_those_of_the_weight(xp, pattern):
    if xp.name == "array_api_strict":
        pytest.skip("solvers take tensors, NumPy and CuPy arrays")
    W = weight()
    expected = DSFormer(0.5, pattern=pattern).solve(W)
    found = DSFormer(0.5, pattern=pattern).solve(xp.asarray(W))
    assert type(found.dense()) is type(xp.asarray(W))
    if xp.name == "cupy":  # in single precision greedy choices differ, errors hardly
        assert_allclose(found.relative_error(), expected.relative_error(), rtol=0.02)
    else:
        assert_allclose(to_numpy(found.dense()), expected.dense(), atol=1e-10)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"compression": 1.0}, r"compression.*must be a float in the range \[0.0, 1.0\)"),
        ({"compression": 0.97}, r"no room for a segment of atoms in a weight of shape \(40, 24\)"),
        ({"compression": 0.9, "n_nonzero": 8}, "no room for a segment"),
        ({"compression": 0.99, "pattern": "topk"}, "no room for a segment"),
        ({"rho": 2.5}, "rho=2.5 times n_per_segment=1 is the length of a segment"),
        ({"n_atoms": 10, "n_nonzero": 4}, "10 atoms cannot be cut in segments of equal length"),
        ({"n_atoms": 12, "n_nonzero": 4, "n_per_segment": 3}, "n_nonzero must be a multiple"),
        ({"n_atoms": 10, "n_nonzero": 11}, "n_nonzero must be between 1 and n_atoms=10, got 11"),
        ({"pattern": "rows"}, "pattern.*must be a str among"),
        ({"max_iter": 0}, "max_iter.*must be an int"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        DSFormer(**parameters).solve(weight())


def test_parameters_and_copies():
    ours = clone(DSFormer(0.5, rho=4)).set_params(whiten=True)
    assert ours.needs_calibration
    assert not DSFormer().needs_calibration
    with pytest.raises(ValueError, match="DSFormer needs statistics of the inputs"):
        ours.solve(weight())


# ---------------------------------------------------------------- layer
def ours(pattern="segment", n_per_segment=1, **options):
    options = {"dtype": torch.float64} | options
    return DenseSparseLinear(
        9, 8, 6, 2 if n_per_segment == 1 else 4, pattern=pattern, n_per_segment=n_per_segment,
        **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "check", [c for c in CHECKS if c.__name__ != "gradients_are_right"], ids=lambda c: c.__name__
)
@pytest.mark.parametrize("bias", [True, False])
def test_layer_in_use(check, bias):
    torch.manual_seed(0)
    check(ours(bias=bias).eval(), ours(bias=bias).eval())


@pytest.mark.parametrize(("pattern", "n"), [("segment", 1), ("segment", 2), ("topk", 1)])
def test_fresh_layers_have_their_weight_in_their_form(pattern, n):
    torch.manual_seed(0)
    layer = ours(pattern, n)
    torch.testing.assert_close(layer.weight, layer._product())
    places = Pattern(6, layer.n_nonzero, pattern, n)
    if places.segment:
        expected = torch.arange(layer.n_nonzero) // n
        assert bool((layer.indices // places.segment == expected).all())
    assert all(len(set(row)) == layer.n_nonzero for row in layer.indices.tolist())
    x = torch.randn(4, 9, dtype=torch.float64)
    before = layer.eval()(x)
    torch.testing.assert_close(layer.train()(x), before)  # refining has nothing to gain


def test_gradients_pass_to_the_weight_as_if_it_were_the_product():
    torch.manual_seed(0)
    layer = DenseSparseLinear.from_linear(nn.Linear(24, 40).double(), 0.5)
    x = torch.randn(5, 24, dtype=torch.float64, requires_grad=True)
    for mode in (True, False):
        layer.train(mode).zero_grad()
        layer(x).square().sum().backward()
        V = layer._product().requires_grad_()
        z = x.detach().clone().requires_grad_()
        functional.linear(z, V, layer.bias.detach()).square().sum().backward()
        torch.testing.assert_close(layer.weight.grad, V.grad)
        torch.testing.assert_close(x.grad, z.grad)
        x.grad = None
    assert layer.dictionary.grad is None


def test_frozen_layers_compute_what_the_trained_one_does():
    torch.manual_seed(0)
    layer = DenseSparseLinear.from_linear(nn.Linear(24, 40), 0.5, rho=4)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-2)
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.randn(30, 24)).square().mean().backward()
        optimizer.step()
    x = torch.randn(6, 24)
    y = layer(x)  # of training, with the factors that the call has left
    frozen = layer.freeze()
    torch.testing.assert_close(frozen(x), y, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(layer.eval()(x), y, rtol=1e-6, atol=1e-6)
    assert isinstance(frozen, DictionaryLinear)
    assert frozen.bias is not layer.bias
    assert frozen.dictionary.data_ptr() != layer.dictionary.data_ptr()


def test_calls_in_training_follow_the_weight_and_others_do_not():
    torch.manual_seed(0)
    layer = DenseSparseLinear.from_linear(nn.Linear(24, 40), 0.5)
    with torch.no_grad():
        layer.weight.add_(torch.randn(40, 24) * 0.05)

    def distance():
        return float((layer._product() - layer.weight.detach()).norm())

    x, errors = torch.randn(3, 24), [distance()]
    layer.eval()(x)
    assert distance() == errors[0]
    layer.train()
    for _ in range(5):
        layer(x)
        errors.append(distance())
    assert all(b <= a + 1e-6 for a, b in zip(errors, errors[1:], strict=False))
    assert errors[-1] < 0.95 * errors[0]


def test_training_compiles_without_breaks():
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer = DenseSparseLinear.from_linear(nn.Linear(24, 40), 0.5)
    with torch.no_grad():
        layer.weight.add_(0.05 * torch.randn(40, 24))
    other, x = copy.deepcopy(layer), torch.randn(3, 24)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        found, expected = compiled(x), layer(x)
        torch.testing.assert_close(found, expected)
        found.sum().backward()
        expected.sum().backward()
        torch.testing.assert_close(other.weight.grad, layer.weight.grad)
    torch.testing.assert_close(other.dictionary, layer.dictionary)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_layers_train(dtype):
    torch.manual_seed(0)
    layer = DenseSparseLinear.from_linear(nn.Linear(24, 40).to(dtype), 0.5)
    y = layer(torch.randn(4, 24).to(dtype))
    y.float().sum().backward()
    assert y.dtype == layer.weight.grad.dtype == layer.dictionary.dtype == dtype
    assert bool(torch.isfinite(layer._product()).all())


def test_layers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="6 atoms cannot be cut in segments of equal length"):
        DenseSparseLinear(9, 8, 6, 4)
    with pytest.raises(ValueError, match="pattern must be one of .*, got 'rows'"):
        DenseSparseLinear(9, 8, 6, 4, pattern="rows")


# ---------------------------------------------------------------- models
class Net(nn.Module):
    """Two hidden layers, one of which is called twice, and a head."""

    def __init__(self):
        super().__init__()
        self.first, self.hidden = nn.Linear(24, 32), nn.Linear(32, 32)
        self.again = self.hidden
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        return self.head(self.again(self.hidden(self.first(x).relu()).relu()).relu())


def test_models_are_trained_and_frozen():
    torch.manual_seed(0)
    model = Net().eval()
    model.first.weight.requires_grad_(False)
    bias = model.first.bias.clone()
    assert apply_stf(model, 0.5) is model
    assert isinstance(model.first, DenseSparseLinear)
    assert not model.first.training
    assert not model.first.weight.requires_grad
    assert model.first.bias.requires_grad
    assert torch.equal(model.first.bias, bias)
    assert model.again is model.hidden
    assert isinstance(model.head, nn.Linear)
    model.train()
    x = torch.randn(200, 24)
    y = (x[:, 0] > 0) + (x[:, 1] > 0).long()
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=1e-2), []
    for _ in range(30):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    model.eval()
    before = model(x)
    frozen = freeze_stf(copy.deepcopy(model))
    assert isinstance(frozen.hidden, DictionaryLinear)
    assert frozen.again is frozen.hidden
    torch.testing.assert_close(frozen(x), before, rtol=1e-5, atol=1e-5)


def test_patterns_choose_layers():
    model = apply_stf(Net(), 0.2, include=("first", "head"), exclude=())
    assert isinstance(model.head, DenseSparseLinear)
    assert isinstance(model.hidden, nn.Linear)
    assert isinstance(apply_stf(nn.Linear(24, 40), 0.5), DenseSparseLinear)
    assert isinstance(freeze_stf(apply_stf(nn.Linear(24, 40), 0.5)), DictionaryLinear)


def test_models_that_do_not_fit_are_refused_and_left_alone():
    model = nn.Sequential(nn.Linear(24, 24), nn.Linear(24, 24))
    model[1].weight = model[0].weight
    with pytest.raises(ValueError, match="The weight of layer '0' is that of other layers"):
        apply_stf(model)
    mixed = nn.Sequential(nn.Linear(64, 64), nn.Linear(2, 2))
    with pytest.raises(ValueError, match="Layer '1': compression=0.5 leaves no room"):
        apply_stf(mixed)
    assert isinstance(mixed[0], nn.Linear)
    with pytest.raises(ValueError, match="pattern 'nothing' of include matches no layer"):
        apply_stf(mixed, include=("nothing",))
    with pytest.raises(ValueError, match="no DenseSparseLinear to be frozen"):
        freeze_stf(mixed)


@pytest.mark.gpu
@pytest.mark.parametrize("pattern", [PATTERNS[0], PATTERNS[1], PATTERNS[3]], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gpu_codes_are_those_of_the_cpu(pattern, dtype):
    import cupy

    from sparseprob._kernels import _segments_cupy

    rng = np.random.default_rng(0)
    A, D = rng.normal(size=(37, 20)).astype(dtype), rng.normal(size=(pattern.n_atoms, 20))
    D = D.astype(dtype)
    indices = np.tile(pattern.first_places(), (37, 1))
    values = rng.normal(size=indices.shape).astype(dtype)
    given = [cupy.asarray(part) for part in (D @ D.T, A @ D.T, indices, values)]
    _segments_cupy.update_segment_codes(*given, pattern.n_per_segment)
    segments.update_segment_codes(D @ D.T, A @ D.T, indices, values, pattern.n_per_segment)
    same = (given[2].get() == indices).all(axis=1)
    assert same.mean() > 0.9  # near ties may fall otherwise
    tolerance = 1e-3 if dtype == np.float32 else 1e-9
    assert_allclose(given[3].get()[same], values[same], atol=tolerance)


@pytest.mark.gpu
def test_gpu_training_follows_the_cpu():
    torch.manual_seed(0)
    layer = DenseSparseLinear.from_linear(nn.Linear(24, 40), 0.5)
    with torch.no_grad():
        layer.weight.add_(0.05 * torch.randn(40, 24))
    there, x = copy.deepcopy(layer).cuda(), torch.randn(3, 24)
    layer(x)
    there(x.cuda()).sum().backward()
    a, b = ((m._product().cpu() - layer.weight).norm().item() for m in (layer, there))
    assert_allclose(b, a, rtol=0.01)
    assert there.weight.grad.device.type == "cuda"
