"""Robust PCA: the split, its certificate, every solver, every library, ranks."""

import warnings

import numpy as np
import pytest
import reference_rpca as reference
from conftest import HAS_GPU
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from sparseprob._arrays import to_numpy
from sparseprob._kernels import _rpca_cupy, _rpca_numba
from sparseprob._threads import one_blas_thread
from sparseprob.datasets import open_rows
from sparseprob.rpca import RobustPCA
from sparseprob.rpca._blocks import LowRank, RowBlocks
from sparseprob.rpca._distributed import orthonormal
from sparseprob.rpca._filled import ThresholdSolver, difference, inner
from sparseprob.rpca._partial_svd import PartialSVD, spectral_norm
from sparseprob.rpca._problem import SolverOptions, summarize
from sparseprob.rpca._projection import least_absolute

EXACT = 1e-6  # error of L where recovery is exact: ten times tol = 1e-7
RANKED = ("godec", "altproj", "accaltproj")


def problem(n=120, p=100, rank=4, share=0.05, seed=0, noise=0.0):
    """Low-rank matrix and gross errors."""
    rng = np.random.default_rng(seed)
    L = rng.normal(size=(n, rank)) @ rng.normal(size=(rank, p))
    S = np.where(rng.random((n, p)) < share, rng.uniform(-50, 50, (n, p)), 0)
    return L, S + noise * rng.normal(size=(n, p))


def error(model, L):
    return np.linalg.norm(to_numpy(model.low_rank_) - L) / np.linalg.norm(L)


def dense(A):
    A = A.get() if hasattr(A, "get") else A
    return A.toarray() if sparse.issparse(A) else to_numpy(A)


def model_of(solver, rank=4, **options):
    known = {"n_components": rank} if solver in RANKED else {}
    card = {"card": 0.05} if solver == "godec" else {}
    return RobustPCA(**known, solver=solver, random_state=0, **(card | options))


# ---------------------------------------------------------------- closed forms
@pytest.mark.parametrize("solver", ["ialm", "admm", "altproj", "accaltproj"])
def test_no_outliers(solver):
    L = problem()[0]
    model = model_of(solver).fit(L)
    assert_allclose(model.low_rank_, L, atol=1e-5 * abs(L).max())
    assert abs(dense(model.sparse_)).max() < 1e-4 * abs(L).max()
    assert model.rank_ == 4


@pytest.mark.parametrize("solver", ["ialm", "admm"])
def test_nothing_but_outliers(solver):
    S = problem(share=0.01)[1]
    model = model_of(solver).fit(S)
    assert model.rank_ == 0
    assert model.components_.shape == (0, 100)
    assert_allclose(dense(model.sparse_), S, atol=1e-5)
    assert model.transform(S).shape == (120, 0)


@pytest.mark.parametrize("solver", ["ialm", "stable", "accaltproj"])
def test_zeros(solver):
    model = model_of(solver).fit(np.zeros((6, 5)))
    assert model.n_iter_ == model.rank_ == model.sparse_.nnz == model.objective_ == 0
    assert_array_equal(model.low_rank_, np.zeros((6, 5)))


def test_attributes_fit_together():
    L, S = problem()
    model = RobustPCA(random_state=0).fit(L + S)
    assert_allclose(model.components_ @ model.components_.T, np.eye(4), atol=1e-12)
    assert_allclose(model.low_rank_, model.scores_ @ model.components_, atol=1e-12)
    assert_allclose(
        np.linalg.svd(model.low_rank_, compute_uv=False)[:4], model.singular_values_, rtol=1e-10
    )
    assert sparse.issparse(model.sparse_)
    assert model.sparse_.nnz == np.count_nonzero(model.sparse_.toarray()) == (S != 0).sum()
    assert_allclose(model.residual_, np.linalg.norm(L + S - model.low_rank_ - dense(model.sparse_))
                    / np.linalg.norm(L + S), rtol=1e-6)  # fmt: skip
    value = reference.objective(model.low_rank_, L + S - model.low_rank_, model.lam_)
    assert_allclose(model.objective_, value, rtol=1e-9)
    assert (model.components_[range(4), abs(model.components_).argmax(axis=1)] > 0).all()


