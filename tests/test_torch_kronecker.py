"""Layers of Kronecker structure, mixers, and what they are compared with."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch")

from reference_torch_structured import (  # noqa: E402
    block_diagonal,
    kronecker_sum,
    transposition,
)
from sklearn.base import clone  # noqa: E402
from torch import nn  # noqa: E402
from torch_layer_checks import CHECKS  # noqa: E402

from sparseprob._arrays import to_numpy  # noqa: E402
from sparseprob.linear_operators import MonarchOperator  # noqa: E402
from sparseprob.torch.layers import (  # noqa: E402
    KroneckerLinear,
    MixerBlock,
    PermutedKroneckerLinear,
    StaticSparseLinear,
    effective_width,
    max_effective_width,
    n_connections,
)
from sparseprob.torch.solvers import Kronecker  # noqa: E402

DOUBLE = {"dtype": torch.float64}
MAKERS = {
    "V first": lambda bias: KroneckerLinear(12, 10, ((2, 6), (5, 2)), 2, bias, **DOUBLE),
    "W first": lambda bias: KroneckerLinear(12, 10, ((5, 2), (2, 6)), 1, bias, **DOUBLE),
    "dense": lambda bias: KroneckerLinear(12, 10, n_terms=9, bias=bias, **DOUBLE),
    "commutation": lambda bias: PermutedKroneckerLinear(3, 4, 5, bias=bias, **DOUBLE),
    "random": lambda bias: PermutedKroneckerLinear(
        3, 2, 5, "random", "random", bias=bias, **DOUBLE
    ),
    "static": lambda bias: StaticSparseLinear(9, 7, 0.4, bias, **DOUBLE),
}  # fmt: skip


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("bias", [True, False])
def test_layer(check, maker, bias):
    torch.manual_seed(0)
    check(MAKERS[maker](bias), MAKERS[maker](bias))


@pytest.mark.parametrize("maker", ["V first", "W first", "dense"])
def test_kronecker_layers_are_sums_of_products(maker):
    layer = MAKERS[maker](True)
    assert layer._order == maker
    V, W = layer.V.detach().numpy(), layer.W.detach().numpy()
    assert_allclose(layer.dense_weight().detach().numpy(), kronecker_sum(V, W), atol=1e-15)


def test_fresh_layers_vary_as_linear_ones():
    torch.manual_seed(0)
    x = torch.randn(500, 120)
    theirs = nn.Linear(120, 200, bias=False)(x).std()
    for layer in (
        KroneckerLinear(120, 200, n_terms=8, bias=False),
        PermutedKroneckerLinear(12, 20, 10, bias=False),
        StaticSparseLinear(120, 200, 0.1, bias=False),
    ):
        # a block of 12 inputs has larger weights: compare with a layer of that size
        fan_in = 12 if isinstance(layer, PermutedKroneckerLinear) else 120
        expected = theirs if fan_in == 120 else nn.Linear(12, 2000, bias=False)(x[:, :12]).std()
        assert 0.8 < layer(x).std() / expected < 1.2


def test_solver_is_the_nearest_sum():
    W = draw(12, 20)
    shapes = ((3, 5), (4, 4))
    blocks = [W[i * 4 : i * 4 + 4, j * 4 : j * 4 + 4].ravel() for i in range(3) for j in range(5)]
    s = np.linalg.svd(np.array(blocks), compute_uv=False)
    for n_terms in (1, 6, 15):
        solution = Kronecker(n_terms=n_terms, shapes=shapes).solve(W)
        error = np.sqrt((s[n_terms:] ** 2).sum() / (s**2).sum())
        assert_allclose(solution.relative_error(), error, atol=1e-12)
        assert_allclose(solution.history, [error**2], atol=1e-12)
        assert_allclose(solution.dense(), kronecker_sum(solution.V, solution.W), atol=1e-13)
        assert solution.n_params == n_terms * (15 + 16)
    assert not Kronecker().needs_calibration


def test_sizes_follow_the_compression():
    W = draw(48, 60)
    for compression in (0.0, 0.3, 0.9):
        solution = Kronecker(compression).solve(W)
        step = solution.V[0].size + solution.W[0].size
        assert solution.n_params <= (1 - compression) * W.size
        most = min(solution.V[0].size, solution.W[0].size)
        assert len(solution.V) == most or solution.n_params + step > (1 - compression) * W.size
        assert_allclose(solution.density, solution.n_params / W.size)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((384, 384), ((24, 16), (16, 24))),  # 768 numbers a product; 24 x 24 and 16 x 16 have 832
        ((1536, 384), ((48, 16), (32, 24))),
        ((7, 6), ((7, 2), (1, 3))),  # of a prime only itself is left
    ],
)
def test_default_shapes_are_the_cheapest_near_the_root(shape, sizes):
    layer = KroneckerLinear(shape[1], shape[0], device="meta")
    assert layer.shapes == sizes


def test_libraries_and_types_are_those_of_the_weight(xp):
    if xp.name == "array_api_strict":
        pytest.skip("solvers take tensors, NumPy and CuPy arrays")
    W = draw(12, 20)
    expected = Kronecker(n_terms=3).solve(W)
    found = Kronecker(n_terms=3).solve(xp.asarray(W))
    atol = 1e-4 if xp.name == "cupy" else 1e-12  # a GPU works in single precision
    assert_allclose(to_numpy(found.dense()), expected.dense(), atol=atol)
    assert type(found.dense()) is type(xp.asarray(W))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("n_terms", [1, 8])
def test_modules_compute_what_solutions_say(dtype, n_terms):
    weight, bias = torch.tensor(draw(12, 20)).to(dtype), torch.ones(12, dtype=dtype)
    solution = Kronecker(n_terms=n_terms).solve(weight)
    module = solution.to_module(bias)
    assert {p.dtype for p in module.parameters()} == {dtype}
    x = torch.tensor(draw(5, 20)).to(dtype)
    expected = x.double() @ solution.dense().double().T + 1
    error = (module(x).double() - expected).norm() / expected.norm()
    assert error < 8 * torch.finfo(dtype).eps  # of rounded factors, sums and outputs
    made = KroneckerLinear.from_linear(nn.Linear(20, 12), n_terms=n_terms)
    assert made.V.shape == module.V.shape


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (Kronecker(1.0), r"compression.*must be a float in the range \[0.0, 1.0\)"),
        (Kronecker(0.95), "leaves no room for one product of factors of shapes"),
        (Kronecker(n_terms=16), "n_terms must be at most 15 for factors of shapes"),
        (Kronecker(shapes=((3, 5), (4, 5))), r"are of shape \(12, 25\), the weight is of shape"),
        (Kronecker(shapes=((3, 5),)), "shapes must be two pairs of positive numbers"),
        (Kronecker(shapes=(3, 5)), "shapes must be two pairs of positive numbers"),
        (Kronecker(n_terms=0), "n_terms.*must be an int"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(solver, message):
    with pytest.raises(ValueError, match=message):
        solver.solve(draw(12, 20))
    clone(solver)


def test_bad_layers():
    with pytest.raises(ValueError, match="n_terms must be a positive number, got 0"):
        KroneckerLinear(12, 10, n_terms=0)
    for perm in ([0, 1, 2], torch.zeros(15, dtype=torch.int64)):
        with pytest.raises(ValueError, match="perm_in must hold the positions 0 to 14, each once"):
            PermutedKroneckerLinear(3, 2, 5, perm_in=perm)
    with pytest.raises(
        ValueError, match="perm_out must be one of .* or positions, got 'transpose'"
    ):
        PermutedKroneckerLinear(3, 2, 5, perm_out="transpose")
    with pytest.raises(ValueError, match=r"n_blocks must divide the sizes \(12, 10\), got 4"):
        PermutedKroneckerLinear.from_linear(nn.Linear(12, 10), 4)
    for density in (0, 1.5):
        with pytest.raises(ValueError, match="density must be above 0 and at most 1"):
            StaticSparseLinear(4, 4, density)
    with pytest.raises(ValueError, match="permutation must be 'mixer' or 'random', got 'rows'"):
        MixerBlock(4, 4, permutation="rows")
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        PermutedKroneckerLinear(3, 4, 5)(torch.randn(5, 3))


def test_mixing_is_a_kronecker_product():
    """Channel and token mixing of X (C, S), stacked column by column."""
    C, S = 3, 4
    W, V, X = draw(5, C), draw(6, S, seed=1), draw(C, S, seed=2)
    J = transposition(S, C)
    assert_allclose(np.kron(np.eye(S), W) @ X.T.ravel(), (W @ X).T.ravel(), atol=1e-14)
    expected = (X @ V.T).T.ravel()
    assert_allclose(np.kron(V, np.eye(C)) @ X.T.ravel(), expected, atol=1e-14)
    blocks = transposition(C, 6) @ np.kron(np.eye(C), V) @ J
    assert_allclose(blocks @ X.T.ravel(), expected, atol=1e-14)
    layer = PermutedKroneckerLinear(S, 6, C, bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.block.copy_(torch.tensor(V))
    assert_allclose(layer.dense_weight().detach().numpy(), blocks, atol=1e-15)
    assert_allclose(blocks, np.kron(V, np.eye(C)), atol=1e-15)


def test_both_mixings_are_a_monarch_matrix_with_tied_blocks():
    V, W, (C, S) = draw(4, 4), draw(3, 3, seed=1), (3, 4)
    left = np.stack([V] * C)  # one block of tokens for every channel
    right = np.stack([W] * S)
    assert_allclose(MonarchOperator(left, right).to_dense(), np.kron(V, W), atol=1e-14)


@pytest.mark.parametrize("perms", [("identity", "commutation"), ("random", "random")])
def test_permuted_layer_against_its_matrices(perms):
    layer = PermutedKroneckerLinear(3, 2, 5, *perms, random_state=0, **DOUBLE)
    J1 = np.eye(15)[layer.perm_in.numpy()]
    J2 = np.eye(10)[layer.perm_out.numpy()]
    for J in (J1, J2):
        assert_allclose(J @ J.T, np.eye(len(J)))
    expected = J2 @ block_diagonal([layer.block.detach().numpy()] * 5) @ J1
    assert_allclose(layer.dense_weight().detach().numpy(), expected, atol=1e-15)
    again = PermutedKroneckerLinear(3, 2, 5, *perms, random_state=0, **DOUBLE)
    assert torch.equal(again.perm_in, layer.perm_in)
    given = PermutedKroneckerLinear(3, 2, 5, layer.perm_in, layer.perm_out.tolist())
    assert torch.equal(given.perm_out, layer.perm_out)


def test_random_permutations_follow_the_seed_of_torch():
    def drawn(seed):
        torch.manual_seed(seed)
        return PermutedKroneckerLinear(3, 2, 50, "random").perm_in

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))


def test_number_of_parameters_does_not_depend_on_the_number_of_blocks():
    for n_blocks in (1, 7, 100):
        layer = PermutedKroneckerLinear(3, 4, n_blocks, bias=False)
        assert sum(p.numel() for p in layer.parameters()) == 12


def test_from_linear_is_the_nearest_with_tied_blocks():
    torch.manual_seed(0)
    linear = nn.Linear(15, 10, **DOUBLE)
    layer = PermutedKroneckerLinear.from_linear(linear, 5, "random", "random", random_state=0)
    least = (layer.dense_weight() - linear.weight).norm().item()
    # least squares over the entries of the block
    design = torch.autograd.functional.jacobian(
        lambda block: torch.func.functional_call(
            layer, {"block": block, "bias": torch.zeros(10, **DOUBLE)}, (torch.eye(15, **DOUBLE),)
        ),
        layer.block,
    )
    target = linear.weight.T.reshape(-1).detach().numpy()
    found = np.linalg.lstsq(design.reshape(-1, 6).numpy(), target, rcond=None)[0]
    assert_allclose(layer.block.detach().numpy().ravel(), found, atol=1e-12)
    assert least < linear.weight.norm().item()
    exact = nn.Linear(15, 10, **DOUBLE)
    exact.weight.data = layer.dense_weight().detach()
    again = PermutedKroneckerLinear.from_linear(exact, 5, layer.perm_in, layer.perm_out)
    torch.testing.assert_close(again.block, layer.block)
    x = torch.randn(3, 15, **DOUBLE)
    torch.testing.assert_close(again(x), exact(x))


def test_mixer_block_by_transposition():
    torch.manual_seed(0)
    block = MixerBlock(6, 4, expansion=1.5, **DOUBLE)
    assert block.tokens[0].weight.shape == (9, 6)
    assert block.channels[0].weight.shape == (6, 4)
    X = torch.randn(3, 6, 4, **DOUBLE)
    rows = []
    for U in X:
        Y = nn.functional.layer_norm(U, (4,))
        U = U + torch.stack([block.tokens(Y[:, c]) for c in range(4)], dim=1)
        Y = nn.functional.layer_norm(U, (4,))
        rows.append(U + torch.stack([block.channels(Y[s]) for s in range(6)]))
    torch.testing.assert_close(block(X), torch.stack(rows))
    assert block(X[:0]).shape == (0, 6, 4)
    assert block(X[None])[0].shape == (3, 6, 4)


def test_random_permutations_that_transpose_give_the_mixer():
    torch.manual_seed(0)
    mixer, random = MixerBlock(6, 4), MixerBlock(6, 4, permutation="random", random_state=0)
    random.load_state_dict(mixer.state_dict(), strict=False)
    X = torch.randn(3, 6, 4)
    assert not torch.allclose(random(X), mixer(X))
    places = torch.arange(24)
    random.perm_tokens_in = places.view(6, 4).T.reshape(-1)
    random.perm_tokens_out = places.view(4, 6).T.reshape(-1)
    random.perm_channels_in = random.perm_channels_out = places
    torch.testing.assert_close(random(X), mixer(X))
    again = MixerBlock(6, 4, permutation="random", random_state=0)
    other = MixerBlock(6, 4, permutation="random", random_state=1)
    names = [name for name in other.state_dict() if name.startswith("perm_")]
    assert len(names) == 4
    assert not any(torch.equal(again.state_dict()[n], other.state_dict()[n]) for n in names)
    other.load_state_dict(again.state_dict())
    assert torch.equal(other(X), again(X))
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in mixer.parameters())


def test_static_masks_stay_while_training():
    torch.manual_seed(0)
    layer = StaticSparseLinear(50, 40, 0.2, random_state=0)
    share = layer.mask.double().mean().item()
    assert abs(share - 0.2) < 4 * np.sqrt(0.2 * 0.8 / 2000)  # four standard errors
    assert bool((layer.weight[~layer.mask] == 0).all())
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(10, 50)).square().sum().backward()
        assert bool((layer.weight.grad[~layer.mask] == 0).all())
        optimizer.step()
    assert bool((layer.weight[~layer.mask] == 0).all())
    linear = nn.Linear(50, 40)
    made = StaticSparseLinear.from_linear(linear, 0.3, random_state=0)
    assert torch.equal(made.dense_weight(), linear.weight * made.mask)
    assert torch.equal(made.bias, linear.bias)


def test_counts_of_the_effective_network():
    """Counted in the dense matrices of a mixer without expansion."""
    S, C = 5, 3
    token, channel = np.kron(np.ones((S, S)), np.eye(C)), np.kron(np.eye(S), np.ones((C, C)))
    assert effective_width(S, C) == len(token)
    assert n_connections(S, C) == (token.sum() + channel.sum()) / 2
    assert n_connections(S, C, 2.5) == 2.5 * n_connections(S, C)
    assert (token != 0).mean() == 1 / C
    assert_allclose((channel != 0).mean(), 1 / S)
    for n_tokens, n_channels in ((5, 3), (64, 1), (2, 9)):
        omega = n_connections(n_tokens, n_channels, 2)
        assert effective_width(n_tokens, n_channels) <= max_effective_width(omega, 2)
    assert_allclose(max_effective_width(n_connections(7, 7, 3), 3), 49, rtol=1e-12)


@pytest.mark.gpu
def test_layers_on_a_gpu():
    torch.manual_seed(0)
    for maker in MAKERS.values():
        layer = maker(True)
        x = torch.randn(7, layer.in_features, **DOUBLE)
        expected = layer(x)
        torch.testing.assert_close(layer.cuda()(x.cuda()).cpu(), expected)
    block = MixerBlock(6, 4, permutation="random", **DOUBLE)
    X = torch.randn(3, 6, 4, **DOUBLE)
    expected = block(X)
    torch.testing.assert_close(block.cuda()(X.cuda()).cpu(), expected)
    weight = torch.tensor(draw(48, 60))
    expected = Kronecker(0.3).solve(weight).dense()
    found = Kronecker(0.3).solve(weight.cuda()).dense()
    assert (found.cpu() - expected).norm() < 1e-4 * expected.norm()
    assert PermutedKroneckerLinear(3, 4, 5, device="cuda").perm_in.device.type == "cuda"
