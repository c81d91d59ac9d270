"""Sparse coding with a given number of atoms, K-SVD as a function and as an estimator."""

import numba
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_ksvd import (
    best_atoms,
    dense,
    matching_pursuit,
    planted,
    pursuit_by_blocks,
    recovered,
)
from sklearn.exceptions import ConvergenceWarning

from sparseprob._arrays import to_numpy
from sparseprob._kernels import kernels
from sparseprob._kernels._sparse_coding_numba import sparse_code
from sparseprob._kernels._sparse_coding_rules import atoms_together
from sparseprob.callbacks import Checkpoint, History
from sparseprob.dictionary import KSVD
from sparseprob.dictionary._ksvd_loop import KSVDFit, ksvd
from sparseprob.dictionary._ksvd_online import OnlineAtoms
from sparseprob.dictionary._ksvd_start import leading_directions


def problem(n=60, d=12, k=20, seed=0, dtype=np.float64):
    """Rows and atoms of unit length."""
    rng = np.random.default_rng(seed)
    A, D = rng.normal(size=(n, d)), rng.normal(size=(k, d))
    return A.astype(dtype), (D / np.linalg.norm(D, axis=1, keepdims=True)).astype(dtype)


def code(A, D, n_nonzero):
    return sparse_code(D @ D.T, A @ D.T, (A.astype(np.float64) ** 2).sum(axis=1), n_nonzero)


# ---------------------------------------------------------------- codes
def test_orthonormal_atoms_keep_the_largest_correlations():
    A, D = problem(d=12, k=12)[0], np.linalg.qr(problem(d=12, k=12)[1])[0]
    X = dense(*code(A, D, 4), 12)
    B = A @ D.T
    smallest_kept = np.sort(abs(B), axis=1)[:, -4][:, None]
    assert_allclose(X, np.where(abs(B) >= smallest_kept, B, 0), atol=1e-12)


@pytest.mark.parametrize("n_nonzero", [1, 3, 9])
def test_codes_are_those_of_matching_pursuit(n_nonzero):
    A, D = problem()
    indices, values = code(A, D, n_nonzero)
    for a, support, x in zip(A, indices, values, strict=True):
        expected_support, expected = matching_pursuit(a, D, n_nonzero)
        assert_array_equal(support, expected_support)  # in the order chosen
        assert_allclose(x, expected[expected_support], rtol=0, atol=1e-12)


@pytest.mark.parametrize("sizes", [(40, 30, 50, 5), (30, 100, 150, 40)])
def test_codes_agree_with_scikit_learn(sizes):
    from sklearn.linear_model import orthogonal_mp_gram

    n, d, k, s = sizes
    A, D = problem(n, d, k, seed=1)
    expected = orthogonal_mp_gram(D @ D.T, D @ A.T, n_nonzero_coefs=s).T
    indices, values = code(A, D, s)
    found = dense(indices, values, k)
    assert_array_equal(found != 0, expected != 0)
    assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_how_many_atoms_enter_at_once():
    counts = [atoms_together(s) for s in (1, 64, 127, 128, 786, 5000)]
    assert counts == [1, 1, 1, 2, 12, 16]


def test_many_atoms_enter_by_blocks():
    A, D = problem(4, 200, 300, seed=2)
    indices, values = code(A, D, 150)
    for a, support, x in zip(A, indices, values, strict=True):
        expected_support, expected = pursuit_by_blocks(a, D, 150, 2)
        assert_array_equal(support, expected_support)
        assert_allclose(x, expected[expected_support], rtol=0, atol=1e-10)


def test_order_of_atoms_and_scale_of_rows_do_not_matter():
    A, D = problem()
    X, order = dense(*code(A, D, 4), 20), np.random.default_rng(0).permutation(20)
    assert_allclose(dense(*code(A, D[order], 4), 20), X[:, order], atol=1e-12)
    assert_allclose(dense(*code(1e-3 * A, D, 4), 20), 1e-3 * X, atol=1e-15)