# ---------------------------------------------------------------- oracles
@pytest.mark.parametrize("svd", ["full", "randomized"])
@pytest.mark.parametrize("share_missing", [0.0, 0.1])
def test_the_steps_are_those_of_the_formulas(svd, share_missing):
    L, S = problem()
    seen = np.random.default_rng(1).random(L.shape) >= share_missing
    X = np.where(seen, L + S, np.nan)
    model = RobustPCA(svd=svd, missing="nan", random_state=0).fit(X)
    lam = 1 / np.sqrt(120)
    L_ref, S_ref, n_iter = reference.inexact_alm(X, lam, seen=seen)
    assert abs(model.n_iter_ - n_iter) <= 1  # the norm that scales the penalty is rounded
    assert_allclose(model.low_rank_, L_ref, atol=1e-4)
    assert_allclose(dense(model.sparse_), S_ref, atol=1e-4)
    assert_allclose(model.low_rank_, L, atol=1e-4)


@pytest.mark.parametrize(("shape", "missing"), [((3, 3), 0), ((5, 8), 0), ((8, 6), 0.15)])
def test_optimum_of_a_generic_convex_solver(shape, missing):
    pytest.importorskip("cvxpy")
    rng = np.random.default_rng(3)
    M = rng.normal(size=shape) * 2
    M[0, 1] += 9
    seen = rng.random(shape) >= missing
    X = np.where(seen, M, np.nan)
    lam = 0.6 / np.sqrt(max(shape))
    options = {"lam": lam, "missing": "nan", "random_state": 0, "max_iter": 5000}
    model = RobustPCA(solver="admm", tol=1e-8, **options).fit(X)
    _, _, value = reference.pursuit_by_convex_solver(M, lam, seen=seen)
    ours = np.linalg.norm(model.low_rank_, "nuc") + lam * abs(dense(model.sparse_)).sum()
    assert_allclose(ours, value, rtol=1e-6)
    assert model.dual_gap_ < 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        quick = RobustPCA(**options).fit(X)
    excess = quick.objective_ - value
    assert -1e-5 * value <= excess <= (quick.dual_gap_ + 1e-5) * value


def test_stable_optimum_of_a_generic_convex_solver():
    pytest.importorskip("cvxpy")
    M = np.random.default_rng(4).normal(size=(7, 6))
    M[2, 3] += 8
    lam, sigma = 1 / np.sqrt(7), 0.2
    model = RobustPCA(solver="stable", noise_scale=sigma, tol=1e-9, random_state=0).fit(M)
    L, S, value = reference.pursuit_by_convex_solver(M, lam, mu=np.sqrt(2 * 7) * sigma)
    assert_allclose(model.objective_, value, rtol=1e-6)
    assert_allclose(model.low_rank_, L, atol=1e-3)
    assert_allclose(dense(model.sparse_), S, atol=1e-3)
    assert model.dual_gap_ < 1e-4


def test_multiplier_is_feasible():
    """KKT: ||Y||_2 <= 1 + gap, |Y| <= lam, Y = lam sign(S) on the support, Y V = U."""
    L, S = problem(share=0.03)
    X = L + S
    options = SolverOptions(1 / np.sqrt(120), 1e-9, np.random.RandomState(0))
    from sparseprob.rpca._pcp import AlternatingDirections

    rows = RowBlocks(X, X.dtype)
    solver = AlternatingDirections(rows, summarize(rows, None), options)
    while not solver.finished:
        solver.step()
    Y = np.empty_like(X)
    product = solver.dual(0, X, Y)
    assert_allclose(product, (X * Y).sum(), rtol=1e-10)
    assert np.linalg.norm(Y, 2) <= 1 + 1e-5
    assert abs(Y).max() <= options.lam * (1 + 1e-12)
    assert_allclose(Y[S != 0], options.lam * np.sign(S[S != 0]), rtol=1e-10)
    assert_allclose(Y @ solver.low.V, solver.low.U, atol=1e-5)


