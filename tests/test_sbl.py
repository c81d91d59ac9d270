"""The estimator of sparse Bayesian learning: invariance, snapshots, error bars, peers, ranks."""

import numpy as np
import pytest
import reference_sbl as reference
from numpy.testing import assert_allclose, assert_array_equal
from reference_sbl import normal, problem, unit
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sparseprob._arrays import to_numpy
from sparseprob._threads import one_blas_thread
from sparseprob.callbacks import History
from sparseprob.recovery import SparseBayesianLearning

UPDATES = ["em", "mackay", "fast"]
pytestmark = pytest.mark.usefixtures("one_blas")


@pytest.fixture(scope="module", name="one_blas")
def small_products():
    """Keep BLAS from sharing out products of small matrices."""
    with one_blas_thread():
        yield


# ---------------------------------------------------------------- invariance
@pytest.mark.parametrize("update", UPDATES)
def test_scales_of_y_and_of_columns_carry_over(update):
    A, y, _, noise_var = problem()
    given = noise_var if update == "mackay" else None
    model = SparseBayesianLearning(update, noise_var=given).fit(A, y)
    scaled = SparseBayesianLearning(update, noise_var=given and 1e6 * given).fit(A, 1e3 * y)
    assert_allclose(scaled.coef_, 1e3 * model.coef_, rtol=1e-6, atol=1e-9)
    assert_allclose(scaled.noise_var_, 1e6 * model.noise_var_, rtol=1e-6)
    shift = len(y) * np.log(1e3)
    assert_allclose(scaled.log_evidence_[-1], model.log_evidence_[-1] - shift, atol=1e-4)
    lengths = np.random.default_rng(5).uniform(0.1, 10, A.shape[1])
    stretched = clone(model).fit(A * lengths, y)
    assert_allclose(stretched.coef_ * lengths, model.coef_, rtol=1e-6, atol=1e-9)
    assert_allclose(stretched.sigma_diag_ * lengths**2, model.sigma_diag_, rtol=1e-6)


