"""Thresholding methods: oracles, closed forms, many right-hand sides, libraries, ranks."""

from pathlib import Path

import numpy as np
import pytest
import reference_thresholding as reference
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from scipy.linalg import qr
from scipy.sparse.linalg import aslinearoperator
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import orthogonal_mp

from sparseprob._arrays import to_numpy
from sparseprob.callbacks import History
from sparseprob.recovery import (
    CoSaMP,
    HardThresholdingPursuit,
    IterativeHardThresholding,
    SubspacePursuit,
    _least_squares,
    hard_threshold,
)
from sparseprob.recovery._htp import Pursuit
from sparseprob.recovery._iht import squared_norm
from sparseprob.recovery._least_squares import gather, is_gathered, measure
from sparseprob.recovery._measurements import UnitColumns

DTYPES = ["float32", "float64", "complex64", "complex128"]
METHODS = {
    "iht": IterativeHardThresholding(6, normalized=False, tol=0.0, max_iter=40),
    "normalized": IterativeHardThresholding(6, tol=0.0, max_iter=40),
    "htp": HardThresholdingPursuit(6),
    "htp_normalized": HardThresholdingPursuit(6, step_size="normalized"),
    "cosamp": CoSaMP(6),
    "subspace": SubspacePursuit(6),
}
ORACLES = {
    "iht": lambda A, y: reference.iht(A, y, 6, 40),
    "normalized": lambda A, y: reference.normalized_iht(A, y, 6, 40),
    "htp": lambda A, y: reference.htp(A, y, 6, 100, mu=1.0),
    "htp_normalized": lambda A, y: reference.htp(A, y, 6, 100),
    "cosamp": lambda A, y: reference.cosamp(A, y, 6, 100),
    "subspace": lambda A, y: reference.subspace_pursuit(A, y, 6, 100),
}
unfinished = pytest.mark.filterwarnings("ignore:.*still changing")
every_method = pytest.mark.parametrize("name", METHODS)


def random_like(rng, shape, dtype):
    values = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.normal(size=shape)
    return values.astype(dtype)


def problem(seed=0, dtype="float64", *, M=40, N=90, s=6, T=1, noise=0.02, unit=True):
    """Return A, Y of shape (M, T), and the sparse X that made it."""
    rng = np.random.default_rng(seed)
    A = random_like(rng, (M, N), dtype)
    A /= np.linalg.norm(A, axis=0)
    if not unit:
        A *= rng.uniform(0.2, 3.0, size=N).astype(A.real.dtype)
    X = np.zeros((N, T), dtype=dtype)
    for t in range(T):
        X[rng.choice(N, s, replace=False), t] = random_like(rng, s, dtype)
    return A, A @ X + noise * random_like(rng, (M, T), dtype), X


# ---------------------------------------------------------------- oracles and closed forms
@every_method
@pytest.mark.parametrize("dtype", DTYPES)
@unfinished
def test_the_oracle_finds_the_same(name, dtype):
    """Noisy problems, some of them too hard: the path must be the same to the end."""
    single = np.finfo(dtype).eps > 1e-10
    for seed in range(3 if single else 12):
        A, Y, _ = problem(seed, dtype, s=6 if single else 6 + seed % 5)
        expected = ORACLES[name](A, Y[:, 0])
        coef = clone(METHODS[name]).fit(A, Y[:, 0]).coef_
        assert coef.dtype == dtype
        assert_allclose(coef, expected, atol=2e-3 if single else 1e-10)


@every_method
@unfinished
def test_orthogonal_columns_mean_one_hard_threshold(name):
    """With A^H A = I all methods have the closed form H_s(A^H y)."""
    rng = np.random.default_rng(0)
    Q = qr(rng.normal(size=(30, 30)))[0][:, :20]
    y = rng.normal(size=30)
    coef = clone(METHODS[name]).set_params(n_nonzero_coefs=5).fit(Q, y).coef_
    # the constant step is 0.99: 40 iterations leave 0.01^40
    assert_allclose(coef, hard_threshold(Q.T @ y, 5), atol=1e-12)