@pytest.mark.parametrize(
    "kernel",
    [
        "summarize",
        "penalty_step",
        "penalty_matrix",
        "dual_matrix",
        "keep_hard",
        "keep_soft",
        "entries",
        "count_magnitudes",
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_whole_array_formulas_equal_the_loops(kernel, dtype):
    rng = np.random.default_rng(0)
    M, L, T = (rng.normal(size=(7, 9)).astype(dtype) for _ in range(3))
    M[2, 3] = M[5, 5] = np.nan
    scalars = [dtype(v) for v in (0.3, 1.1, 0.9, 0.7)]
    results = []
    for twin in (_rpca_numba, _rpca_cupy):
        sums, out, state = np.zeros(4), np.zeros_like(M), T.copy()
        extra = []
        if kernel == "summarize":
            extra = [np.zeros(9, np.int64), np.zeros(7, np.int64)]
            extra.append(twin.summarize(M, sums, *extra))
        elif kernel == "penalty_step":
            twin.penalty_step(M, L, state, out, *scalars, sums)
        elif kernel == "penalty_matrix":
            twin.penalty_matrix(M, T, out, *scalars[:3])
        elif kernel == "dual_matrix":
            extra = [twin.dual_matrix(M, T, out, *scalars[:2])]
        elif kernel == "entries":
            extra = [twin.soft_entries(M, dtype(0.5), out), out.copy()]
            extra.append(twin.hard_entries(M, dtype(0.5), out))
        elif kernel == "count_magnitudes":
            extra = [np.zeros(16)]
            twin.count_magnitudes(M, L, 0.4, 0.1, extra[0])
            assert extra[0].sum() == 61
        else:
            getattr(twin, kernel)(M, L, out, dtype(0.5), sums)
        results.append((sums, out, state, *extra))
    for ours, theirs in zip(*results, strict=True):
        assert_allclose(ours, theirs, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-6)


@pytest.mark.parametrize("rank", [1, 4, 30])
def test_spectral_norm_of_exact_low_rank(rank):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(120, rank)) @ rng.normal(size=(rank, 100))
    found = spectral_norm(RowBlocks(A, A.dtype), np.random.RandomState(0), tol=1e-10)
    assert_allclose(found, np.linalg.norm(A, 2), rtol=1e-9)


def test_partial_svd_is_the_svd():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(90, 30)) @ np.diag(0.8 ** np.arange(30)) @ rng.normal(size=(30, 70))
    svd = PartialSVD(RowBlocks(A, A.dtype), np.random.RandomState(0), tol=1e-12)
    U, s, Vt = np.linalg.svd(A)
    threshold = (s[11] + s[12]) / 2
    found, count = svd.above(RowBlocks(A, A.dtype), 3, threshold)
    assert count == found.rank == 12
    assert_allclose(found.s, s[:12], rtol=1e-9)
    best = (U[:, :12] * s[:12]) @ Vt[:12]
    assert_allclose(found.scaled @ found.Vt, best, atol=1e-5)
    assert_allclose(spectral_norm(RowBlocks(A, A.dtype), np.random.RandomState(0), tol=1e-8), s[0])


@pytest.mark.parametrize("shape", [(500, 6), (40, 30), (3, 5)])
def test_qr_in_pieces(shape):
    Y = np.random.default_rng(0).normal(size=shape)
    Q, R = orthonormal(Y)
    assert_allclose(Q @ R, Y, atol=1e-12)
    assert_allclose(Q.T @ Q, np.eye(min(shape)), atol=1e-12)


def test_counted_threshold():
    rng = np.random.default_rng(0)
    M = rng.normal(size=(50, 40)) ** 3
    rows = RowBlocks(M, M.dtype)

    class Solver(ThresholdSolver):
        def start(self):
            pass

    solver = Solver(rows, summarize(rows, None), SolverOptions(1, 1, np.random.RandomState(0)))
    low = LowRank.zeros(rows)
    for count in (1, 7, 400, 1500):
        threshold = solver.kth_largest(low, count)
        assert (abs(M) >= threshold).sum() == count
        assert_allclose(threshold, reference.kth_largest(M, count), rtol=1e-6)


def test_distances_of_factors():
    rng = np.random.default_rng(0)
    factors = [
        LowRank(rng.normal(size=(9, r)), rng.random(r), rng.normal(size=(7, r))) for r in (2, 3)
    ]
    A, B = (f.scaled @ f.Vt for f in factors)
    assert_allclose(inner(*factors), (A * B).sum())
    assert_allclose(difference(*factors), np.linalg.norm(A - B))