def test_places_that_are_not_needed_hold_other_atoms():
    A, D = problem()
    A[0], A[1], A[2] = 0, 2 * D[7], D[3] - D[5]
    indices, values = code(A, D, 4)
    assert all(len(set(row)) == 4 for row in indices.tolist())
    assert_array_equal(values[0], 0)
    assert indices[1, 0] == 7
    assert_allclose(values[1], [2, 0, 0, 0], atol=1e-12)
    X = dense(indices, values, 20)
    assert_allclose(X @ D, dense(*code(A, D, 4), 20) @ D)
    assert np.count_nonzero(abs(values[2]) > 1e-9) >= 2


def test_repeated_atoms_are_used_once():
    A, D = problem(k=10)
    D = np.concatenate([D, D, -D])
    indices, values = code(A, D, 8)
    used = [set((row[x != 0] % 10).tolist()) for row, x in zip(indices, values, strict=True)]
    assert all(len(atoms) == (x != 0).sum() for atoms, x in zip(used, values, strict=True))
    assert np.isfinite(values).all()


def test_single_precision_codes():
    A, D = problem(dtype=np.float32)
    indices, values = code(A, D, 5)
    assert (indices.dtype, values.dtype) == (np.int32, np.float32)
    wide = code(A.astype(np.float64), D.astype(np.float64), 5)
    assert_array_equal(indices, wide[0])
    assert_allclose(values, wide[1], rtol=0, atol=1e-4)  # float32


# ---------------------------------------------------------------- atoms
def fit_after_coding(A, D, n_nonzero, n_power_iterations=1):
    fit = KSVDFit(A, len(D), n_nonzero, n_power_iterations)
    fit.start(D, np.random.default_rng(0))
    return fit


def test_many_power_iterations_find_the_best_rank_one_fit():
    A, D = problem(n=300)
    fit = fit_after_coding(A, D, 3, 500)
    expected = best_atoms(A, fit.components, dense(fit.indices, fit.values, 20))
    fit.update_atoms()
    signs = np.sign((fit.components * expected[0]).sum(axis=1, keepdims=True))
    assert_allclose(fit.components, signs * expected[0], atol=1e-6)  # power iterations
    X = dense(fit.indices, fit.values, 20)
    assert_allclose(X * signs.T, expected[1], atol=1e-6)
    assert_allclose(fit.residual, A - X @ fit.components, atol=1e-12)


def test_each_power_iteration_helps_and_none_hurts():
    A, D = problem(n=300)
    errors = []
    for n_power_iterations in (1, 2, 8):
        fit = fit_after_coding(A, D, 3, n_power_iterations)
        before = fit.error
        fit.update_atoms()
        assert_allclose(np.linalg.norm(fit.components, axis=1), 1, rtol=1e-12)
        errors.append((fit.residual**2).sum())
        assert errors[-1] < before
    assert errors[2] < errors[1] < errors[0]


def test_large_atoms_have_the_same_bits_on_several_threads():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(3000, 400))
    D = np.concatenate([A[:2], rng.normal(size=(1, 400))])
    n_threads, found = numba.get_num_threads(), []
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            found.append(ksvd(A, 3, 2, init=D, max_iter=2, n_power_iterations=2))
    finally:
        numba.set_num_threads(n_threads)
    for one, other in zip(*found, strict=True):
        assert_array_equal(one, other)


def test_atoms_without_users_become_the_worst_rows():
    A, D = problem(n=50, d=4, k=6)
    A[:, 3], D[:4, 3], D[4:] = 0, 0, np.eye(4)[3]  # no row needs the last two
    fit = fit_after_coding(A, D, 1)
    unused = np.setdiff1d(np.arange(6), fit.indices)
    assert set(unused) >= {4, 5}
    fit.update_atoms()
    worst = np.argsort(-(fit.residual**2).sum(axis=1))[: len(unused)]
    expected = fit.residual[worst] / np.linalg.norm(fit.residual[worst], axis=1, keepdims=True)
    assert_allclose(fit.components[unused], expected, atol=1e-12)
    before = fit.error
    fit.code()
    assert fit.error < before