@every_method
def test_easy_problems_are_solved_like_scikit_learn_s_pursuit(name):
    A, Y, X = problem(1, M=80, s=4, T=7, noise=0.0)
    model = clone(METHODS[name]).set_params(n_nonzero_coefs=4, max_iter=2000).fit(A, Y)
    peer = orthogonal_mp(A, Y, n_nonzero_coefs=4).T
    # a step of iterative thresholding stops at rounding level, contraction 0.5 to 0.9
    assert_allclose(model.coef_, peer, atol=1e-12)
    assert_allclose(model.coef_, X.T, atol=1e-12)
    assert_allclose(model.predict(A), Y, atol=1e-12)
    assert model.converged_


@pytest.mark.parametrize("name", ["htp", "subspace"])
def test_residuals_are_orthogonal_to_the_support(name):
    A, Y, _ = problem(2)
    model = clone(METHODS[name]).fit(A, Y[:, 0])
    residual = Y[:, 0] - A @ model.coef_
    assert_allclose(A[:, model.support_].T @ residual, 0, atol=1e-13)
    assert_allclose(np.linalg.norm(residual), model.residual_norm_, rtol=1e-12)
    assert_array_equal(np.flatnonzero(model.coef_), model.support_)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@unfinished
def test_few_of_many_columns_are_gathered(dtype, monkeypatch):
    """With s far below N products gather columns; the path is that of the oracle, too."""
    monkeypatch.setattr(_least_squares, "_BLOCK", 1000)
    A, Y, X = problem(24, dtype, N=800, s=6, T=3)
    columns = UnitColumns(A, A.dtype)
    support = np.array([np.flatnonzero(x) for x in X.T])
    assert is_gathered(columns, np.hstack([support, support]))
    assert_allclose(measure(columns, support, gather(X, support)), A @ X, atol=1e-13)
    model = IterativeHardThresholding(6, tol=0.0, max_iter=60).fit(A, Y)
    for t in range(3):
        expected = reference.normalized_iht(A, Y[:, t], 6, 60)
        assert_allclose(model.coef_[t], expected, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (30, 30)])
def test_lanczos_finds_the_squared_norm(shape, dtype):
    A = random_like(np.random.default_rng(0), shape, dtype)
    A /= np.linalg.norm(A, axis=0)
    estimate = squared_norm(UnitColumns(A, A.dtype))
    exact = np.linalg.norm(A, 2) ** 2
    assert exact * (1 - 1e-3) <= estimate <= exact * (1 + 1e-12)


# ---------------------------------------------------------------- invariance
@every_method
@unfinished
def test_right_hand_sides_do_not_see_each_other(name, monkeypatch):
    """Together, and in blocks of a few, they have the iterations and answers of each alone."""
    A, Y, _ = problem(6, T=9)
    Y[:, 4] = 0
    together = clone(METHODS[name]).fit(A, Y)
    monkeypatch.setattr(_least_squares, "_BLOCK", 1000)
    for t in range(9):
        alone = clone(METHODS[name]).fit(A, Y[:, t])
        assert_allclose(together.coef_[t], alone.coef_, atol=1e-12)
        assert_array_equal(together.support_[t], alone.support_)
        assert together.stop_reason_[t] == alone.stop_reason_
        assert_allclose(together.residual_norm_[t], alone.residual_norm_, atol=1e-12)
    assert together.stop_reason_[4] == "zero_target"
    assert alone.support_.shape == alone.coef_.nonzero()[0].shape
    one = clone(METHODS[name]).fit(A, Y[:, :1])
    assert one.coef_.shape == (1, 90)