@pytest.mark.parametrize("update", UPDATES)
def test_the_order_of_columns_does_not_matter(update):
    A, y, _, _ = problem(M=60)
    order = np.random.default_rng(6).permutation(A.shape[1])
    model = SparseBayesianLearning(update).fit(A, y)
    permuted = SparseBayesianLearning(update).fit(A[:, order], y)
    assert_allclose(permuted.coef_, model.coef_[order], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("update", UPDATES)
def test_an_intercept_is_a_centered_problem(update):
    A, y, _, _ = problem(M=60)
    A, y = A + 3, y + 2
    model = SparseBayesianLearning(update, fit_intercept=True).fit(A, y)
    centered = SparseBayesianLearning(update).fit(A - A.mean(axis=0), y - y.mean())
    assert_allclose(model.coef_, centered.coef_, rtol=1e-7, atol=1e-10)
    assert_allclose(model.predict(A).mean(), y.mean(), rtol=1e-10)
    mean, std = model.predict(A[:5], return_std=True)
    there, spread = centered.predict(A[:5] - A.mean(axis=0), return_std=True)
    assert_allclose(mean, there + y.mean(), rtol=1e-8)
    assert_allclose(std, spread, rtol=1e-8)


# ---------------------------------------------------------------- snapshots and patterns
@pytest.mark.parametrize("update", UPDATES)
def test_one_snapshot_is_a_vector(update):
    A, y, _, _ = problem()
    vector = SparseBayesianLearning(update).fit(A, y)
    matrix = SparseBayesianLearning(update).fit(A, y[:, None])
    assert matrix.coef_.shape == (1, 100)
    assert_array_equal(matrix.coef_[0], vector.coef_)
    assert_array_equal(matrix.gamma_, vector.gamma_)
    assert matrix.predict(A).shape == (40, 1)


@pytest.mark.parametrize("update", UPDATES)
def test_separate_targets_are_separate_fits(update):
    A, Y, _, _ = problem(T=3)
    model = SparseBayesianLearning(update, shared=False).fit(A, Y)
    assert model.gamma_.shape == model.coef_.shape == (3, 100)
    _, std = model.predict(A, return_std=True)
    assert std.shape == Y.shape
    evidence = 0
    for t in range(3):
        alone = SparseBayesianLearning(update).fit(A, Y[:, t])
        assert_allclose(model.coef_[t], alone.coef_, rtol=1e-9, atol=1e-12)
        assert_allclose(model.noise_var_[t], alone.noise_var_, rtol=1e-9)
        assert_array_equal(model.support_[t], alone.support_)
        assert_allclose(std[:, t], alone.predict(A, return_std=True)[1], rtol=1e-9)
        evidence += alone.log_evidence_[-1]
    assert_allclose(model.log_evidence_[-1], evidence, rtol=1e-9)


@pytest.mark.parametrize("update", ["em", "fast"])
def test_snapshots_that_share_their_support_need_fewer_measurements(update):
    found = []
    for seed in range(3):
        A, Y, x, noise_var = problem(M=14, N=60, n_active=7, T=10, seed=seed)
        for shared in (True, False):
            model = SparseBayesianLearning(
                update, noise_var=noise_var, shared=shared, max_iter=500
            ).fit(A, Y)
            found.append(np.linalg.norm(model.coef_.T - x) / np.linalg.norm(x))
    assert max(found[::2]) < 0.1
    assert min(found[1::2]) > 0.3


def test_a_pattern_step_is_that_of_the_formula():
    A, y, _, noise_var = problem(M=20, N=12, noise=0.3)
    power = np.mean(y**2)
    options = {"noise_var": noise_var, "coupling": 0.9, "tol": 0}
    model = SparseBayesianLearning("em", max_iter=1, **options).fit(A, y)
    gamma = reference.pattern_step(
        unit(A), y[:, None], np.full(12, power), noise_var, 0.9, power=power, prune=1e-3
    )
    assert_allclose(model.gamma_, gamma / np.linalg.norm(A, axis=0) ** 2, rtol=1e-9)


def test_coupling_helps_where_coefficients_come_in_blocks():
    errors = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        A, x = rng.normal(size=(36, 100)), np.zeros(100)
        for start in (10, 40, 75):
            x[start : start + 6] = rng.normal(size=6)
        noise = 0.05
        y = A @ x + noise * rng.normal(size=36)
        options = {"noise_var": noise**2, "max_iter": 500, "tol": 1e-3}
        models = (SparseBayesianLearning("em", coupling=c, **options).fit(A, y) for c in (0.9, 0.0))
        errors.append([np.linalg.norm(m.coef_ - x) / np.linalg.norm(x) for m in models])
    coupled, plain = np.median(errors, axis=0)
    assert coupled < 0.5 * plain


# ---------------------------------------------------------------- predictions and draws
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize(("size", "max_iter"), [((40, 100), 60), ((10, 30), 5)])
def test_error_bars_are_those_of_the_dense_posterior(dtype, size, max_iter):
    A, y, _, noise_var = problem(*size, dtype=dtype)
    model = SparseBayesianLearning("em", noise_var=noise_var, max_iter=max_iter, tol=0).fit(A, y)
    S, new = model.support_, normal(np.random.default_rng(7), (4, size[1]), dtype)
    assert (len(S) > size[0]) == (max_iter == 5)  # both kinds of factor are met
    mean, cov = reference.sbl_posterior(A[:, S], y[:, None], model.gamma_[S], noise_var)
    assert_allclose(model.coef_[S], mean[:, 0], rtol=1e-7, atol=1e-10)
    predicted, std = model.predict(new, return_std=True)
    spread = np.diag(new[:, S] @ cov @ new[:, S].conj().T).real + noise_var
    assert_allclose(predicted, new @ model.coef_, rtol=1e-10)
    assert_allclose(std, np.sqrt(spread), rtol=1e-7)
    draws = model.sample_posterior(20_000, random_state=0)
    assert draws.shape == (20_000, size[1])
    deviations = np.abs(draws - model.coef_) ** 2
    factor = 1 if np.dtype(dtype).kind == "c" else 2  # of the variance of a squared normal
    tolerance = 4.5 * np.sqrt(factor / 20_000) * model.sigma_diag_
    assert (abs(deviations.mean(axis=0) - model.sigma_diag_) <= tolerance).all()
    assert_array_equal(model.sample_posterior(2, 3), model.sample_posterior(2, 3))


@pytest.mark.parametrize("update", ["em", "fast"])
def test_targets_have_shapes_of_their_own(update):
    A, Y, _, _ = problem(T=2)
    model = SparseBayesianLearning(update).fit(A, Y)
    assert model.coef_.shape == (2, 100)
    assert model.gamma_.shape == model.sigma_diag_.shape == (100,)
    assert model.sample_posterior(3, 0).shape == (3, 2, 100)
    y, std = model.predict(A, return_std=True)
    assert y.shape == std.shape == (40, 2)
    assert model.score(A, Y) > 0.99


# ---------------------------------------------------------------- what X may be
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("make", [sparse.csc_array, sparse.csr_array, aslinearoperator])
def test_sparse_arrays_and_operators_are_their_dense_form(update, dtype, make):
    A, y, _, _ = problem(M=60, dtype=dtype)
    A[np.abs(A) < 0.5] = 0
    dense = SparseBayesianLearning(update).fit(A, y)
    other = SparseBayesianLearning(update).fit(make(A), y)
    assert isinstance(other.coef_, np.ndarray)
    assert_allclose(other.coef_, dense.coef_, rtol=1e-7, atol=1e-10)
    for ours, theirs in zip(
        other.predict(make(A), return_std=True), dense.predict(A, return_std=True), strict=True
    ):
        assert_allclose(ours, theirs, rtol=1e-7)


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize(
    ("single", "double"), [(np.float32, np.float64), (np.complex64, np.complex128)]
)
def test_single_precision_stays_and_agrees(update, single, double):
    A, y, _, _ = problem(M=60, dtype=double)
    expected = SparseBayesianLearning(update).fit(A, y)
    model = SparseBayesianLearning(update).fit(A.astype(single), y.astype(single))
    assert model.coef_.dtype == single
    assert model.gamma_.dtype == model.sigma_diag_.dtype == np.float32
    assert_array_equal(model.support_, expected.support_)
    assert_allclose(model.coef_, expected.coef_, rtol=1e-3, atol=1e-4)
    assert_allclose(model.log_evidence_[-1], expected.log_evidence_[-1], rtol=1e-3)
    y, std = model.predict(A.astype(single), return_std=True)
    assert (y.dtype, std.dtype) == (single, np.float32)
    assert model.sample_posterior(2).dtype == single


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("shared", [True, False])
def test_everything_follows_the_library_of_x(xp, update, shared):
    A, Y, _, _ = problem(T=2)
    expected = SparseBayesianLearning(update, shared=shared).fit(A, Y)
    model = SparseBayesianLearning(update, shared=shared).fit(xp.asarray(A), xp.asarray(Y))
    kind = type(xp.asarray(A))
    assert all(isinstance(a, kind) for a in (model.coef_, model.gamma_, model.sigma_diag_))
    assert_allclose(to_numpy(model.coef_), expected.coef_, rtol=1e-6, atol=1e-9)
    predicted, std = model.predict(xp.asarray(A), return_std=True)
    assert isinstance(std, kind)
    assert_allclose(to_numpy(std), expected.predict(A, return_std=True)[1], rtol=1e-6)
    draws = model.sample_posterior(2, random_state=0)
    assert isinstance(draws, kind)
    assert_allclose(to_numpy(draws), expected.sample_posterior(2, random_state=0), rtol=1e-6,
                    atol=1e-9)  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize(
    "options", [{"update": u} for u in UPDATES] + [{"update": "em", "coupling": 0.9}]
)
def test_gpu_and_cpu_agree(dtype, options):
    import cupy

    A, y, _, noise_var = problem(M=60, dtype=dtype)
    model = SparseBayesianLearning(noise_var=noise_var, max_iter=500, **options)
    expected = clone(model).fit(A, y)
    model.fit(cupy.asarray(A), cupy.asarray(y))
    assert_array_equal(to_numpy(model.support_), expected.support_)
    tight = np.finfo(dtype).eps < 1e-10
    assert_allclose(to_numpy(model.coef_), expected.coef_, rtol=1e-6 if tight else 1e-3,
                    atol=1e-9 if tight else 1e-4)  # fmt: skip


# ---------------------------------------------------------------- a peer
def test_the_support_of_scikit_learns_ard():
    from sklearn.linear_model import ARDRegression

    for seed in range(3):
        A, y, _, noise_var = problem(M=80, N=40, seed=seed)
        peer = ARDRegression(fit_intercept=False, threshold_lambda=1e3, tol=1e-6, max_iter=1000)
        peer.fit(A, y)
        for update in UPDATES:
            model = SparseBayesianLearning(update, tol=1e-6, max_iter=1000).fit(A, y)
            assert_array_equal(model.support_, np.flatnonzero(peer.coef_))
            assert_allclose(model.coef_, peer.coef_, atol=2e-3)
            assert_allclose(model.noise_var_, 1 / peer.alpha_, rtol=0.05)


# ---------------------------------------------------------------- edges
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("noise_var", [None, 0.5])
def test_zero_measurements_give_zero_coefficients(update, noise_var):
    A = problem()[0]
    model = SparseBayesianLearning(update, noise_var=noise_var).fit(A, np.zeros(40))
    assert not model.coef_.any()
    assert not model.gamma_.any()
    assert model.converged_
    assert model.noise_var_ == (noise_var or 0)
    _, std = model.predict(A, return_std=True)
    assert_allclose(std, np.sqrt(noise_var or 0))
    assert not model.sample_posterior(2).any()


@pytest.mark.parametrize("update", UPDATES)
def test_columns_of_zeros_stay_zero(update):
    A, y, _, _ = problem(M=60)
    expected = SparseBayesianLearning(update).fit(A, y)
    padded = np.insert(A, [0, 50, 100], 0, axis=1)
    model = SparseBayesianLearning(update).fit(padded, y)
    assert not model.coef_[[0, 51, 102]].any()
    assert_allclose(np.delete(model.coef_, [0, 51, 102]), expected.coef_, rtol=1e-3, atol=1e-5)
    empty = SparseBayesianLearning(update).fit(np.zeros((60, 4)), y)
    assert not empty.coef_.any()
    assert_allclose(empty.noise_var_, np.mean(y**2))


def test_pure_noise_may_leave_no_column():
    rng = np.random.default_rng(9)
    A, y = rng.normal(size=(50, 30)), rng.normal(size=50)
    model = SparseBayesianLearning("fast", min_gain=10).fit(A, y)
    assert len(model.support_) == 0
    assert_allclose(model.noise_var_, np.mean(y**2))
    assert_allclose(model.predict(A, return_std=True)[1], np.sqrt(model.noise_var_))
    expected = reference.sbl_evidence(A, y[:, None], np.zeros(30), model.noise_var_)
    assert_allclose(model.log_evidence_[-1], expected, rtol=1e-9)


@pytest.mark.parametrize("update", ["em", "fast"])
def test_without_noise_recovery_is_exact(update):
    A, y, x, _ = problem(noise=0.0)
    model = SparseBayesianLearning(update, max_iter=500).fit(A, y)
    assert_array_equal(model.support_, np.flatnonzero(x))
    assert_allclose(model.coef_, x, atol=1e-6)


@pytest.mark.parametrize("update", UPDATES)
def test_iterations_are_announced(update):
    A, y, _, _ = problem()
    history = History(("noise_var_", "n_iter_"))
    model = SparseBayesianLearning(update).set_callbacks(history).fit(A, y)
    assert history.records["n_iter_"] == list(range(1, model.n_iter_ + 1))
    assert history.records["noise_var_"][-1] == model.noise_var_
    assert not hasattr(model, "_fitting")


def test_an_unfinished_fit_warns():
    A, y, _, _ = problem()
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        model = SparseBayesianLearning("em", max_iter=3).fit(A, y)
    assert not model.converged_


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update": "newton"}, "update"),
        ({"noise_var": 0.0}, "noise_var"),
        ({"noise_var": -1.0}, "noise_var"),
        ({"coupling": 1.0}, "coupling"),
        ({"coupling": -0.1}, "coupling"),
        ({"tol": -1.0}, "tol"),
        ({"prune": 1.0}, "prune"),
        ({"min_gain": -1.0}, "min_gain"),
        ({"max_iter": 0}, "max_iter"),
        ({"coupling": 0.5, "update": "fast"}, "coupling=0.5 needs update='em', got update='fast'"),
        ({"coupling": 1e-4}, "coupling must be 0 or more than prune=0.001, got 0.0001"),
    ],
)
def test_bad_parameters_are_named(options, message):
    A, y, _, _ = problem()
    with pytest.raises(ValueError, match=message):
        SparseBayesianLearning(**{"update": "em"} | options).fit(A, y)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda A, y: (A, y[:-1]), ValueError, "X has 40 rows but y has 39"),
        (lambda A, y: (A, np.where(np.arange(40) == 3, np.nan, y)), ValueError, "y contains NaN"),
        (lambda A, y: (np.where(A > 3, np.inf, A), y), ValueError, "X contains infinity"),
        (lambda A, y: (A.astype(np.float16), y), TypeError, "X is float16"),
        (lambda A, y: (A, None), ValueError, "requires y to be passed"),
    ],
)
def test_bad_data_are_named(change, error, message):
    A, y, _, _ = problem()
    A[0, 0] = 4.0
    with pytest.raises(error, match=message):
        SparseBayesianLearning("fast").fit(*change(A, y))


