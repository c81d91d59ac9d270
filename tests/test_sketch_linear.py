"""Linear sketches and weighted MinHash: oracles, moments, agreement with peers, additivity."""

import numpy as np
import pytest
import reference_sketch as reference
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone

from sparseprob._arrays import to_numpy
from sparseprob.sketch import (
    CountSketcher,
    GaussianSketcher,
    MatrixSketch,
    NoOverlapWarning,
    PrioritySketcher,
    SignSketcher,
    WeightedMinHashSketcher,
)
from sparseprob.sketch._keys import as_keys, rehash

EXACT = 1e-12
SKETCHERS = [CountSketcher(21), GaussianSketcher(21), SignSketcher(100)]


def rows(n=400, d=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) * (rng.random((n, d)) < 0.6)


def test_count_sketches_are_signed_one_hot_sums():
    A = rows()
    hashes = as_keys(None, 400, seed=4).hashes
    places = (rehash(hashes, 4, 1) % np.uint64(21)).astype(int)
    signs = np.where(rehash(hashes, 4, 2) >> np.uint64(63), -1.0, 1.0)
    expected = reference.count_sketch(A, places, signs, 21)
    for form in (A, sparse.csr_array(A), sparse.csc_array(A), np.asfortranarray(A)):
        assert_allclose(CountSketcher(21, seed=4).sketch(form).table_, expected, atol=EXACT)


@pytest.mark.parametrize("sketcher", SKETCHERS, ids=repr)
def test_tables_are_linear(sketcher):
    """The identity gives the random matrix, which explains all other tables."""
    S = sketcher.sketch(np.eye(400)).table_
    A = rows()
    for form in (A, sparse.csr_array(A), A.astype(np.float32), np.round(A).astype(int)):
        expected = S @ np.asarray(form.toarray() if sparse.issparse(form) else form, dtype=float)
        table = sketcher.sketch(form).table_
        assert table.dtype == (np.float32 if form.dtype == np.float32 else np.float64)
        assert_allclose(table, expected, atol=1e-5 if table.dtype == np.float32 else EXACT)
    if not isinstance(sketcher, GaussianSketcher):
        scale = 1 if isinstance(sketcher, CountSketcher) else np.sqrt(100)
        assert set(np.unique(S * scale).round(12)) <= {-1.0, 0.0, 1.0}


@pytest.mark.parametrize("sketcher", SKETCHERS, ids=repr)
def test_factors_are_uncorrelated_with_the_right_moments(sketcher):
    n = 60_000
    sketcher = clone(sketcher).set_params(n_samples=8)
    S = sketcher.sketch(sparse.eye_array(n, format="csr")).table_ * np.sqrt(8)
    if isinstance(sketcher, CountSketcher):
        assert_array_equal((S != 0).sum(axis=0), 1)
    products = S @ S.T / n
    assert_allclose(products, np.eye(8), atol=4.5 * 8 / np.sqrt(n))
    assert_allclose(S.mean(axis=1), 0, atol=4.5 / np.sqrt(n))
    if isinstance(sketcher, GaussianSketcher):
        from scipy.stats import kstest

        assert kstest(S.ravel(), "norm").pvalue > 1e-4


@pytest.mark.parametrize("sketcher", SKETCHERS, ids=repr)
def test_products_are_unbiased_with_the_known_variance(sketcher):
    A = rows(100, 4)
    B = A[:, :3] + rows(100, 3, seed=1)
    exact, errors, stds = A.T @ B, [], []
    for seed in range(600):
        sketcher = clone(sketcher).set_params(seed=seed)
        product, std = sketcher.sketch(A).product(sketcher.sketch(B), return_std=True)
        errors.append(product - exact)
        stds.append(std)
    errors, n = np.array(errors), len(errors)
    assert (np.abs(errors.mean(axis=0)) < 4.5 * errors.std(axis=0) / np.sqrt(n)).all()
    squares = (errors**2).sum(axis=(1, 2))
    error = 4 * squares.std() / np.sqrt(n)
    norms = np.linalg.norm(A) ** 2 * np.linalg.norm(B) ** 2
    variance = (norms + np.linalg.norm(exact) ** 2) / sketcher.n_samples
    if isinstance(sketcher, GaussianSketcher):
        assert abs(squares.mean() - variance) < error
    assert squares.mean() < variance + error
    assert_allclose(np.mean(np.square(stds)), variance, rtol=0.15)  # norms are estimated too


@pytest.mark.parametrize("sketcher", SKETCHERS, ids=repr)
def test_updates_add_up_in_any_pieces(sketcher):
    A, C = rows(), rows(seed=1)
    whole = sketcher.sketch(A + C)
    assert_allclose(sketcher.sketch(A).merge(sketcher.sketch(C)).table_, whole.table_, atol=EXACT)
    stream = clone(sketcher)
    for part in np.array_split(np.arange(400), 3):
        stream.partial_fit(A[part], part)
    assert_allclose(stream.sketch_.table_, sketcher.sketch(A).table_, atol=EXACT)
    twice = clone(sketcher).set_params(duplicates="sum")
    keys = np.concatenate([np.arange(400), np.arange(400)])
    assert_allclose(twice.sketch(np.vstack([A, C]), keys).table_, whole.table_, atol=EXACT)
    with pytest.raises(ValueError, match="Keys must be unique"):
        sketcher.sketch(np.vstack([A, C]), keys)
    assert MatrixSketch.from_bytes(whole.to_bytes()).to_bytes() == whole.to_bytes()


