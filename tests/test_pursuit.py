"""Greedy pursuit: both forms of the engine, paths, and orthogonal matching pursuit."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_pursuit import greedy_pursuit, largest_decrease, orthogonal_pursuit
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import orthogonal_mp as peer

from sparseprob._arrays import to_numpy
from sparseprob._kernels import _pursuit_rules as compiled
from sparseprob.recovery import OrthogonalMatchingPursuit, _pursuit, _rules, orthogonal_mp
from sparseprob.recovery._measurements import UnitColumns
from sparseprob.recovery._rules import Rule

RULES = [(loss, penalty) for loss in ("squared", "sqrt") for penalty in ("l1", "l0")]
METHODS = ["gram", "residual"]
DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


@pytest.fixture(params=["gram", "one by one", "side by side"])
def method(request, monkeypatch):
    """Each form of the engine: the Gram matrix, and residuals of one or of many targets."""
    if request.param == "gram":
        return "gram"
    monkeypatch.setattr(_pursuit, "_FEW", 4 if request.param == "one by one" else 0)
    return "residual"


def normal(rng, *shape, dtype=np.float64):
    """Standard normal numbers, complex ones with independent parts."""
    numbers = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        numbers = numbers + 1j * rng.normal(size=shape)
    return numbers.astype(dtype)


def unit_matrix(rng, M, N, dtype=np.float64):
    A = normal(rng, M, N, dtype=dtype)
    return A / np.linalg.norm(A, axis=0).astype(A.real.dtype)


def sparse_problem(seed, M, N, s, T=1, noise=0.0, dtype=np.float64):
    """A, Y and the coefficients, moduli between 1 and 2."""
    rng = np.random.default_rng(seed)
    A = normal(rng, M, N, dtype=dtype)
    X = np.zeros((N, T), dtype=dtype)
    for t in range(T):
        signs = normal(rng, s, dtype=dtype)
        X[rng.choice(N, s, replace=False), t] = signs / np.abs(signs) * rng.uniform(1, 2, s)
    return A, (A @ X + noise * normal(rng, M, T, dtype=dtype)).astype(dtype), X


def fitted_state(seed, dtype, n_active):
    """Unit columns, y, least-squares coefficients of the first n_active columns, weights."""
    rng = np.random.default_rng(seed)
    A, y = unit_matrix(rng, 8, 6, dtype), normal(rng, 8, dtype=dtype)
    z = np.zeros(6, dtype=dtype)
    if n_active:
        z[:n_active] = np.linalg.lstsq(A[:, :n_active], y)[0]
    return A, y, z, rng.uniform(0.2, 2.0, 6)


# --- the rules of selection -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize(("loss", "penalty"), RULES)
def test_decreases_are_those_of_a_search(loss, penalty, dtype):
    for seed, alpha in enumerate([0.05, 0.3, 0.7, 1.4]):
        A, y, z, weights = fitted_state(seed, dtype, n_active=2)
        r = y - A @ z
        rho, rule = np.linalg.norm(r), Rule(loss, penalty, alpha)
        prices = rule.prices(weights)
        gains = _rules.decrease(rule, np.abs(A.conj().T @ r), rho, prices)
        gains[:2] = _rules.active_decrease(rule, np.abs(z[:2]), rho, prices[:2])
        expected = [
            largest_decrease(A, y, z, j, loss, penalty, alpha, weights) for j in range(A.shape[1])
        ]
        assert_allclose(gains, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("loss", "penalty"), RULES)
def test_compiled_rules_are_the_whole_array_formulas(loss, penalty):
    rng = np.random.default_rng(0)
    rho = rng.uniform(0.5, 2, 400)
    c = rho * np.r_[rng.uniform(0, 1, 398), 0, 1]
    prices, rule = rng.uniform(0, 1.2, 400), Rule(loss, penalty, 1.0)
    for ours, scalar in (
        (_rules.decrease, compiled.added_decrease),
        (_rules.active_decrease, compiled.active_decrease),
    ):
        expected = [scalar(rule.code, *args) for args in zip(c, rho, prices, strict=True)]
        assert_allclose(ours(rule, c, rho, prices), expected, rtol=1e-13, atol=1e-15)


def test_the_square_root_rule_gains_nothing_below_its_threshold():
    """Evaluated without the condition c > alpha rho, the formula would be positive."""
    rule, rho = Rule("sqrt", "l1", 0.5), 2.0
    gains = _rules.decrease(rule, np.array([0.0, 0.3, 0.999, 1.001, 2.0]), rho, 0.5)
    assert_array_equal(gains[:3], 0)
    assert (gains[3:] > 0).all()
    assert _rules.decrease(rule, np.array([2.0]), rho, 1.0) == 0


def test_the_first_of_equal_values_is_the_largest():
    values = np.array([0.0, 3.0, 1.0, 3.0] * 600)
    assert compiled.first_largest(values) == 1
    values[[-1, -5]] = 4.0
    assert compiled.first_largest(values) == len(values) - 5


# --- pursuits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "penalty"), RULES)
def test_pursuits_are_those_of_the_oracle(loss, penalty, method):
    rng = np.random.default_rng(1)
    lengths = set()
    for alpha in (0.02, 0.3):
        A = unit_matrix(rng, 10, 14)
        Y = A @ np.where(rng.random((14, 3)) < 0.3, rng.normal(size=(14, 3)), 0)
        Y += 0.05 * rng.normal(size=Y.shape)
        weights = rng.uniform(0.2, 1.5, 14)
        paths = orthogonal_mp(
            A, Y, loss=loss, penalty=penalty, alpha=alpha, weights=weights, n_nonzero_coefs=6,
            method=method, return_path=True,
        )  # fmt: skip
        for t, path in enumerate(paths):
            support, z = greedy_pursuit(A, Y[:, t], loss, penalty, alpha, weights, 6)
            assert_array_equal(path.support, support)
            assert_allclose(path.coef_at(len(path)), z, atol=1e-11)
            lengths.add(len(path))
    assert len(lengths) > 1  # not all ended by the number of columns


@pytest.mark.parametrize("dtype", DTYPES)
def test_orthogonal_pursuit_of_every_type(dtype, method):
    A, Y, _ = sparse_problem(2, 40, 80, 6, T=5, noise=0.1, dtype=dtype)
    model = OrthogonalMatchingPursuit(8, method=method).fit(A, Y)
    tolerance = 1e-10 if np.finfo(dtype).eps < 1e-10 else 1e-4
    assert model.coef_.dtype == dtype
    assert model.residual_norm_.dtype == np.finfo(dtype).dtype
    wide = A.astype(np.result_type(dtype, np.float64))
    lengths = np.linalg.norm(wide, axis=0)
    for t in range(5):
        support, z = orthogonal_pursuit(wide / lengths, Y[:, t].astype(wide.dtype), 8)
        assert_array_equal(model.support_[t], support)
        coef = model.coef_[t, support]
        assert_allclose(coef, z / lengths[support], atol=tolerance)
        residual = Y[:, t] - wide[:, support] @ coef
        assert_allclose(model.residual_norm_[t], np.linalg.norm(residual), rtol=tolerance)
        assert np.abs(wide[:, support].conj().T @ residual).max() < 100 * tolerance


@pytest.mark.parametrize("T", [1, 30])
def test_the_peer_agrees(T, method):
    A, Y, _ = sparse_problem(3, 60, 150, 8, T=T, noise=0.3)
    A /= np.linalg.norm(A, axis=0)  # the peer chooses by correlations with columns as given
    expected = peer(A, Y, n_nonzero_coefs=12).reshape(150, T)
    assert_allclose(orthogonal_mp(A, Y, n_nonzero_coefs=12, method=method), expected, atol=1e-10)
    tol = 0.5 * float(np.sum(Y**2, axis=0).min())  # the peer takes one column in any case
    expected = peer(A, Y, tol=tol).reshape(150, T)
    assert 0 < np.count_nonzero(expected) < 40 * T
    assert_allclose(orthogonal_mp(A, Y, tol=tol, method=method), expected, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
def test_noiseless_coefficients_are_recovered(dtype, method):
    A, Y, X = sparse_problem(4, 200, 400, 10, T=3, dtype=dtype)
    tolerance = 1e-12 if np.finfo(dtype).eps < 1e-10 else 1e-4
    model = OrthogonalMatchingPursuit(10, method=method).fit(A, Y)
    assert_allclose(model.coef_, X.T, atol=tolerance)
    assert (model.residual_norm_ <= tolerance * np.linalg.norm(Y, axis=0)).all()
    longer = OrthogonalMatchingPursuit(20, method=method).fit(A, Y)
    assert longer.stop_reason_ == ["no_decrease"] * 3
    assert_array_equal(longer.n_iter_, 10)
    assert_allclose(longer.coef_, X.T, atol=tolerance)


def test_small_residuals_are_left_to_the_residual_form():
    """Noise of 1e-8 is far below what differences of squares resolve."""
    A, Y, _ = sparse_problem(5, 80, 120, 5, T=4, noise=1e-8)
    for path in (False, True):
        ours, others = (
            orthogonal_mp(A, Y, n_nonzero_coefs=12, method=m, return_path=path) for m in METHODS
        )
        if path:
            for a, b in zip(ours, others, strict=True):
                assert_array_equal(a.support, b.support)
                assert_allclose(a.residual_norms, b.residual_norms, rtol=1e-6)
        else:
            assert np.count_nonzero(ours) == 48
            assert_array_equal(ours != 0, others != 0)
            assert_allclose(ours, others, atol=1e-15)


def test_chunks_and_growing_memory_change_nothing(monkeypatch):
    A, Y, _ = sparse_problem(6, 60, 90, 9, T=25, noise=0.2)
    arguments = {"n_nonzero_coefs": 30, "tol": 0.05 * float(np.sum(Y[:, 0] ** 2))}
    expected = {m: orthogonal_mp(A, Y, method=m, **arguments) for m in METHODS}
    assert len(set(np.count_nonzero(expected["gram"], axis=0))) > 3
    monkeypatch.setattr(_pursuit, "_BLOCK", 90 * 8 * 3)
    monkeypatch.setattr(_pursuit, "_CHUNK", 2)
    monkeypatch.setattr(_pursuit, "_BATCH", 200_000)
    for method in METHODS:
        again = orthogonal_mp(A, Y, method=method, **arguments)
        assert_allclose(again, expected[method], atol=1e-13)
    assert_allclose(expected["gram"], expected["residual"], atol=1e-11)


def test_operators_and_sparse_matrices_are_like_dense_ones():
    A, Y, _ = sparse_problem(7, 40, 60, 5, T=3, noise=0.1)
    A[np.random.default_rng(0).random(A.shape) < 0.5] = 0
    expected = orthogonal_mp(A, Y, n_nonzero_coefs=7)
    stored = sparse.csr_array(A)
    stored.data[::7] = 0  # explicit zeros
    for method in METHODS:
        ours = orthogonal_mp(sparse.csc_matrix(A), Y, n_nonzero_coefs=7, method=method)
        assert_allclose(ours, expected, atol=1e-11)
        ours = orthogonal_mp(stored, Y, n_nonzero_coefs=7, method=method)
        there = orthogonal_mp(stored.toarray(), Y, n_nonzero_coefs=7, method=method)
        assert_allclose(ours, there, atol=1e-11)
    ours = orthogonal_mp(aslinearoperator(A), Y, n_nonzero_coefs=7)
    assert_allclose(ours, expected, atol=1e-11)


def test_neither_order_in_memory_nor_threads_matter(method, monkeypatch):
    A, Y, _ = sparse_problem(7, 40, 60, 5, T=2, noise=0.1, dtype=np.complex128)
    expected = orthogonal_mp(A, Y, n_nonzero_coefs=7, method=method)
    monkeypatch.setattr(_pursuit, "_SMALL", 0)
    for B in (A, np.asfortranarray(A), np.repeat(A, 2, axis=1)[:, ::2]):
        ours = orthogonal_mp(B, Y, n_nonzero_coefs=7, method=method)
        assert_allclose(ours, expected, atol=1e-12)


def test_permuting_columns_and_rows_permutes_the_answer():
    A, Y, _ = sparse_problem(8, 40, 70, 6, noise=0.1)
    rng = np.random.default_rng(0)
    columns, rows = rng.permutation(70), rng.permutation(40)
    expected = orthogonal_mp(A, Y[:, 0], n_nonzero_coefs=9)
    ours = orthogonal_mp(A[rows][:, columns], Y[rows, 0], n_nonzero_coefs=9)
    assert_allclose(ours, expected[columns], atol=1e-12)


def test_every_library_gives_the_same(xp):
    A, Y, _ = sparse_problem(9, 30, 50, 4, T=2, noise=0.1)
    expected = OrthogonalMatchingPursuit(5).fit(A, Y)
    ours = OrthogonalMatchingPursuit(5).fit(xp.asarray(A), xp.asarray(Y))
    assert type(ours.coef_) is type(xp.asarray(A))
    assert_allclose(to_numpy(ours.coef_), expected.coef_, atol=1e-12)
    assert_array_equal(to_numpy(ours.support_[1]), expected.support_[1])
    path = orthogonal_mp(xp.asarray(A), xp.asarray(Y[:, 0]), n_nonzero_coefs=5, return_path=True)
    assert type(path.coef_at(3)) is type(xp.asarray(A))
    assert np.count_nonzero(to_numpy(path.coef_at(3))) == 3


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gpu_chooses_what_the_host_chooses(dtype):
    import cupy

    A, Y, _ = sparse_problem(10, 120, 300, 12, T=40, noise=0.05, dtype=dtype)
    for penalized in ({}, {"loss": "sqrt", "alpha": 0.1}, {"loss": "squared", "alpha": 0.5}):
        weights = None if not penalized else np.random.default_rng(0).uniform(0.5, 1, 300)
        host = orthogonal_mp(A, Y, n_nonzero_coefs=20, weights=weights, **penalized)
        ours = orthogonal_mp(
            cupy.asarray(A), cupy.asarray(Y), n_nonzero_coefs=20, weights=weights, **penalized
        )
        assert_array_equal(to_numpy(ours) != 0, host != 0)
        tolerance = 1e-6 if np.finfo(dtype).eps < 1e-10 else 1e-3
        assert_allclose(to_numpy(ours), host, atol=tolerance)


@pytest.mark.mpi
def test_ranks_hold_rows(mpiexec):
    program = """
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.recovery import orthogonal_mp
rng = np.random.default_rng(0)
A, Y = rng.normal(size=(31, 50)), rng.normal(size=(31, 5))
Y[:, 0] = A[:, :4] @ np.arange(1.0, 5.0)  # falls below what the Gram matrix resolves
weights = rng.uniform(0.5, 1, 50)
def solve(A, Y):
    return [
        orthogonal_mp(A, Y, n_nonzero_coefs=6, method=method, weights=weights, **penalized)
        for method in ("gram", "residual") for penalized in ({}, {"loss": "sqrt", "alpha": 0.1})
    ]