@every_method
@unfinished
def test_permuted_and_scaled_columns_give_permuted_and_scaled_coefficients(name):
    A, Y, _ = problem(7)
    y, order = Y[:, 0], np.random.default_rng(0).permutation(90)
    scale = np.random.default_rng(1).uniform(0.1, 10, size=90)
    coef = clone(METHODS[name]).fit(A, y).coef_
    permuted = clone(METHODS[name]).fit(A[:, order], y).coef_
    assert_allclose(permuted, coef[order], atol=1e-11)
    scaled = clone(METHODS[name]).fit(A * scale, 3.0 * y).coef_
    assert_allclose(scaled, 3.0 * coef / scale, atol=1e-9)


@every_method
@unfinished
def test_the_residual_never_grows(name):
    history = History(("residual_norm_", "n_iter_"))
    A, Y, _ = problem(8, s=9)
    model = clone(METHODS[name]).set_callbacks(history).fit(A, Y[:, 0])
    norms = np.array([np.linalg.norm(Y), *history.records["residual_norm_"]])
    assert (np.diff(norms) <= 1e-14).all()
    assert history.records["n_iter_"] == list(range(1, model.n_iter_ + 1))


@every_method
@unfinished
def test_an_intercept_takes_the_means_off(name):
    A, Y, _ = problem(9, T=2, unit=False)
    A, Y = A + 0.5, Y + 3.0
    model = clone(METHODS[name]).set_params(fit_intercept=True).fit(A, Y)
    centered = clone(METHODS[name]).fit(A - A.mean(axis=0), Y - Y.mean(axis=0))
    assert_allclose(model.coef_, centered.coef_, atol=1e-11)
    assert_allclose((Y - model.predict(A)).mean(axis=0), 0, atol=1e-12)


# ---------------------------------------------------------------- libraries and forms of A
@every_method
@unfinished
def test_every_library_gives_the_answer_of_numpy(name, xp):
    A, Y, _ = problem(10, T=3)
    model = clone(METHODS[name]).fit(xp.asarray(A), xp.asarray(Y))
    expected = clone(METHODS[name]).fit(A, Y)
    assert type(model.coef_) is type(xp.asarray(A))
    assert_allclose(to_numpy(model.coef_), expected.coef_, atol=1e-10)
    assert_allclose(to_numpy(model.residual_norm_), expected.residual_norm_, atol=1e-10)
    for ours, theirs in zip(model.support_, expected.support_, strict=True):
        assert_array_equal(to_numpy(ours), theirs)


@pytest.mark.gpu
@every_method
@pytest.mark.parametrize("dtype", DTYPES)
@unfinished
def test_the_gpu_finds_what_the_cpu_finds(name, dtype):
    cupy = pytest.importorskip("cupy")
    A, Y, _ = problem(11, dtype, T=40, s=4)
    tol = 2e-3 if np.finfo(dtype).eps > 1e-10 else 1e-6
    model = clone(METHODS[name]).fit(cupy.asarray(A), cupy.asarray(Y))
    expected = clone(METHODS[name]).fit(A, Y)
    assert_allclose(model.coef_.get(), expected.coef_, atol=tol)


@every_method
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@unfinished
def test_sparse_matrices_and_operators_are_fitted_like_dense_ones(name, dtype):
    A, Y, _ = problem(12, dtype, T=3, unit=False)
    A[np.random.default_rng(0).random(A.shape) < 0.4] = 0
    expected = clone(METHODS[name]).fit(A, Y).coef_
    for form in (sparse.csr_array(A), aslinearoperator(A)):
        coef = clone(METHODS[name]).fit(form, Y).coef_
        assert_allclose(coef, expected, atol=1e-9)  # conjugate gradients stop at 1e-14 of A^H y


# ---------------------------------------------------------------- degenerate problems
@every_method
@unfinished
def test_columns_of_zeros_get_no_coefficient(name):
    A, Y, _ = problem(13)
    padded = np.insert(A, [0, 10, 90], 0.0, axis=1)
    kept = np.flatnonzero(np.linalg.norm(padded, axis=0))
    coef = clone(METHODS[name]).fit(padded, Y[:, 0]).coef_
    assert_allclose(coef[kept], clone(METHODS[name]).fit(A, Y[:, 0]).coef_, atol=1e-12)
    assert not coef[np.linalg.norm(padded, axis=0) == 0].any()