def test_integers_become_double():
    A, y, _, _ = problem()
    A, y = np.round(9 * A).astype(int), np.round(9 * y).astype(int)
    model = SparseBayesianLearning("fast").fit(A, y)
    assert model.coef_.dtype == np.float64


# ---------------------------------------------------------------- ranks
FIT = """
import sys
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.recovery import SparseBayesianLearning

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    A = rng.normal(size=(14, 60)) + 1j * rng.normal(size=(14, 60))
    x = np.zeros((60, 5), dtype=complex)
    x[[3, 20, 40, 50]] = rng.normal(size=(4, 5))
    Y = A @ x + 0.1 * rng.normal(size=(14, 5)) + 0.1j * rng.normal(size=(14, 5))
    found = {}
    with distributed() as comm:
        mine = Y[:, row_slice(5)]
        for update in ("em", "mackay", "fast"):
            for shared in (True, False):
                model = SparseBayesianLearning(update, shared=shared, max_iter=500).fit(A, mine)
                key = f"{update} {shared}"
                found["coef " + key] = np.vstack(comm.allgather(model.coef_))
                gammas = np.atleast_2d(model.gamma_)
                found["gamma " + key] = gammas if shared else np.vstack(comm.allgather(gammas))
                if shared:
                    found["rest " + key] = np.append(model.log_evidence_, model.noise_var_)
        model = SparseBayesianLearning("em", coupling=0.9, max_iter=500).fit(A, mine)
        found["gamma coupled"] = model.gamma_
        if comm.rank == comm.size - 1:
            np.savez(sys.argv[1], **found)
"""


@pytest.mark.mpi
def test_ranks_share_variances_and_keep_their_snapshots(tmp_path, mpiexec):
    results = []
    for n_ranks in (1, 2):
        mpiexec(n_ranks, FIT, f"{n_ranks}.npz")
        results.append(np.load(tmp_path / f"{n_ranks}.npz"))
    assert len(results[0].files) == 16
    for name in results[0].files:
        for other in results[1:]:
            assert_allclose(other[name], results[0][name], rtol=1e-10, atol=1e-10, err_msg=name)


@pytest.mark.mpi
def test_rows_split_over_ranks_are_refused(mpiexec):
    program = """
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.recovery import SparseBayesianLearning

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    A, y = rng.normal(size=(20, 8)), rng.normal(size=20)
    with distributed():
        SparseBayesianLearning().fit(A[row_slice(20)], y[row_slice(20)])
"""
    done = mpiexec(2, program, check=False)
    assert done.returncode
    assert "splits snapshots over ranks, not rows" in done.stderr