def test_a_step_of_godec():
    L, S = problem(noise=0.05)
    X = L + S
    model = model_of("godec", max_iter=60, tol=1e-5).fit(X)
    L_ref = np.zeros_like(X)
    L_ref, S_ref = reference.godec_step(X, model.low_rank_, 4, 600)
    assert_allclose(model.low_rank_, L_ref, atol=1e-2)
    assert model.sparse_.nnz == 600
    assert_array_equal(dense(model.sparse_) != 0, S_ref != 0)


# ---------------------------------------------------------------- recovery by every solver
@pytest.mark.parametrize("solver", ["ialm", "admm", *RANKED])
@pytest.mark.parametrize("shape", [(120, 100), (60, 200), (300, 50)])
def test_exact_recovery(solver, shape):
    L, S = problem(*shape, rank=2 if 50 in shape else 3, share=0.04)
    model = model_of(solver, 2 if 50 in shape else 3)
    if solver == "godec":
        model.set_params(card=int((S != 0).sum()))
    model.fit(L + S)
    assert error(model, L) < 10 * EXACT
    assert_array_equal(dense(model.sparse_)[S != 0] != 0, True)
    assert model.residual_ < 1e-7


@pytest.mark.parametrize("share", [0.12, 0.15])
def test_fast_projections_are_redone_where_they_fail(share):
    """gamma=0.5 ends at a small residual and a wrong L; "auto" notices."""
    L, S = problem(200, 200, 5, share, seed=200)
    with pytest.warns(ConvergenceWarning, match="of a row or column are taken for outliers"):
        fast = model_of("accaltproj", 5, gamma=0.5).fit(L + S)
    assert fast.residual_ < 1e-7
    assert error(fast, L) > 1e-2
    model = model_of("accaltproj", 5).fit(L + S)
    assert error(model, L) < EXACT
    assert np.isnan(model.dual_gap_)


def test_wrong_split_is_never_a_success():
    L, S = problem(300, 300, 30, 0.3)
    with pytest.warns(ConvergenceWarning, match="not the optimum: its relative duality gap"):
        model = RobustPCA(random_state=0).fit(L + S)
    assert model.residual_ < 1e-7
    assert error(model, L) > 1e-2
    assert model.dual_gap_ > 1e-3


def test_rerun_repairs_a_split():
    L, S = problem(300, 300, 20, 0.2)
    model = RobustPCA(random_state=0).fit(L + S)
    assert model.n_iter_ > 60  # two runs
    assert error(model, L) < EXACT
    assert model.dual_gap_ < 1e-3


def test_noise():
    L, S = problem(300, 300, 15, 0.05)
    noise = 0.1 * np.random.default_rng(9).normal(size=L.shape)
    X = L + S + noise
    stable = RobustPCA(solver="stable", random_state=0).fit(X)
    assert_allclose(stable.noise_scale_, 0.1, rtol=0.3)
    assert error(stable, L) < 0.02
    godec = RobustPCA(15, solver="godec", card=4500, random_state=0).fit(X)
    oracle = np.linalg.svd(L + noise)
    oracle = (oracle[0][:, :15] * oracle[1][:15]) @ oracle[2][:15]
    assert error(godec, L) < 1.2 * np.linalg.norm(oracle - L) / np.linalg.norm(L)


def test_rank_is_cut_afterwards():
    L, S = problem()
    full = RobustPCA(random_state=0).fit(L + S)
    model = RobustPCA(2, random_state=0).fit(L + S)
    assert model.rank_ == 2
    assert_allclose(model.components_, full.components_[:2], atol=1e-12)
    assert model.transform(L).shape == (120, 2)


# ---------------------------------------------------------------- invariance
def test_permutation_sign_scale_and_transpose():
    L, S = problem()
    X = L + S
    rng = np.random.default_rng(5)
    rows, columns = rng.permutation(120), rng.permutation(100)
    signs = rng.choice([-1, 1], size=(120, 1))
    base = RobustPCA(random_state=0).fit(X)
    tolerance = 1e-4
    moved = RobustPCA(random_state=1).fit(X[rows][:, columns])
    assert_allclose(moved.low_rank_, base.low_rank_[rows][:, columns], atol=tolerance)
    assert_allclose(
        RobustPCA(random_state=1).fit(signs * X).low_rank_, signs * base.low_rank_, atol=tolerance
    )
    for c in (1e-6, 1e6):
        scaled = RobustPCA(random_state=0).fit(c * X)
        assert scaled.n_iter_ == base.n_iter_
        assert_allclose(scaled.low_rank_ / c, base.low_rank_, atol=tolerance)
        assert_allclose(dense(scaled.sparse_) / c, dense(base.sparse_), atol=tolerance)
    assert_allclose(RobustPCA(random_state=0).fit(X.T).low_rank_, base.low_rank_.T, atol=tolerance)