expected = solve(A, Y)
with distributed() as comm:
    rows = row_slice(31)
    for ours, one in zip(solve(A[rows], Y[rows]), expected, strict=True):
        np.testing.assert_allclose(ours, one, atol=1e-12)
    if comm.rank == 0:
        print("equal", np.count_nonzero(expected[0]))
"""
    assert "equal 28" in mpiexec(3, program).stdout


# --- ends -----------------------------------------------------------------------------------------


def test_reasons_of_the_end(method):
    A, Y, X = sparse_problem(11, 60, 100, 4, T=4)
    Y[:, 1] = 0
    model = OrthogonalMatchingPursuit(3, method=method).fit(A, Y)
    assert model.stop_reason_ == ["max_iter", "zero_target", "max_iter", "max_iter"]
    assert_array_equal(model.n_nonzero_coefs_, [3, 0, 3, 3])
    assert_array_equal(model.coef_[1], 0)
    tol = 1e-3
    model = OrthogonalMatchingPursuit(method=method, tol=tol).fit(A, Y)
    assert model.stop_reason_ == ["tol", "zero_target", "tol", "tol"]
    assert (model.residual_norm_**2 <= tol).all()
    assert OrthogonalMatchingPursuit(method=method).fit(A, Y).n_iter_.max() == 4  # then exact


def test_zero_columns_and_duplicates_stay_out(method):
    A, Y, X = sparse_problem(12, 50, 40, 5, T=2, noise=0.1)
    A[:, 7] = 0
    A[:, 20] = A[:, 3]
    model = OrthogonalMatchingPursuit(25, method=method).fit(A, Y)
    for support in model.support_:
        assert 7 not in support
        assert not {3, 20} <= set(support)
        assert len(set(support)) == 25
    everything = OrthogonalMatchingPursuit(40, method=method).fit(A, Y)
    assert_array_equal(everything.n_iter_, 38)
    assert everything.stop_reason_ == ["no_decrease"] * 2
    best = np.linalg.lstsq(A, Y)[0]
    assert_allclose(A @ everything.coef_.T, A @ best, atol=1e-10)


def test_dependent_columns_are_left_out_with_a_warning(method):
    """The second column differs from the first by 1e-7, which still correlates with u."""
    a, u, v = np.eye(5)[:3]
    A = np.stack([a, a + 1e-7 * u, v], axis=1)
    y = (3 * a + u + 1e-9 * v)[:, None].repeat(2, axis=1)
    with pytest.warns(ConvergenceWarning, match="came up at step 2 depends linearly"):
        model = OrthogonalMatchingPursuit(3, method=method).fit(A, y)
    assert_array_equal(model.support_, [[1, 2]] * 2)
    assert model.stop_reason_ == ["rank"] * 2
    assert_allclose(model.coef_[:, 1:], [[3, 1e-9]] * 2, rtol=1e-6)


def test_the_noise_level_ends_the_pursuit():
    """Noise stays below the bound in all but a fraction 1 / M of the cases."""
    sigma = 0.05
    A, Y, X = sparse_problem(13, 100, 200, 8, T=50, noise=sigma)
    for tol in (None, 1e-6):  # the larger limit is met first
        model = OrthogonalMatchingPursuit(noise_std=sigma, tol=tol).fit(A, Y)
        hits = [set(s) == set(np.flatnonzero(x)) for s, x in zip(model.support_, X.T, strict=True)]
        assert np.mean(hits) > 0.9
    bound = sigma * np.sqrt(100 + 2 * np.sqrt(100 * np.log(100)))
    assert (model.residual_norm_ <= bound).all()


def test_an_intercept_is_a_centered_problem():
    A, Y, _ = sparse_problem(14, 40, 60, 4, T=2, noise=0.1)
    Y += 5
    model = OrthogonalMatchingPursuit(5, fit_intercept=True).fit(A, Y)
    centered = OrthogonalMatchingPursuit(5).fit(A - A.mean(axis=0), Y - Y.mean(axis=0))
    assert_allclose(model.coef_, centered.coef_, atol=1e-12)
    assert_allclose((Y - model.predict(A)).mean(axis=0), 0, atol=1e-12)
    assert model.score(A, Y) > 0.9


def test_the_default_number_of_columns():
    A, Y, _ = sparse_problem(15, 60, 90, 20, noise=0.1)
    assert OrthogonalMatchingPursuit().fit(A, Y[:, 0]).n_nonzero_coefs_ == 9
    assert np.count_nonzero(orthogonal_mp(A[:8], Y[:8, 0])) == 8


# --- paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_a_path_holds_every_step(dtype, method):
    A, Y, _ = sparse_problem(16, 40, 70, 6, T=2, noise=0.2, dtype=dtype)
    paths = orthogonal_mp(A, Y, n_nonzero_coefs=10, method=method, return_path=True)
    lengths = np.linalg.norm(A, axis=0)
    for path, y in zip(paths, Y.T, strict=True):
        assert path.coefs.shape == (55,)  # K (K + 1) / 2
        assert len(path) == 10
        for k in range(11):
            coef = path.coef_at(k)
            assert_allclose(coef, orthogonal_mp(A, y, n_nonzero_coefs=k) if k else 0, atol=1e-11)
            r = y - A @ coef
            assert_allclose(path.residual_norms[k], np.linalg.norm(r), rtol=1e-10)
            c = np.abs(A.conj().T @ r) / lengths
            assert_allclose(path.max_correlation[k], c.max(), rtol=1e-10)


@pytest.mark.parametrize(("loss", "penalty"), RULES)
def test_one_path_serves_every_alpha(loss, penalty):
    A, Y, _ = sparse_problem(17, 50, 80, 6, noise=0.3)
    y = Y[:, 0]
    path = orthogonal_mp(A, y, n_nonzero_coefs=30, return_path=True)
    unit = A / np.linalg.norm(A, axis=0)
    largest = {"squared": 2 * np.abs(unit.T @ y).max(), "sqrt": 1.0}[loss]
    sizes = set()
    for alpha in largest * np.geomspace(1e-3, 1, 12):
        for weight in (None, np.full(80, 0.5)):
            fit = orthogonal_mp(
                A, y, loss=loss, penalty=penalty, alpha=alpha, n_nonzero_coefs=30, weights=weight
            )
            scale = 1.0 if weight is None else 0.5 if penalty == "l1" else 0.25
            ours = path.coef_at_alpha(scale * alpha, loss=loss, penalty=penalty)
            assert_allclose(ours, fit, atol=1e-11)
            sizes.add(np.count_nonzero(fit))
    assert len(sizes) > 3


def test_what_a_path_cannot_answer():
    A, Y, _ = sparse_problem(18, 30, 40, 3, noise=0.1)
    y, weights = Y[:, 0], np.linspace(1, 2, 40)
    path = orthogonal_mp(A, y, alpha=0.1, loss="sqrt", weights=weights, return_path=True)
    with pytest.raises(ValueError, match="weights differ"):
        path.coef_at_alpha(0.1)
    path = orthogonal_mp(A, y, alpha=0.1, loss="sqrt", return_path=True)
    assert_allclose(path.coef_at_alpha(0.1), path.coef_at(len(path)))
    with pytest.raises(ValueError, match="the path ends at alpha=0.1"):
        path.coef_at_alpha(0.05)
    with pytest.raises(ValueError, match="the path ends at alpha=0.1"):
        path.coef_at_alpha(0.2, loss="squared")
    with pytest.raises(ValueError, match="n_steps must be from 0 to"):
        path.coef_at(len(path) + 1)


# --- the choice of the form, and bad input --------------------------------------------------------


def test_the_form_of_fewer_multiplications_is_chosen(monkeypatch):
    A = np.random.default_rng(0).normal(size=(50, 400))
    columns = UnitColumns(A, np.float64)
    assert _pursuit.choose_method(columns, 1, 5) == "residual"
    assert _pursuit.choose_method(columns, 1000, 5) == "gram"
    assert _pursuit.choose_method(columns, 1000, 49) == "gram"
    operator = UnitColumns(aslinearoperator(A), np.float64)
    assert _pursuit.choose_method(operator, 1000, 5) == "residual"
    thin = sparse.random_array((50, 400), density=0.01, rng=0, format="csc")
    assert _pursuit.choose_method(UnitColumns(thin, np.float64), 1000, 40) == "residual"
    monkeypatch.setattr(_pursuit, "_LARGEST_GRAM", 1000)
    assert _pursuit.choose_method(columns, 1000, 5) == "residual"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_nonzero_coefs": 31}, "n_nonzero_coefs must not exceed the 30 rows or the 40 columns"),
        ({"n_nonzero_coefs": 0}, "n_nonzero_coefs"),
        ({"tol": -1.0}, "tol"),
        ({"noise_std": 0.0}, "noise_std"),
        ({"alpha": -0.1}, "alpha"),
        ({"loss": "absolute"}, "use WeightedOMP"),
        ({"alpha": "auto"}, "use WeightedOMP"),
        ({"penalty": "l2"}, "penalty"),
        ({"method": "qr"}, "method"),
        ({"alpha": 0.1, "weights": -np.ones(40)}, "weights must be finite and non-negative"),
        ({"alpha": 0.1, "weights": np.full(40, np.nan)}, "weights must be finite"),
        ({"alpha": 0.1, "weights": np.ones(3)}, "one entry for each of the 40 columns"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    A, Y, _ = sparse_problem(19, 30, 40, 3)
    with pytest.raises(ValueError, match=message):
        orthogonal_mp(A, Y, **arguments)


def test_bad_data_are_named():
    A, Y, _ = sparse_problem(20, 30, 40, 3)
    y = Y[:, 0]
    spoiled = A.copy()
    spoiled[3, 4] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        orthogonal_mp(spoiled, y)
    with pytest.raises(ValueError, match="Input y contains"):
        orthogonal_mp(A, np.where(np.arange(30) == 2, np.inf, y))
    with pytest.raises(ValueError, match="X has 30 rows but y has 29"):
        orthogonal_mp(A, y[:-1])
    with pytest.raises(TypeError, match="float16"):
        orthogonal_mp(A.astype(np.float16), y)
    without = LinearOperator((30, 40), matvec=lambda v: A @ v, dtype=np.float64)
    with pytest.raises(ValueError, match="without rmatvec"):
        orthogonal_mp(without, y)
