"""NystromGPRegressor: exact limits, the dense formula, weights, dictionaries, ranks."""

import numpy as np
import pytest
import reference_bandits as reference
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, Matern, WhiteKernel

from sparseprob._arrays import to_numpy
from sparseprob.bandits import NystromGPRegressor
from sparseprob.bandits._distinct_rows import distinct_rows, uniform_by_content

LAM = 0.05


def data(n=150, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.random((n, 2))
    return X, np.sin(5 * X[:, 0]) + X[:, 1] + LAM**0.5 * rng.normal(size=n)


def regressor(kernel=None, **options):
    options = {"lam": LAM, "random_state": 0} | options
    return NystromGPRegressor(RBF(0.3) if kernel is None else kernel, **options)


def test_with_all_rows_it_is_exact():
    X, y = data()
    queries = np.random.default_rng(1).random((40, 2)) * 1.5
    kernel = Matern(0.5, nu=1.5)
    peer = GaussianProcessRegressor(kernel, alpha=LAM, optimizer=None).fit(X, y)
    ours = regressor(kernel, dictionary=np.arange(150)).fit(X, y)
    mean, std = ours.predict(queries, return_std=True)
    expected, expected_std = peer.predict(queries, return_std=True)
    assert_allclose(mean, expected, atol=1e-9)
    assert_allclose(std, expected_std, rtol=1e-9)
    cov = ours.predict(queries, return_cov=True)[1]
    assert_allclose(cov, peer.predict(queries, return_cov=True)[1], atol=1e-10)


def test_it_is_the_dense_formula():
    X, y = data()
    w = np.random.default_rng(2).integers(0, 4, 150)
    ours = regressor(dictionary=np.flatnonzero(w)[::25]).fit(X, y, sample_weight=w)
    D = X[ours.dictionary_indices_]
    mean, s = reference.posterior(RBF(0.3), D, X, X, w, w * y, LAM)
    got, std = ours.predict(X, return_std=True)
    assert_allclose(got, mean, atol=1e-9)
    assert_allclose(std, np.sqrt(LAM * s), rtol=1e-9)
    assert_allclose(ours.leverage_, s, rtol=1e-9)
    assert_allclose(ours.effective_dimension_, w @ s, rtol=1e-9)
    Z = ours.transform(X)
    assert_allclose(Z @ Z[:3].T, reference.embedding(RBF(0.3), D, X) @
                    reference.embedding(RBF(0.3), D, X[:3]).T, atol=1e-9)  # fmt: skip
    assert_allclose(ours.transform(D) @ ours.transform(D).T, RBF(0.3)(D), atol=1e-9)
    assert Z.shape[1] == len(ours.get_feature_names_out())


def test_the_dictionary_has_the_size_of_the_effective_dimension():
    X, y = data(1200)
    ours = regressor().fit(X, y)
    exact = RBF(0.3)(X)
    d_eff = np.trace(np.linalg.solve(exact + LAM * np.eye(1200), exact))
    assert 1.0 <= ours.effective_dimension_ / d_eff < 1.1  # what is beyond D counts as unknown
    sizes = [len(regressor(random_state=seed).fit(X, y).dictionary_) for seed in range(5)]
    assert abs(np.mean(sizes) / (2 * d_eff) - 1) < 3 / np.sqrt(5 * 2 * d_eff)  # qbar is 2
    peer = GaussianProcessRegressor(RBF(0.3), alpha=LAM, optimizer=None).fit(X, y)
    mean, std = ours.predict(X, return_std=True)
    expected, expected_std = peer.predict(X, return_std=True)
    assert np.abs(mean - expected).max() < 0.3 * LAM**0.5
    assert_allclose(std, expected_std, rtol=0.5)
    three = regressor(n_passes=3).fit(X, y)
    assert 1.0 <= three.effective_dimension_ / d_eff < 1.1
    one = regressor(n_passes=1).fit(X, y)
    assert len(one.dictionary_) == 200


def test_far_from_the_data_the_prior_is_kept():
    """However small the dictionary, variance does not vanish where it says nothing."""
    X, y = data()
    ours = regressor(dictionary=[0, 1]).fit(X, y)
    mean, std = ours.predict(np.array([[50.0, 50.0]]), return_std=True)
    assert_allclose(mean, 0.0, atol=1e-12)
    assert_allclose(std, 1.0, rtol=1e-12)
    assert (ours.predict(X, return_std=True)[1] > 0.0).all()


def test_weights_are_repetitions_and_order_does_not_matter():
    X, y = data(400)
    w = np.random.default_rng(0).integers(0, 4, 400)
    weighted = regressor(RBF(0.1)).fit(X, y, sample_weight=w)
    rows = np.random.default_rng(1).permutation(np.repeat(np.arange(400), w))
    repeated = regressor(RBF(0.1)).fit(X[rows], y[rows])
    assert_allclose(repeated.predict(X), weighted.predict(X), atol=1e-8)
    assert len(weighted.dictionary_) == len(repeated.dictionary_)
    assert_allclose(repeated.effective_dimension_, weighted.effective_dimension_, rtol=1e-8)
    assert (w[weighted.dictionary_indices_] > 0).all()


def test_distinct_rows():
    A = np.array([[1.0, 2.0], [0.0, 5.0], [1.0, 2.0], [0.0, 4.0], [9.0, 9.0]])
    first, order, group = distinct_rows(A, np.array([1.0, 1, 1, 1, 0]))
    assert {tuple(row) for row in A[first]} == {(1.0, 2.0), (0.0, 5.0), (0.0, 4.0)}
    assert 0 in first
    assert_array_equal(A[order], A[first][group])
    numbers = uniform_by_content(A, 3, 0)
    assert numbers[0] == numbers[2]
    assert len(set(numbers)) == 4
    assert_array_equal(uniform_by_content(np.array([[-0.0]]), 1, 1),
                       uniform_by_content(np.array([[0.0]]), 1, 1))  # fmt: skip
    drawn = uniform_by_content(np.random.default_rng(0).random((20_000, 3)), 0, 1)
    assert abs(drawn.mean() - 0.5) < 4 / np.sqrt(12 * 20_000)
    assert abs((drawn < 0.1).mean() - 0.1) < 4 * np.sqrt(0.09 / 20_000)


def test_learned_kernels():
    """The exact evidence of the rows, where they are few, has the same maximum."""
    X, y = data(80)
    kernel = ConstantKernel(0.5) * RBF(0.8)
    ours = regressor(kernel, optimizer="fmin_l_bfgs_b").fit(X, y)
    peer = GaussianProcessRegressor(kernel, alpha=LAM).fit(X, y)
    assert_allclose(ours.kernel_.theta, peer.kernel_.theta, atol=1e-3)
    assert kernel.theta[1] != ours.kernel_.theta[1]


def test_libraries_give_the_same(xp):
    X, y = data(200)
    expected = regressor().fit(X, y)
    ours = regressor().fit(xp.asarray(X), xp.asarray(y))
    mean, std = ours.predict(xp.asarray(X), return_std=True)
    wanted, wanted_std = expected.predict(X, return_std=True)
    assert_allclose(to_numpy(mean), wanted, atol=1e-9)
    assert_allclose(to_numpy(std), wanted_std, rtol=1e-8)
    assert type(ours.dictionary_) is type(xp.asarray(X))
    assert_array_equal(
        np.sort(to_numpy(ours.dictionary_indices_)), np.sort(expected.dictionary_indices_)
    )


_PROGRAM = """
import sys
import numpy as np
from sparseprob import distributed, mpi, row_slice
from test_bandits_nystrom import data, regressor

X, y = data(500)
with distributed():
    rows = row_slice(500)
    model = regressor().fit(X[rows], y[rows])
    numbers = np.sort(model.dictionary_indices_)
    if mpi.rank() == 0:
        np.savez(sys.argv[1], mean=model.predict(X), numbers=numbers, d=model.effective_dimension_)
"""


@pytest.mark.mpi
def test_ranks_end_with_the_same_model(mpiexec, tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=":")
    X, y = data(500)
    expected = regressor().fit(X, y)
    path = tmp_path / "found.npz"
    mpiexec(3, _PROGRAM, str(path))
    found = np.load(path)
    assert_array_equal(found["numbers"], np.sort(expected.dictionary_indices_))
    assert_allclose(found["mean"], expected.predict(X), atol=1e-8)
    assert_allclose(found["d"], expected.effective_dimension_, rtol=1e-8)


def test_an_embedding_needs_no_target():
    X, y = data()
    ours = regressor().fit(X)
    assert_allclose(ours.transform(X), regressor().fit(X, y).transform(X))
    with pytest.raises(ValueError, match="The fit had no y"):
        ours.predict(X)


@pytest.mark.parametrize(
    ("options", "fit", "message"),
    [
        ({"lam": 0.0}, {}, "The 'lam' parameter"),
        ({"qbar": -1.0}, {}, "The 'qbar' parameter"),
        ({"n_passes": 0}, {}, "The 'n_passes' parameter"),
        ({"optimizer": "adam"}, {}, "The 'optimizer' parameter"),
        ({"dictionary": [0.5]}, {}, "dictionary must be a list of row numbers"),
        ({"dictionary": [0, 150]}, {}, "Row 150 of dictionary is not a row of X"),
        ({"kernel": WhiteKernel()}, {}, "no WhiteKernel"),
        ({}, {"sample_weight": np.full(150, -1.0)}, "sample_weight must be finite and not neg"),
        ({}, {"sample_weight": np.ones(3)}, "one weight a row"),
        ({}, {"sample_weight": np.zeros(150)}, "All rows have zero weight"),
        ({}, {"y": np.ones(3)}, "X has 150 rows but y has 3"),
    ],
)
def test_bad_input_is_refused(options, fit, message):
    X, y = data()
    with pytest.raises(ValueError, match=message):
        regressor(**options).fit(X, **({"y": y} | fit))


def test_other_bad_input():
    X, y = data()
    with pytest.raises(TypeError, match="kernel must be a kernel object"):
        regressor(lambda a, b: a @ b.T).fit(X, y)
    with pytest.raises(ValueError, match="At most one of"):
        regressor().fit(X, y).predict(X, return_std=True, return_cov=True)