@pytest.mark.parametrize("solver", ["ialm", "admm", "accaltproj", "altproj"])
def test_missing_entries_do_not_matter(solver):
    """Whatever stood under the mask, the bits of the model are the same, and L is filled in."""
    L, S = problem()
    mask = np.random.default_rng(7).random(L.shape) < 0.1
    X = np.where(mask, np.nan, L + S)
    model = model_of(solver, missing="nan").fit(X)
    assert abs(model.low_rank_ - L)[mask].max() < 1e-4
    assert (dense(model.sparse_)[mask] == 0).all()
    assert np.isfinite(model.transform(X)).all()


def test_center_is_the_median():
    L, S = problem()
    offset = np.random.default_rng(2).normal(size=100) * 30
    X = L + S + offset
    model = RobustPCA(center="median", random_state=0).fit(X)
    assert_allclose(model.center_, np.median(X, axis=0))
    assert_allclose(model.low_rank_, L + offset, atol=1e-3)


def test_bisected_median(tmp_path):
    X = np.random.default_rng(0).normal(size=(41, 6))
    X[3, 2] = np.nan
    np.save(tmp_path / "rows.npy", X)
    disk = open_rows(tmp_path / "rows.npy")
    from sparseprob.rpca._problem import column_medians

    found = column_medians(RowBlocks(disk, X.dtype))
    low, high = (np.nanpercentile(X, 50, axis=0, method=m) for m in ("lower", "higher"))
    assert ((found >= low - 1e-12) & (found <= high + 1e-12)).all()


# ---------------------------------------------------------------- where the data are
@pytest.mark.parametrize("solver", ["ialm", "stable", *RANKED])
def test_rows_on_disk(tmp_path, solver, monkeypatch):
    monkeypatch.setattr("sparseprob.rpca._blocks._BLOCK_BYTES", 100 * 8 * 32)
    L, S = problem(noise=0.01 if solver in ("stable", "godec") else 0)
    np.save(tmp_path / "rows.npy", L + S)
    options = {"max_iter": 400} | ({"noise_scale": 0.01} if solver == "stable" else {})
    memory = model_of(solver, **options).fit(L + S)
    disk = model_of(solver, **options).fit(open_rows(tmp_path / "rows.npy"))
    assert_allclose(disk.low_rank_, memory.low_rank_, atol=1e-5)
    assert disk.n_iter_ == memory.n_iter_
    assert_allclose(disk.transform(open_rows(tmp_path / "rows.npy")), memory.transform(L + S),
                    atol=1e-3)  # fmt: skip