@every_method
@unfinished
def test_fewer_columns_than_coefficients_to_choose_from(name):
    """All but two columns are zero, s is six: what is left is least squares on the two."""
    A, Y, _ = problem(14, N=12)
    A[:, 2:] = 0
    model = clone(METHODS[name]).set_params(max_iter=300).fit(A, Y[:, 0])
    assert_allclose(model.coef_, reference.fit_on(A, Y[:, 0], [0, 1]), atol=1e-10)


@every_method
def test_a_target_of_zeros_is_explained_by_zeros(name):
    A, _, _ = problem(15)
    model = clone(METHODS[name]).fit(A, np.zeros(40))
    assert_array_equal(model.coef_, 0)
    assert model.stop_reason_ == "zero_target"
    assert model.n_iter_ == 0
    assert model.support_.size == 0


@pytest.mark.parametrize("name", ["htp", "cosamp", "subspace"])
def test_dependent_columns_are_reported(name):
    A, Y, X = problem(16, M=60, s=3, noise=0.0)
    A = np.hstack([A, A])
    with pytest.warns(ConvergenceWarning, match="dependent columns were met first in iteration"):
        model = clone(METHODS[name]).fit(A, Y[:, 0])
    assert_allclose(model.predict(A), Y[:, 0], atol=1e-10)


def test_too_many_candidates_for_the_measurements_are_reported():
    A, Y, _ = problem(17)
    with pytest.warns(ConvergenceWarning, match="over 42 columns with 40 measurements"):
        CoSaMP(14).fit(A, Y[:, 0])
    with pytest.warns(ConvergenceWarning, match="over 42 columns with 40 measurements"):
        SubspacePursuit(21).fit(A, Y[:, 0])


def test_supports_that_come_back_end_the_pursuit_with_the_best():
    """A long step makes supports cycle; the best iterate of the cycle is what the oracle keeps."""
    ended = set()
    for seed in range(30):
        A, Y, _ = problem(seed, s=10)
        model = HardThresholdingPursuit(10, step_size=2.0).fit(A, Y[:, 0])
        assert_allclose(model.coef_, reference.htp(A, Y[:, 0], 10, 100, mu=2.0), atol=1e-9)
        assert model.converged_
        ended.add(model.stop_reason_)
    assert ended == {"cycle", "support"}


def test_cycles_are_found_for_each_right_hand_side():
    A, Y, _ = problem(0, s=10, T=30)
    model = HardThresholdingPursuit(10, step_size=2.0).fit(A, Y)
    alone = [HardThresholdingPursuit(10, step_size=2.0).fit(A, y) for y in Y.T]
    assert model.stop_reason_ == [m.stop_reason_ for m in alone]
    assert model.n_iter_ == max(m.n_iter_ for m in alone)
    assert {"cycle", "support"} <= set(model.stop_reason_)


def test_iterations_that_run_out_are_reported():
    A, Y, _ = problem(18, T=4)
    for model in (IterativeHardThresholding(6, max_iter=2), HardThresholdingPursuit(6, max_iter=1)):
        with pytest.warns(ConvergenceWarning, match="4 of 4 right-hand sides were still changing"):
            model.fit(A, Y)
        assert not model.converged_
        assert model.stop_reason_ == ["max_iter"] * 4


def test_a_step_that_is_too_long_is_named():
    A, Y, _ = problem(19)
    with pytest.raises(FloatingPointError, match="use a smaller step_size"):
        IterativeHardThresholding(30, normalized=False, step_size=100.0).fit(A, Y[:, 0])