def test_moments_of_codes_and_their_step():
    topic = kernels("atoms", np.empty(0))
    A, D = problem(n=200)
    indices, values = code(A, D, 3)
    X = dense(indices, values, 20)
    C, B = topic.moments_of_codes(A, indices, values, 20)
    assert_allclose(C, X.T @ X, atol=1e-12)
    assert_allclose(B, X.T @ A, atol=1e-12)
    new, expected = D.copy(), D.copy()
    topic.improve_atoms(new, C, B)
    for j in range(20):
        E = A - X @ expected + np.outer(X[:, j], expected[j])
        w = E.T @ X[:, j]
        expected[j] = w / np.linalg.norm(w)
    assert_allclose(new, expected, atol=1e-10)


# ---------------------------------------------------------------- the function
@pytest.mark.parametrize("n_power_iterations", [1, 8])
def test_planted_atoms_are_found(n_power_iterations):
    A, atoms = planted(1500, 20, 40, 3, seed=0)
    options = {"max_iter": 80, "n_power_iterations": n_power_iterations}
    found = [ksvd(A, 40, 3, rng=seed, **options) for seed in range(3)]
    best = min(found, key=lambda result: result.history[-1])
    assert recovered(best.components, atoms) >= 0.9


@pytest.mark.parametrize("init", ["random", "svd"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_error_never_rises(init, dtype):
    A = planted(400, 20, 40, 3, seed=1)[0].astype(dtype)
    A[:5] = 0
    before = A.copy()
    found = ksvd(A, 30, 4, init=init, rng=0, max_iter=15)
    history = np.array(found.history)
    rounding = (1e-12 if dtype == np.float64 else 1e-5) * (A**2).sum()
    assert (np.diff(history) <= rounding).all()
    assert history[-1] < 0.7 * history[0]
    X = dense(found.indices, found.values, 30)
    assert_allclose(((A - X @ found.components) ** 2).sum(), history[-1], rtol=1e-4)
    assert found.components.dtype == found.values.dtype == dtype
    assert_array_equal(X[:5], 0)
    assert_array_equal(A, before)


@pytest.mark.parametrize("n_components", [6, 15])
def test_singular_vectors_bound_the_error(n_components):
    A = np.random.default_rng(0).normal(size=(80, 25)) * 0.9 ** np.arange(25)
    found = ksvd(A, n_components, 6, init="svd", rng=0, max_iter=1)
    rest = (np.linalg.svd(A, compute_uv=False)[6:] ** 2).sum()
    assert found.history[0] <= rest * (1 + 1e-12)
    V = np.linalg.svd(A)[2][:6]
    assert_allclose(abs((leading_directions(A, 6, 16) * V).sum(axis=1)), 1, rtol=1e-9)


def test_as_many_atoms_as_dimensions_represent_everything():
    A = np.random.default_rng(0).normal(size=(60, 5))
    found = ksvd(A, 5, 5, rng=0, max_iter=3)
    assert found.history[-1] <= 1e-20 * (A**2).sum()
    assert found.n_iter < 4


def test_more_atoms_than_rows():
    A = np.random.default_rng(0).normal(size=(12, 20))
    found = ksvd(A, 30, 2, rng=0, max_iter=4)
    assert_allclose(np.linalg.norm(found.components, axis=1), 1, rtol=1e-12)
    assert found.history[-1] < 1e-12 * (A**2).sum()


def test_the_caller_sees_and_stops_iterations():
    A, seen = planted(200, 10, 15, 2, seed=0)[0], []
    found = ksvd(A, 15, 2, rng=0, on_iteration=lambda *now: seen.append(now) or len(seen) == 3)
    assert seen == list(zip([1, 2, 3], found.history, strict=True))
    assert found.n_iter == 3
    settled = ksvd(A, 15, 2, rng=0, tol=0.05)
    before, last = settled.history[-2:]
    assert before - last <= 0.05 * before
    assert settled.n_iter < 60


def test_bad_input_of_the_function():
    A = np.ones((5, 4))
    with pytest.raises(ValueError, match="cannot use 5 of 6 atoms in 4 dimensions"):
        ksvd(A, 6, 5)
    with pytest.raises(ValueError, match="cannot use 3 of 2 atoms"):
        ksvd(A, 2, 3)
    with pytest.raises(ValueError, match="X has only zeros"):
        ksvd(0 * A, 2, 1)
    with pytest.raises(ValueError, match="contains NaN in row 2"):
        ksvd(np.where(np.arange(5)[:, None] == 2, np.nan, A), 2, 1)
    with pytest.raises(ValueError, match=r"init must have shape \(2, 4\), got \(3, 4\)"):
        ksvd(A, 2, 1, init=np.ones((3, 4)))
    with pytest.raises(ValueError, match="no row of zeros"):
        ksvd(A, 2, 1, init=np.zeros((2, 4)))


# ---------------------------------------------------------------- the estimator
@pytest.fixture(scope="module")
def patches():
    from sparseprob.datasets import extract_patches, load_photographs

    X = extract_patches(load_photographs(), 4000, size=6, random_state=0)
    return X - X.mean(axis=1, keepdims=True)


def test_codes_of_the_estimator(patches):
    model = KSVD(50, n_nonzero_coefs=4, max_iter=4, tol=0, random_state=0)
    Z = model.fit_transform(patches)
    assert_allclose(Z, dense(*code(patches, model.components_, 4), 50), atol=1e-12)
    error = ((patches - model.inverse_transform(Z)) ** 2).sum()
    assert_allclose(model.error_[-1], error, rtol=1e-10)
    assert (model.n_iter_, model.n_nonzero_coefs_, model.converged_) == (4, 4, False)


def test_codes_may_be_kept(patches):
    model = KSVD(
        50, n_nonzero_coefs=4, max_iter=8, tol=0, random_state=0, monotone=True, online_passes=0
    )
    Z = model.fit_transform(patches)
    assert (np.diff(model.error_) <= 0).all()
    error = ((patches - model.inverse_transform(Z)) ** 2).sum()
    assert model.error_[-1] < error < 1.1 * model.error_[-1]  # pursuit finds worse codes


def test_online_passes_are_worth_iterations(patches):
    options = {"n_nonzero_coefs": 4, "tol": 0, "random_state": 0, "batch_size": 128}
    plain = KSVD(50, online_passes=0, max_iter=6, **options).fit(patches)
    online = KSVD(50, online_passes=4, max_iter=1, **options).fit(patches)
    assert online.error_[0] < plain.error_[5]


def test_partial_fit_learns(patches):
    model = KSVD(50, n_nonzero_coefs=4, random_state=0)
    for _ in range(3):
        for start in range(0, 4000, 250):
            model.partial_fit(patches[start : start + 250])
    errors = np.array(model.error_).reshape(3, 16).sum(axis=1)
    assert model.n_iter_ == 48
    assert errors[2] < errors[1] < errors[0]
    batch = KSVD(50, n_nonzero_coefs=4, random_state=0, online_passes=0, max_iter=5, tol=0)
    Z = model.transform(patches)
    assert ((patches - Z @ model.components_) ** 2).sum() < batch.fit(patches).error_[-1]


def test_partial_fit_tells_the_error_before_learning(patches):
    model = KSVD(50, n_nonzero_coefs=4, random_state=0).partial_fit(patches[:1000])
    D = model.components_
    model.partial_fit(patches[1000:2000])
    Z = dense(*code(patches[1000:2000], D, 4), 50)
    assert_allclose(model.error_[1], ((patches[1000:2000] - Z @ D) ** 2).sum(), rtol=1e-10)


def test_partial_fit_after_fit_keeps_what_was_learned(patches):
    model = KSVD(50, n_nonzero_coefs=4, max_iter=5, tol=0, random_state=0).fit(patches)
    before = model.components_.copy()
    model.partial_fit(patches[:200])
    overlap = abs((before * model.components_).sum(axis=1))
    assert np.median(overlap) > 0.99
    assert not np.array_equal(before, model.components_)


def test_unused_atoms_are_replaced_online():
    A, atoms = planted(300, 8, 12, 2, seed=0)
    A[:, 7], atoms[:, 7], atoms[0] = 0, 0, np.eye(8)[7]  # no row needs the first
    online = OnlineAtoms(atoms, trusted=False)
    online.update(A, 2)
    assert abs(online.atoms[0, 7]) < 1e-12
    assert_allclose(np.linalg.norm(online.atoms, axis=1), 1, rtol=1e-12)


def test_every_library_gives_the_same_answer(xp, patches):
    X = patches[:500]
    model = KSVD(20, n_nonzero_coefs=3, max_iter=3, tol=0, random_state=0)
    expected, Z = model.fit(X).components_, model.transform(X)
    A = xp.asarray(X)
    found = to_numpy(model.fit(A).components_)
    assert isinstance(model.components_, type(A))
    assert isinstance(model.transform(A), type(A))
    if xp.name != "cupy":  # sums in another order lead to other choices in the end
        assert_allclose(found, expected, atol=1e-12)
        assert_allclose(to_numpy(model.transform(A)), Z, atol=1e-12)
        assert_allclose(to_numpy(model.inverse_transform(model.transform(A))), Z @ expected)


def test_rows_on_disk(tmp_path, patches):
    path = tmp_path / "rows.npy"
    np.save(path, patches[:600])
    model = KSVD(20, n_nonzero_coefs=3, max_iter=3, tol=0, random_state=0)
    expected = model.fit(patches[:600]).components_
    on_disk = np.load(path, mmap_mode="r")
    assert_allclose(model.fit(on_disk).components_, expected, atol=1e-12)
    assert_allclose(model.transform(on_disk), model.transform(patches[:600]))


def test_the_number_of_threads_changes_nothing(patches):
    n_threads, found = numba.get_num_threads(), []
    model = KSVD(40, n_nonzero_coefs=3, max_iter=3, tol=0, random_state=0)
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            found.append(model.fit(np.tile(patches, (4, 1))).components_)
    finally:
        numba.set_num_threads(n_threads)
    assert_array_equal(found[0], found[1])


def test_callbacks_and_the_warning(patches):
    history = History(("n_iter_",))
    model = KSVD(20, n_nonzero_coefs=3, max_iter=2, tol=1e-9, random_state=0)
    with pytest.warns(ConvergenceWarning, match="still lowered the error by more than tol=1e-09"):
        model.set_callbacks(history).fit(patches[:500])
    assert history.records["n_iter_"] == [1, 2]
    model = KSVD(20, n_nonzero_coefs=3, max_iter=200, tol=0.05, random_state=0)
    assert model.fit(patches[:500]).converged_
    assert model.n_iter_ < 200


def test_a_resumed_fit_has_the_same_bits(tmp_path, patches):
    path = tmp_path / "fit.npz"
    options = {"n_nonzero_coefs": 3, "tol": 0, "random_state": 0, "max_iter": 5}
    whole = KSVD(20, **options).fit(patches[:500])

    class Stop:
        def setup(self, estimator, context):
            self.seen = 0

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context):
            self.seen += context.task_name == "iteration"
            return self.seen == 2

        def teardown(self, estimator, context):
            pass

    part = KSVD(20, **options).set_callbacks(Checkpoint(path), Stop()).fit(patches[:500])
    assert part.n_iter_ == 2
    again = KSVD(20, **options).fit(patches[:500], resume_from=path)
    assert_array_equal(again.components_, whole.components_)
    assert again.error_ == whole.error_
    with pytest.raises(ValueError, match="does not fit the parameters: n_nonzero_coefs"):
        KSVD(20, **options | {"n_nonzero_coefs": 2}).fit(patches[:500], resume_from=path)
    with pytest.raises(ValueError, match="does not fit the data"):
        KSVD(20, **options).fit(patches[1:501], resume_from=path)


def test_bad_input_of_the_estimator(patches):
    with pytest.raises(ValueError, match="n_nonzero_coefs must not exceed n_components=4"):
        KSVD(4, n_nonzero_coefs=5).fit(patches)
    with pytest.raises(ValueError, match="X has only zeros"):
        KSVD(4).fit(np.zeros((10, 5)))
    with pytest.raises(ValueError, match=r"init must have shape \(4, 36\)"):
        KSVD(4, init=np.ones((4, 3))).fit(patches)
    with pytest.raises(ValueError, match="contains infinity in row 7"):
        KSVD(4).fit(np.where(np.arange(4000)[:, None] == 7, np.inf, patches))


# ---------------------------------------------------------------- ranks and GPUs
_RANKS = """
import sys
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.dictionary import KSVD
from sparseprob.mpi import rank

X, found = np.load(sys.argv[1]), {}
with distributed():
    for init in ("random", "svd"):
        model = KSVD(
            25, n_nonzero_coefs=3, max_iter=4, tol=0, random_state=0, init=init, batch_size=100,
            online_passes=2 if init == "random" else 0, monotone=init == "svd",
        )
        found["D_" + init] = model.fit(X[row_slice(len(X))]).components_
        found["error_" + init] = model.error_
    model = KSVD(25, n_nonzero_coefs=3, random_state=0)
    for start in (0, 200):
        model.partial_fit(X[start : start + 200][row_slice(200)])
    if rank() == 0:
        np.savez(sys.argv[2], online=model.components_, **found)
"""


@pytest.mark.mpi
def test_ranks_learn_the_same_atoms(mpiexec, tmp_path, patches):
    np.save(tmp_path / "X.npy", patches[:400])
    found = []
    for n_ranks in (1, 3):
        out = tmp_path / f"{n_ranks}.npz"
        mpiexec(n_ranks, _RANKS, str(tmp_path / "X.npy"), str(out))
        found.append(np.load(out))
    assert len(found[0].files) == 5
    for name in found[0].files:
        assert_allclose(found[1][name], found[0][name], rtol=1e-10, atol=1e-10)


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", [(500, 36, 50, 4), (200, 300, 400, 150)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_kernels_on_a_gpu(sizes, dtype):
    import cupy

    n, d, k, s = sizes
    A, D = problem(n, d, k, seed=3, dtype=dtype)
    A[0] = 0
    squares = (A.astype(np.float64) ** 2).sum(axis=1)
    expected = dense(*sparse_code(D @ D.T, A @ D.T, squares, s), k)
    G, B = (cupy.asarray(M) for M in (D @ D.T, A @ D.T))
    on_gpu = kernels("sparse_coding", G)
    indices, values = on_gpu.sparse_code(G, B, cupy.asarray(squares), s)
    assert (indices.dtype, values.dtype) == (np.int32, dtype)
    found = dense(indices.get(), values.get(), k)
    errors = [((A - X @ D) ** 2).sum(axis=1) for X in (found, expected)]
    scale = 1e-10 if dtype == np.float64 else 2e-3  # of a row, where a choice differs
    assert_allclose(errors[0], errors[1], rtol=0, atol=scale * squares.mean())
    assert ((found != 0) == (expected != 0)).mean() > (0.9999 if dtype == np.float64 else 0.98)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(300, 20), (300, 700), (100, 2100)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_atoms_on_a_gpu(shape, dtype):
    import cupy

    rng = np.random.default_rng(0)
    A = rng.normal(size=shape).astype(dtype)
    fits = []
    for rows in (A, cupy.asarray(A)):
        fit = KSVDFit(rows, 15, 3, 3)
        fit.start(A[:15], np.random.default_rng(0))
        fit.update_atoms()
        fits.append(fit)
    tolerance = 1e-10 if dtype == np.float64 else 1e-3
    assert_allclose(fits[1].components.get(), fits[0].components, atol=tolerance)
    assert_allclose(fits[1].residual.get(), fits[0].residual, atol=tolerance * 10)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_error_is_as_low_on_a_gpu(dtype):
    import cupy

    A = planted(800, 20, 40, 3, seed=1)[0].astype(dtype)
    for init in ("random", "svd"):
        on_host = ksvd(A, 40, 3, init=init, rng=0, max_iter=20)
        on_gpu = ksvd(cupy.asarray(A), 40, 3, init=init, rng=0, max_iter=20)
        assert isinstance(on_gpu.components, cupy.ndarray)
        rounding = (1e-12 if dtype == np.float64 else 1e-5) * (A**2).sum()
        assert (np.diff(on_gpu.history) <= rounding).all()
        assert on_gpu.history[-1] < 1.5 * on_host.history[-1]
        assert_allclose(on_gpu.history[0], on_host.history[0], rtol=0.05)