@pytest.mark.parametrize("sketcher", SKETCHERS[:1] + SKETCHERS[2:], ids=repr)
def test_tables_do_not_depend_on_threads(sketcher):
    import numba

    A = sparse.csr_array(rows(3000, 20))
    before = numba.get_num_threads()
    expected = sketcher.sketch(A).table_
    try:
        numba.set_num_threads(1)
        assert_array_equal(sketcher.sketch(A).table_, expected)
    finally:
        numba.set_num_threads(before)


def test_accuracy_is_that_of_scikit_learn_projections():
    """Random projections of the columns, by scikit-learn and by us, at one size."""
    from sklearn.random_projection import GaussianRandomProjection

    A = rows(500, 6)
    exact = A.T @ A
    ours, theirs = [], []
    for seed in range(60):
        sketch = GaussianSketcher(40, seed=seed).sketch(A)
        ours.append(np.linalg.norm(sketch.product(sketch) - exact))
        P = GaussianRandomProjection(40, random_state=seed).fit_transform(A.T)
        theirs.append(np.linalg.norm(P @ P.T - exact))
    assert (
        abs(np.mean(ours) - np.mean(theirs)) < 4 * np.hypot(np.std(ours), np.std(theirs)) / 60**0.5
    )


@pytest.mark.parametrize("sketcher", SKETCHERS, ids=repr)
def test_arrays_of_other_libraries(xp, sketcher):
    A = rows()
    ours = sketcher.sketch(xp.asarray(A))
    expected = sketcher.sketch(A)
    assert type(ours.product(ours)) is type(xp.asarray(A))
    assert_allclose(to_numpy(ours.product(ours)), expected.product(expected), atol=1e-10)
    assert_allclose(to_numpy(ours.product(expected)), expected.product(expected), atol=1e-10)


@pytest.mark.gpu
@pytest.mark.parametrize("sketcher", SKETCHERS, ids=repr)
def test_sparse_tables_on_the_gpu(sketcher):
    from cupyx.scipy import sparse as cupy_sparse

    A = sparse.csr_matrix(rows())
    ours = sketcher.sketch(cupy_sparse.csr_matrix(A))
    assert_allclose(to_numpy(ours.table_), sketcher.sketch(A).table_, atol=1e-11)


@pytest.mark.parametrize("sketcher", SKETCHERS, ids=repr)
def test_bad_rows_are_named(sketcher):
    A = rows()
    A[77, 1] = np.inf
    with pytest.raises(ValueError, match="Row 77 contains NaN or infinity"):
        sketcher.sketch(A)
    with pytest.raises(FloatingPointError, match="overflow; scale"):
        sketcher.sketch(np.full((5000, 2), 1e308))
    with pytest.raises(ValueError, match="differ in method: '.*' and 'priority'"):
        sketcher.sketch(rows()).product(PrioritySketcher(10).sketch(rows()))


# ---------------------------------------------------------------- weighted MinHash
def test_weighted_minhash_estimates_inner_products():
    rng = np.random.default_rng(0)
    x = rng.normal(size=120)
    y = x + rng.normal(size=120)
    found = []
    for seed in range(60):
        sketcher = WeightedMinHashSketcher(150, seed=seed)
        found.append(sketcher.sketch(x).inner(sketcher.sketch(y), return_std=True))
    values, stds = np.array(found).T
    bias = 4 * values.std() / np.sqrt(60)
    assert abs(values.mean() - x @ y) < bias
    assert_allclose(stds.mean(), values.std(), rtol=0.5)  # leaves out the union's own error
    assert MatrixSketch.from_bytes(sketcher.sketch(x).to_bytes()).inner(sketcher.sketch(x)) > 0


def test_the_least_hash_has_the_law_of_a_minimum():
    """Simulating only records gives the minimum of all copies: means 1 / (count + 1)."""
    from sparseprob._kernels._hash_matrices_numba import weighted_minima

    for count in (1.0, 3.0, 1000.0):
        minima, winners = np.empty(4000), np.empty(4000, dtype=np.int64)
        weighted_minima(np.array([5], dtype=np.uint64), np.array([count]), 0, minima, winners)
        expected = 1 / (count + 1)
        error = 4 * expected * np.sqrt(count / (count + 2)) / np.sqrt(4000)
        assert abs(minima.mean() - expected) < error


def test_weighted_minhash_of_special_vectors():
    sketcher = WeightedMinHashSketcher(50)
    x = np.zeros(10)
    x[3] = -2.0
    assert_allclose(sketcher.sketch(x).inner(sketcher.sketch(x)), 4.0, rtol=0.5)
    zero = sketcher.sketch(np.zeros(10))
    with pytest.warns(NoOverlapWarning):
        assert zero.inner(sketcher.sketch(x)) == 0
    with pytest.raises(ValueError, match="cannot be merged"):
        sketcher.sketch(x).merge(sketcher.sketch(x, np.arange(10, 20)))
    with pytest.raises(ValueError, match="whole vector at once"):
        sketcher.partial_fit(x)
    with pytest.raises(ValueError, match="single columns, got 2"):
        sketcher.sketch(np.ones((3, 2)))
    with pytest.raises(ValueError, match="differ in n_samples: 50 and 60"):
        sketcher.sketch(x).product(WeightedMinHashSketcher(60).sketch(x))
    with pytest.raises(ValueError, match="differ in weighting"):
        sketcher.sketch(x).product(WeightedMinHashSketcher(50, resolution=1e5).sketch(x))