def test_a_tolerance_ends_early():
    A, Y, _ = problem(20, noise=0.0)
    model = IterativeHardThresholding(6, tol=1e-2).fit(A, Y[:, 0])
    assert model.stop_reason_ in ("tol", "converged")
    assert model.residual_norm_ < 0.2 * np.linalg.norm(Y)
    assert model.n_iter_ < IterativeHardThresholding(6).fit(A, Y[:, 0]).n_iter_


@every_method
def test_bad_input_is_named(name):
    A, Y, _ = problem(21)
    y = Y[:, 0]
    model = clone(METHODS[name])
    with pytest.raises(ValueError, match="at most min\\(n_samples, n_features\\) = 40, got 41"):
        clone(model).set_params(n_nonzero_coefs=41).fit(A, y)
    with pytest.raises(ValueError, match="'n_nonzero_coefs' parameter"):
        clone(model).set_params(n_nonzero_coefs=0).fit(A, y)
    with pytest.raises(ValueError, match="'tol' parameter"):
        clone(model).set_params(tol=-1.0).fit(A, y)
    with pytest.raises(ValueError, match="y contains"):
        clone(model).fit(A, np.where(np.arange(40) == 3, np.nan, y))
    with pytest.raises(ValueError, match="X has 40 rows but y has 39"):
        clone(model).fit(A, y[:-1])


def test_a_step_size_needs_the_plain_form():
    A, Y, _ = problem(22)
    with pytest.raises(ValueError, match="needs normalized=False"):
        IterativeHardThresholding(6, step_size=0.1).fit(A, Y[:, 0])
    with pytest.raises(ValueError, match="'step_size' parameter"):
        HardThresholdingPursuit(6, step_size="best").fit(A, Y[:, 0])


def test_integers_are_computed_in_double_precision():
    A = np.random.default_rng(0).integers(-5, 6, size=(30, 50))
    x = np.zeros(50)
    x[[4, 9]] = 2.0, -3.0
    for method in METHODS.values():
        model = clone(method).set_params(n_nonzero_coefs=2, max_iter=1000).fit(A, A @ x)
        assert model.coef_.dtype == np.float64
        assert_allclose(model.coef_, x, atol=1e-10)


def test_hashes_of_supports_differ_for_different_supports():
    columns = UnitColumns(problem(0)[0], np.float64)
    method = Pursuit(6, 1.0)
    method.start(columns, np.ones((40, 500)))
    supports = np.sort(np.random.default_rng(0).integers(90, size=(500, 6)), axis=1)
    sums = method.keys[supports].sum(axis=1)
    assert len(np.unique(sums)) == len(np.unique(supports, axis=0))


# ---------------------------------------------------------------- ranks
PROGRAM = """
import sys, warnings
from pathlib import Path

import numpy as np
sys.path.insert(0, {tests!r})
from sparseprob import distributed, row_slice
from test_thresholding import METHODS, clone, problem

warnings.simplefilter("ignore")
with distributed() as comm:
    out = {{}}
    for dtype in ("float64", "complex128"):
        A, Y, _ = problem(23, dtype, T=5, s=8, unit=False)
        for name, method in METHODS.items():
            mine = row_slice(len(A))
            fitted = clone(method).fit(A[mine], Y[mine])
            out[name + dtype], out["n" + name + dtype] = fitted.coef_, fitted.residual_norm_
    if comm.rank == comm.size - 1:
        np.savez(sys.argv[1], **out)
"""


@pytest.mark.mpi
@unfinished
def test_ranks_end_with_the_coefficients_of_one_process(tmp_path, mpiexec):
    mpiexec(2, PROGRAM.format(tests=str(Path(__file__).parent)), "two.npz")
    two = np.load(tmp_path / "two.npz")
    for dtype in ("float64", "complex128"):
        A, Y, _ = problem(23, dtype, T=5, s=8, unit=False)
        for name, method in METHODS.items():
            fitted = clone(method).fit(A, Y)
            assert_allclose(two[name + dtype], fitted.coef_, atol=1e-10)
            assert_allclose(two["n" + name + dtype], fitted.residual_norm_, atol=1e-10)