@pytest.mark.parametrize("solver", ["ialm", "stable", *RANKED])
def test_libraries(xp, solver):
    L, S = problem(60, 50, 2, noise=0.01 if solver == "stable" else 0)
    X = L + S
    options = {"noise_scale": 0.01} if solver == "stable" else {}
    expected = model_of(solver, 2, **options).fit(X)
    model = model_of(solver, 2, **options).fit(xp.asarray(X))
    assert type(model.components_) is type(xp.asarray(X))
    assert_allclose(to_numpy(model.low_rank_), expected.low_rank_, atol=1e-6)
    assert_allclose(dense(model.sparse_), dense(expected.sparse_), atol=1e-6)
    assert_allclose(to_numpy(model.transform(xp.asarray(X))), expected.transform(X), atol=1e-5)
    assert_allclose(to_numpy(model.score_samples(xp.asarray(X))), expected.score_samples(X),
                    atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("solver", ["ialm", "admm", "accaltproj"])
def test_single_precision(solver):
    L, S = problem()
    model = model_of(solver).fit((L + S).astype(np.float32))
    assert model.low_rank_.dtype == model.sparse_.dtype == np.float32
    assert error(model, L) < 1e-4


@pytest.mark.parametrize("make", [np.asfortranarray, lambda X: X.astype(int), np.ndarray.tolist])
def test_other_layouts(make):
    rng = np.random.default_rng(0)
    L = rng.integers(-9, 10, (120, 3)) @ rng.integers(-9, 10, (3, 100)) * 1.0
    X = make(L + np.where(rng.random(L.shape) < 0.05, 900, 0))
    expected = RobustPCA(random_state=0, tol=1e-5).fit(np.ascontiguousarray(X, dtype=float))
    model = RobustPCA(random_state=0, tol=1e-5).fit(X)
    assert_allclose(model.low_rank_, expected.low_rank_, atol=1e-8)


@pytest.mark.gpu
def test_gpu_equals_host():
    import cupy

    L, S = problem(200, 150, 5)
    for solver in ("ialm", "admm", *RANKED):
        host = model_of(solver, 5).fit(L + S)
        device = model_of(solver, 5).fit(cupy.asarray(L + S))
        assert_allclose(to_numpy(device.low_rank_), host.low_rank_, atol=1e-5)
        assert_allclose(dense(device.sparse_.get()), dense(host.sparse_), atol=1e-5)
    assert HAS_GPU


RANKS = """
import sys
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.rpca import RobustPCA

rng = np.random.default_rng(0)
L = rng.normal(size=(121, 4)) @ rng.normal(size=(4, 60))
X = L + np.where(rng.random(L.shape) < 0.05, rng.uniform(-50, 50, L.shape), 0)
solver, layout, path = sys.argv[1:]
options = {"n_components": 4} if solver in ("accaltproj", "godec", "altproj") else {}
if solver == "godec":
    options["card"] = 0.05
if solver == "stable":
    options["noise_scale"] = 0.01
with distributed() as comm:
    mine = X[row_slice(len(X))]
    if layout == "empty":
        mine = np.array_split(X, comm.size - 1)[comm.rank] if comm.rank < comm.size - 1 else X[:0]
    if solver == "ialm":
        options["center"] = "median"
    model = RobustPCA(solver=solver, random_state=None, **options).fit(mine)
    S = model.sparse_ if isinstance(model.sparse_, np.ndarray) else model.sparse_.toarray()
    parts = comm.allgather((model.scores_, S, model.components_))
    assert all((part[2] == parts[0][2]).all() for part in parts)
    low = np.concatenate([part[0] for part in parts]) @ model.components_
    center = np.zeros(60) if model.center_ is None else model.center_
    if comm.rank == comm.size - 1:
        np.savez(path, low=low + center, X=X, center=center,
                 S=np.concatenate([part[1] for part in parts]))
"""


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("solver", "layout"),
    [("ialm", "even"), ("ialm", "empty"), ("accaltproj", "even"), ("stable", "even"),
     ("godec", "even")],
)  # fmt: skip
def test_ranks_end_with_one_model(tmp_path, mpiexec, solver, layout):
    mpiexec(3, RANKS, solver, layout, "out.npz")
    found = np.load(tmp_path / "out.npz")
    options = {"noise_scale": 0.01} if solver == "stable" else {}
    if solver == "ialm":
        options["center"] = "median"
    one = model_of(solver, **options).fit(found["X"])
    if solver == "ialm":
        assert_allclose(found["center"], one.center_, atol=1e-10)
    assert_allclose(found["low"], one.low_rank_, atol=1e-3)
    assert_allclose(found["S"], dense(one.sparse_), atol=1e-3)


# ---------------------------------------------------------------- new rows
def test_absolute_deviations_of_a_row():
    rng = np.random.default_rng(0)
    V = np.linalg.qr(rng.normal(size=(30, 3)))[0]
    X = rng.normal(size=(6, 3)) @ V.T + 0.1 * rng.standard_t(1, size=(6, 30))
    found = least_absolute(X, V, 1e-8)
    for x, r in zip(X, found, strict=True):
        best = reference.least_absolute_row(x, V)
        assert_allclose(abs(x - V @ r).sum(), abs(x - V @ best).sum(), rtol=2e-3)


def test_new_corrupted_rows():
    L, S = problem(200, 100, 4)
    model = RobustPCA(random_state=0).fit((L + S)[:150])
    new = (L + S)[150:]
    truth = L[150:] @ model.components_.T
    assert_allclose(model.transform(new), truth, atol=1e-3)
    low_rank, rest = model.decompose(new)
    assert_allclose(low_rank + rest, new, atol=1e-12)
    assert_allclose(low_rank, L[150:], atol=1e-3)
    plain = RobustPCA(robust=False, random_state=0).fit((L + S)[:150])
    assert abs(plain.transform(new) - truth).max() > 1
    assert_allclose(plain.transform(new), new @ plain.components_.T, atol=1e-10)
    scores = model.score_samples(np.vstack([L[150:160], 10 * np.random.default_rng(1).normal(
        size=(10, 100))]))  # fmt: skip
    assert scores[:10].min() > scores[10:].max()


# ---------------------------------------------------------------- peers
@pytest.mark.parametrize("share", [0.05, 0.1])
def test_agrees_with_pyrpca(share):
    pyrpca = pytest.importorskip("pyrpca")
    L, S = problem(200, 200, 6, share)
    lam = 1 / np.sqrt(200)
    with one_blas_thread():  # threads of BLAS wait for each other on a busy machine
        theirs = pyrpca.rpca_pcp_ialm(L + S, lam, verbose=False)
    model = RobustPCA(random_state=0).fit(L + S)
    assert_allclose(model.low_rank_, theirs[0], atol=1e-4)
    assert_allclose(dense(model.sparse_), theirs[1], atol=1e-4)


def test_agrees_with_tensorly():
    decomposition = pytest.importorskip("tensorly.decomposition")
    L, S = problem(200, 200, 6)
    with one_blas_thread():
        low, _ = decomposition.robust_pca(
            L + S, reg_E=200**-0.5, n_iter_max=300, tol=1e-8, verbose=False
        )
    assert_allclose(RobustPCA(random_state=0).fit(L + S).low_rank_, low, atol=1e-3)


# ---------------------------------------------------------------- bad input
def _with(value, where):
    X = problem(20, 10)[0].copy()
    X[where] = value
    return X


@pytest.mark.parametrize(
    ("options", "X", "message"),
    [
        ({}, _with(np.nan, (3, 4)), r"contains NaN \(row 3\)"),
        ({}, _with(np.inf, (3, 4)), "contains infinity"),
        ({"missing": "nan"}, _with(np.inf, (3, 4)), "contains infinity"),
        ({"missing": "nan"}, _with(np.nan, 3), "Row 3 of X has only missing entries"),
        ({"missing": "nan"}, _with(np.nan, (slice(None), 2)), "Column 2 of X has only missing"),
        ({"n_components": 11}, _with(0, 0), "must not exceed the 20 rows or 10 columns"),
        ({"solver": "godec", "n_components": 2}, _with(0, 0), "needs card"),
        ({"solver": "accaltproj"}, _with(0, 0), "needs n_components"),
        ({"lam": 0.0}, _with(0, 0), "'lam' parameter"),
        ({"rho": 1.0}, _with(0, 0), "'rho' parameter"),
        ({"card": -1}, _with(0, 0), "'card' parameter"),
        ({"gamma": 1.0}, _with(0, 0), "'gamma' parameter"),
        ({}, np.zeros(5), "Expected 2D array"),
        ({}, np.ones((3, 2)) * 1j, "Complex data not supported"),
    ],
)
def test_bad_input(options, X, message):
    with pytest.raises(ValueError, match=message):
        RobustPCA(**options).fit(X)


@pytest.mark.parametrize(
    ("options", "bad", "message"),
    [
        ({}, np.nan, r"NaN or infinity \(row 1\)"),
        ({"missing": "nan", "robust": False}, np.nan, "robust=False needs rows without missing"),
        ({"missing": "nan"}, np.inf, "contains infinity"),
    ],
)
def test_bad_new_rows(options, bad, message):
    L, S = problem(40, 30, 2)
    model = RobustPCA(random_state=0, **options).fit(L + S)
    new = L[:3].copy()
    new[1, 2] = bad
    with pytest.raises(ValueError, match=message):
        model.transform(new)


def test_too_few_iterations():
    L, S = problem()
    with pytest.warns(ConvergenceWarning, match="stopped after max_iter=3 iterations"):
        model = RobustPCA(max_iter=3, random_state=0).fit(L + S)
    assert model.n_iter_ == 3
    with pytest.raises(FloatingPointError, match="scale X down"), np.errstate(all="ignore"):
        RobustPCA(random_state=0).fit((L + S) * 1e160)
