"""Samples of rows: against oracles, unbiased, and the same bits however rows come in."""

import numpy as np
import pytest
import reference_sketch as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone

from sparseprob._arrays import to_numpy
from sparseprob.sketch import (
    MatrixSketch,
    NoOverlapWarning,
    PrioritySketcher,
    ThresholdSketcher,
    matrix_product,
)
from sparseprob.sketch._keys import as_keys, units

EXACT = 1e-12  # sums of a few hundred terms in double precision
SKETCHERS = [
    PrioritySketcher(20),
    PrioritySketcher(20, weighting="uniform"),
    PrioritySketcher(20, weighting="l1", seed=3),
    PrioritySketcher(1),
    ThresholdSketcher(20),
    ThresholdSketcher(20, adaptive=False, weighting="l1"),
    ThresholdSketcher(20, weighting="uniform"),
]
IDS = [repr(s) for s in SKETCHERS]


def rows(n=300, d=7, *, seed=0, skewed=True, density=0.5):
    """Sparse rows of very different lengths, some of them zero."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, d)) * (rng.random((n, d)) < density)
    return A * (1 + rng.pareto(1.5, size=(n, 1))) if skewed else A


def oracle_sample(sketcher, A, keys=None):
    u = units(as_keys(keys, len(A), seed=sketcher.seed).hashes)
    w = reference.weights_of(A, sketcher.weighting)
    if isinstance(sketcher, PrioritySketcher):
        return reference.priority_sample(u, w, sketcher.n_samples)
    return reference.threshold_sample(u, w, sketcher.n_samples, sketcher.adaptive)


# ---------------------------------------------------------------- oracles and closed forms
@pytest.mark.parametrize("sketcher", SKETCHERS, ids=IDS)
def test_samples_and_products_follow_the_formulas(sketcher):
    A, B = rows(), rows(d=4, seed=1)
    left, right = sketcher.sketch(A), sketcher.sketch(B)
    samples = [oracle_sample(sketcher, M) for M in (A, B)]
    for sketch, (kept, tau), M in zip((left, right), samples, (A, B), strict=True):
        assert set(sketch.keys_.tolist()) == kept
        assert_allclose(sketch.tau_, tau, rtol=EXACT)
        assert_array_equal(sketch.rows_.toarray(), M[sketch.keys_])
        assert_allclose(sketch.weights, reference.weights_of(M, sketcher.weighting)[sketch.keys_])
        assert_allclose(sketch.inclusion_probabilities, np.minimum(1, sketch.weights * tau))
        assert_allclose(sketch.frobenius_norm_, np.linalg.norm(M), rtol=EXACT)
        assert_allclose(
            sketch.total_weight_, reference.weights_of(M, sketcher.weighting).sum(), rtol=EXACT
        )
        assert sketch.n_weighted_ == (M != 0).any(axis=1).sum()
    weights = [reference.weights_of(M, sketcher.weighting) for M in (A, B)]
    W, variance = reference.estimate(A, B, *weights, *samples)
    if not samples[0][0] & samples[1][0]:
        return
    product, std = left.product(right, return_std=True)
    assert_allclose(product, W, rtol=EXACT, atol=EXACT * np.abs(W).max())
    assert_allclose(std, np.sqrt(variance), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sketcher", [PrioritySketcher(300), ThresholdSketcher(300)], ids=repr)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, bool])
def test_products_are_exact_once_all_rows_are_kept(sketcher, dtype):
    A, B = (np.round(rows(seed=s) * 3).astype(dtype) for s in (0, 1))
    left, right = sketcher.sketch(A), sketcher.sketch(B)
    assert left.tau_ == np.inf
    product, std = left.product(right, return_std=True)
    assert product.dtype == (np.float32 if dtype is np.float32 else np.float64)
    exact = A.astype(float).T @ B.astype(float)
    assert_allclose(product, exact, rtol=1e-6 if dtype is np.float32 else EXACT)
    assert std == 0
    assert_array_equal(left.inclusion_probabilities, 1)


def test_threshold_keeps_the_expected_number_of_rows():
    A = rows(2000)
    w = reference.weights_of(A, "l2")
    for adaptive in (True, False):
        sketches = [
            ThresholdSketcher(100, adaptive=adaptive, seed=seed).sketch(A) for seed in range(200)
        ]
        p = np.minimum(1, w * sketches[0].tau_)
        error = 4 * np.sqrt((p * (1 - p)).sum() / 200)
        assert_allclose(np.mean([len(s.hashes) for s in sketches]), p.sum(), atol=error)
        assert p.sum() == pytest.approx(100) if adaptive else p.sum() < 99
        assert sketches[0].adaptive_ is adaptive


@pytest.mark.parametrize("k", [2, 4, 16])
def test_priority_estimates_are_unbiased(k):
    """Unit rows against themselves: n on average; the k-th rank in place of the next: n k/(k-1)."""
    n, seeds = 100, range(4000)
    A = np.ones((n, 1))
    values = np.array([_sum_of_inverses(PrioritySketcher(k, seed=s).sketch(A)) for s in seeds])
    error = values.std() / np.sqrt(len(seeds))
    assert abs(values.mean() - n) < 4 * error
    assert abs(values.mean() - n * k / (k - 1)) > 4 * error


def _sum_of_inverses(sketch):
    return (1 / sketch.inclusion_probabilities).sum()


@pytest.mark.parametrize("sketcher", [PrioritySketcher(60), ThresholdSketcher(60)], ids=repr)
def test_products_are_unbiased_and_errors_are_as_estimated(sketcher):
    A = rows(400, 5, skewed=False)
    B = A[:, :3] + 0.5 * rows(400, 3, seed=1, skewed=False)
    exact, errors, variances = A.T @ B, [], []
    for seed in range(1500):
        sketcher = clone(sketcher).set_params(seed=seed)
        product, std = sketcher.sketch(A).product(sketcher.sketch(B), return_std=True)
        errors.append(product - exact)
        variances.append(std**2)
    errors, n = np.array(errors), len(errors)
    assert (np.abs(errors.mean(axis=0)) < 4 * errors.std(axis=0) / np.sqrt(n)).all()
    squares = (errors**2).sum(axis=(1, 2))
    noise = 4 * np.hypot(squares.std(), np.std(variances)) / np.sqrt(n)
    assert abs(squares.mean() - np.mean(variances)) < noise
    k = sketcher.n_samples - isinstance(sketcher, PrioritySketcher)
    bound = 2 / k * (np.linalg.norm(A) * np.linalg.norm(B)) ** 2
    assert squares.mean() < bound


def test_moments_agree_with_integrals_over_the_hashes():
    """Tiny matrices: mean and variance of the estimate by a grid of quasi-random hashes."""
    from scipy.stats import qmc

    n, k = 5, 2
    A, B = rows(n, 2, density=1.0), rows(n, 3, seed=1, density=1.0)
    wa, wb = (reference.weights_of(M, "l2") for M in (A, B))
    grid = qmc.Sobol(n, seed=0).random_base2(12)
    expected = []
    for u in grid:
        samples = (reference.priority_sample(u, w, k) for w in (wa, wb))
        expected.append(reference.estimate(A, B, wa, wb, *samples)[0])
    found = []
    for seed in range(3000):
        sketcher = PrioritySketcher(k, seed=seed)
        left, right = sketcher.sketch(A), sketcher.sketch(B)
        common = left.match(right).left.size
        found.append(left.product(right) if common else np.zeros((2, 3)))
    expected, found = np.array(expected), np.array(found)
    scale = found.std(axis=0)
    assert_allclose(expected.mean(axis=0), A.T @ B, atol=4 * scale.max() / np.sqrt(len(grid)))
    assert (np.abs(found.mean(axis=0) - A.T @ B) < 4 * scale / np.sqrt(len(found))).all()
    spread = (found - A.T @ B) ** 2
    error = 4 * spread.std(axis=0) * np.hypot(1 / np.sqrt(len(found)), 1 / np.sqrt(len(grid)))
    assert (np.abs(spread.mean(axis=0) - ((expected - A.T @ B) ** 2).mean(axis=0)) < error).all()


def test_no_common_keys_give_zero_and_a_warning():
    left = PrioritySketcher(10).sketch(rows(), np.arange(300))
    right = PrioritySketcher(10).sketch(rows(d=3), np.arange(300, 600))
    with pytest.warns(NoOverlapWarning, match="no key in common"):
        product, std = left.product(right, return_std=True)
    assert_array_equal(product, np.zeros((7, 3)))
    assert np.isnan(std)


# ---------------------------------------------------------------- invariance
@settings(max_examples=60, deadline=None, database=None)
@given(st.data())
def test_bits_do_not_depend_on_how_rows_come_in(data):
    sketcher = data.draw(st.sampled_from(SKETCHERS))
    n = data.draw(st.integers(1, 60))
    skewed = data.draw(st.booleans())
    A = rows(n, 3, seed=data.draw(st.integers(0, 50)), skewed=skewed)
    sketcher = clone(sketcher).set_params(n_samples=data.draw(st.integers(1, 30)))
    keys = np.random.default_rng(n).choice(10**9, n, replace=False)
    expected = sketcher.sketch(A, keys).to_bytes()
    order = np.array(data.draw(st.permutations(range(n))))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=6)))
    pieces = np.split(order, cuts)
    shards = [sketcher.sketch(A[piece], keys[piece]) for piece in pieces]
    while len(shards) > 1:  # a random tree of merges
        i = data.draw(st.integers(0, len(shards) - 2))
        shards[i : i + 2] = [shards[i + 1].merge(shards[i])]
    assert shards[0].to_bytes() == expected
    stream = clone(sketcher)
    for piece in pieces:
        stream.partial_fit(sparse.csr_array(A[piece]), keys[piece])
    assert stream.sketch_.to_bytes() == sketcher.sketch(sparse.csr_array(A), keys).to_bytes()
    batches = ((A[piece], keys[piece]) for piece in pieces)
    assert sketcher.sketch_batches(batches).to_bytes() == expected


@pytest.mark.parametrize("sketcher", SKETCHERS, ids=IDS)
def test_bits_do_not_depend_on_threads(sketcher):
    import numba

    A = sparse.random_array((70_001, 50), density=0.1, rng=np.random.default_rng(0), format="csr")
    before, found = numba.get_num_threads(), set()
    try:
        for n_threads in range(1, before + 1):
            numba.set_num_threads(n_threads)
            found.add(sketcher.sketch(A).to_bytes())
    finally:
        numba.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.parametrize("sketcher", SKETCHERS, ids=IDS)
def test_long_tables_are_filtered_without_loss(sketcher):
    """Bounds tighten along the way: more rows than any buffer holds, against a full sort."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=150_000) ** 3
    kept, tau = oracle_sample(sketcher, x[:, None])
    sketch = sketcher.sketch(x)
    assert set(sketch.keys_.tolist()) == kept
    assert_allclose(sketch.tau_, tau, rtol=1e-9)
    chunks = clone(sketcher)
    for part in np.array_split(x, 7):
        chunks.partial_fit(part)
    assert chunks.sketch_.to_bytes() == sketch.to_bytes()


@pytest.mark.parametrize("sketcher", SKETCHERS, ids=IDS)
@pytest.mark.parametrize("scale", [2.0**40, -1.0, 2.0**600, 2.0**-600])
def test_scaling_leaves_the_sample_and_scales_the_product(sketcher, scale):
    """Lengths whose squares are out of range of double precision included."""
    A, B = rows(), rows(d=3, seed=1)
    sketch, scaled = sketcher.sketch(A), sketcher.sketch(scale * A)
    assert_array_equal(scaled.keys_, sketch.keys_)
    other = sketcher.sketch(B)
    assert_allclose(scaled.frobenius_norm_ / abs(scale), sketch.frobenius_norm_, rtol=EXACT)
    assert_allclose(scaled.inclusion_probabilities, sketch.inclusion_probabilities, rtol=1e-11)
    if sketch.match(other).left.size:
        product = sketch.product(other)
        assert_allclose(scaled.product(other) / scale, product, rtol=1e-11, atol=1e-13)


def test_rows_of_all_sizes_at_once():
    """Sums of weights are exact integers: 1e300 does not swallow 1e-300 when parts are merged."""
    x = np.array([1e300, 1e-300, 3.0, 0.0, 1e160, 1e-160])
    for sketcher in (PrioritySketcher(2), ThresholdSketcher(2)):
        whole = sketcher.sketch(x)
        parts = [sketcher.sketch(x[[i]], [i]) for i in (3, 1, 0, 4, 2, 5)]
        merged = parts[0]
        for part in parts[1:]:
            merged = merged.merge(part)
        assert merged.to_bytes() == whole.to_bytes()
        assert {0, 4} == set(whole.keys_.tolist())
        assert whole.frobenius_norm_ == 1e300


@pytest.mark.parametrize("sketcher", SKETCHERS, ids=IDS)
def test_sparse_forms_are_one(sketcher):
    A = sparse.csr_array(rows())
    expected = sketcher.sketch(A).to_bytes()
    assert sketcher.sketch(A.tocsc()).to_bytes() == expected
    assert sketcher.sketch(sparse.csr_matrix(A)).to_bytes() == expected
    messy = A.copy()  # columns out of order, entries in two parts
    messy.indices = np.concatenate([np.tile(messy.indices, 1)[::-1]])
    order = np.concatenate([np.arange(b, a, -1) - 1 for a, b in zip(A.indptr, A.indptr[1:])])  # noqa: B905
    halves = np.repeat(A.data[order] / 2, 2), np.repeat(A.indices[order], 2), 2 * A.indptr
    messy = sparse.csr_array(halves, shape=A.shape)
    assert not messy.has_canonical_format
    assert sketcher.sketch(messy).to_bytes() == expected
    dense = sketcher.sketch(A.toarray())
    assert_array_equal(dense.hashes, sketcher.sketch(A).hashes)
    assert_allclose(dense.weights, sketcher.sketch(A).weights, rtol=1e-14)


def test_dense_rows_in_any_order_of_memory():
    A = np.random.default_rng(0).normal(size=(500, 6))
    expected = PrioritySketcher(9).sketch(A).to_bytes()
    for same in (np.asfortranarray(A), np.repeat(A, 2, axis=0)[::2], A[:, ::-1][:, ::-1]):
        assert PrioritySketcher(9).sketch(same).to_bytes() == expected
    half = A.astype(np.float16)
    sketch = PrioritySketcher(9).sketch(half)
    assert sketch.rows_.dtype == np.float32
    assert_array_equal(sketch.keys_, PrioritySketcher(9).sketch(half.astype(np.float32)).keys_)


def test_row_sources_and_frames(tmp_path):
    import h5py

    A = rows(1000)
    expected = PrioritySketcher(9).sketch(A).to_bytes()
    with h5py.File(tmp_path / "rows.h5", "w") as file:
        assert PrioritySketcher(9).sketch(file.create_dataset("A", data=A)).to_bytes() == expected
        with pytest.raises(ValueError, match="for each of the 1000 rows, got 3 keys"):
            PrioritySketcher(9).sketch(file["A"], [1, 2, 3])
    np.save(tmp_path / "rows.npy", A)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert PrioritySketcher(9).sketch(mapped).to_bytes() == expected
    pandas = pytest.importorskip("pandas")
    assert PrioritySketcher(9).sketch(pandas.DataFrame(A)).to_bytes() == expected


def test_given_weights_replace_lengths():
    A, w = rows(), np.random.default_rng(5).random(300)
    w[::7] = 0
    u = units(as_keys(None, 300, seed=0).hashes)
    sketch = PrioritySketcher(25).sketch(A, weights=w)
    kept, tau = reference.priority_sample(u, w, 25)
    assert set(sketch.keys_.tolist()) == kept
    assert_allclose(sketch.tau_, tau)
    assert sketch.weighting == "given"
    stream = PrioritySketcher(25)
    for part in np.array_split(np.arange(300), 4):
        stream.partial_fit(A[part], part, weights=w[part])
    assert stream.sketch_.to_bytes() == sketch.to_bytes()


def test_sums_of_duplicates_give_the_many_to_many_join():
    rng = np.random.default_rng(0)
    A, B = rows(200), rows(150, 3, seed=1)
    a, b = rng.integers(0, 40, 200), rng.integers(0, 40, 150)
    sketcher = PrioritySketcher(100, duplicates="sum")
    product = sketcher.sketch(A, a).product(sketcher.sketch(sparse.csr_array(B), b))
    exact = sum(np.outer(A[i], B[j]) for i in range(200) for j in range(150) if a[i] == b[j])
    assert_allclose(product, exact, rtol=1e-10, atol=1e-10)
    with pytest.raises(ValueError, match="needs all rows at once"):
        sketcher.partial_fit(A, a)


def test_strings_keep_their_keys_if_asked():
    keys = [f"row {i}" for i in range(300)]
    assert PrioritySketcher(5).sketch(rows(), keys).keys_ is None
    sketch = PrioritySketcher(5, store_keys=True).sketch(rows(), keys)
    assert len(sketch.keys_) == 5
    assert set(sketch.keys_) <= set(keys)
    assert PrioritySketcher(5, store_keys=False).sketch(rows()).keys_ is None


def test_products_of_dense_rows_equal_those_of_sparse_rows():
    A, B = rows(density=1.0), rows(d=4, seed=1, density=1.0)
    zeros = np.zeros((300, 40))
    wide = PrioritySketcher(50).sketch(np.hstack([A, zeros]))
    other = PrioritySketcher(50).sketch(B)
    dense = PrioritySketcher(50).sketch(A).product(other)
    assert_allclose(wide.product(other)[:7], dense, rtol=1e-11, atol=1e-11)


def test_arrays_of_other_libraries(xp):
    A, B = rows(), rows(d=3, seed=1)
    sketcher = PrioritySketcher(30)
    ours = sketcher.sketch(xp.asarray(A))
    expected = sketcher.sketch(A).product(sketcher.sketch(B))
    product = ours.product(sketcher.sketch(xp.asarray(B)))
    assert type(product) is type(xp.asarray(A))
    assert_allclose(to_numpy(product), expected, rtol=1e-11, atol=1e-11)
    assert_allclose(to_numpy(ours.product(sketcher.sketch(B))), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.gpu
@pytest.mark.parametrize("sketcher", SKETCHERS, ids=IDS)
def test_samples_on_the_gpu_are_those_of_the_host(sketcher):
    import cupy
    from cupyx.scipy import sparse as cupy_sparse

    A, B = rows(20_000), rows(20_000, 3, seed=1)
    left, right = sketcher.sketch(sparse.csr_array(A)), sketcher.sketch(B)
    for on_gpu in (cupy.asarray(A), cupy_sparse.csr_matrix(sparse.csr_matrix(A))):
        sketch = sketcher.sketch(on_gpu)
        assert_array_equal(sketch.keys_, left.keys_)
        assert_allclose(sketch.tau_, left.tau_, rtol=1e-11)
        assert_allclose(sketch.frobenius_norm_, left.frobenius_norm_, rtol=1e-12)
        assert_allclose(sketch.rows_.toarray().get(), left.rows_.toarray())
        other = MatrixSketch.from_bytes(sketch.to_bytes())
        assert_array_equal(other.keys_, left.keys_)
        if not left.match(right).left.size:
            continue
        (product, std), (expected, expected_std) = (
            s.product(right, return_std=True) for s in (sketch, left)
        )
        assert_allclose(product.get(), expected, rtol=1e-10, atol=1e-10)
        assert_allclose(std, expected_std, rtol=1e-8, atol=1e-10)
    stream = clone(sketcher)
    for part in np.array_split(np.arange(20_000), 3):
        stream.partial_fit(cupy.asarray(A[part]), part)
    assert_array_equal(stream.sketch_.keys_, left.keys_)


# ---------------------------------------------------------------- bad input
def test_rows_that_are_not_finite_are_named():
    A = rows(5000)
    for value, form in ((np.nan, np.asarray), (np.inf, sparse.csr_array)):
        A[4321, 2] = value
        with pytest.raises(ValueError, match="Row 4321 contains NaN or infinity"):
            PrioritySketcher(4).sketch(form(A))
    with pytest.raises(ValueError, match="Row 4321 contains"):
        PrioritySketcher(4, duplicates="sum").sketch(A, np.arange(5000) // 2)


@pytest.mark.gpu
def test_rows_that_are_not_finite_are_named_on_the_gpu():
    import cupy

    A = cupy.asarray(rows(5000))
    A[4321, 2] = np.nan
    with pytest.raises(ValueError, match="Row 4321 contains NaN or infinity"):
        PrioritySketcher(4).sketch(A)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": 1}, "differ in seed: 0 and 1"),
        ({"weighting": "uniform"}, "differ in weighting: 'l2' and 'uniform'"),
        ("threshold", "differ in method: 'priority' and 'threshold'"),
        ("keys", "differ in key_kind: 'int64' and 'str'"),
    ],
)
def test_sketches_that_do_not_belong_together_are_refused(change, match):
    A, keys = rows(20), None
    other = PrioritySketcher(10)
    if isinstance(change, dict):
        other.set_params(**change)
    elif change == "threshold":
        other = ThresholdSketcher(10)
    else:
        keys = [str(i) for i in range(20)]
    left, right = PrioritySketcher(10).sketch(A), other.sketch(A, keys)
    for refused in (left.product, left.merge, left.match):
        with pytest.raises(ValueError, match=match):
            refused(right)


def test_sizes_may_differ_in_products_only():
    left, right = (PrioritySketcher(k).sketch(rows()) for k in (20, 60))
    assert left.product(right).shape == (7, 7)
    with pytest.raises(ValueError, match="differ in n_samples: 20 and 60"):
        left.merge(right)


def test_bad_merges_are_refused():
    A = rows(20)
    sketch = PrioritySketcher(30).sketch(A)
    with pytest.raises(ValueError, match="occurs in more than one of the merged"):
        sketch.merge(PrioritySketcher(30).sketch(A[:3]))
    with pytest.raises(ValueError, match="of 7 and 2 columns cannot be merged"):
        sketch.merge(PrioritySketcher(30).sketch(A[:, :2], np.arange(20, 40)))
    plain, adaptive = (ThresholdSketcher(3, adaptive=a) for a in (False, True))
    with pytest.raises(ValueError, match="adaptive and plain"):
        plain.sketch(A).merge(adaptive.sketch(A, np.arange(20, 40)))
    with pytest.raises(TypeError, match="Expected another sketch, got ndarray"):
        sketch.product(A)


@pytest.mark.parametrize(
    ("A", "error", "match"),
    [
        (np.ones((2, 2, 2)), ValueError, r"got an array of shape \(2, 2, 2\)"),
        (np.array(3.0), ValueError, r"got an array of shape \(\)"),
        (np.ones((2, 2)) * 1j, ValueError, "Expected real numbers, got dtype complex128"),
        (np.array([["a"], ["b"]]), ValueError, "Expected real numbers, got dtype <U1"),
        (np.empty((2, 0)), ValueError, "at least one column"),
        (sparse.csr_array(np.ones((2, 2)) * 1j), ValueError, "Expected real numbers"),
    ],
)
def test_matrices_of_the_wrong_kind_are_refused(A, error, match):
    with pytest.raises(error, match=match):
        PrioritySketcher().sketch(A)


@pytest.mark.parametrize(
    ("w", "match"),
    [
        (np.ones(3), "one weight for each of the 300 rows"),
        (np.full(300, -1.0), "not negative, got -1.0 in row 0"),
        (np.where(np.arange(300) == 9, np.nan, 1), "got nan in row 9"),
    ],
)
def test_bad_weights_are_refused(w, match):
    with pytest.raises(ValueError, match=match):
        PrioritySketcher().sketch(rows(), weights=w)


@pytest.mark.parametrize(
    "bad", [{"n_samples": 0}, {"seed": -1}, {"weighting": "l3"}, {"duplicates": "first"}]
)
def test_bad_parameters_are_refused(bad):
    with pytest.raises(ValueError, match=f"The '{next(iter(bad))}' parameter of Priority"):
        PrioritySketcher(**bad).sketch(rows())


def test_inner_products_of_columns_only():
    x, y = rows(d=1)[:, 0], rows(d=1, seed=1)[:, 0]
    left, right = (PrioritySketcher(500).sketch(v) for v in (x, y))
    assert_allclose(left.inner(right), x @ y, rtol=EXACT)
    assert left.inner(right, return_std=True)[1] == 0
    with pytest.raises(ValueError, match="single columns, got sketches of 7 and 1"):
        PrioritySketcher(500).sketch(rows()).inner(right)


def test_nothing_to_sketch():
    empty = PrioritySketcher(3).sketch(np.empty((0, 2)))
    assert empty.n_rows_ == 0
    sketch = PrioritySketcher(3).sketch(rows(d=2), [f"k{i}" for i in range(300)])
    assert empty.merge(sketch).to_bytes() == sketch.merge(empty).to_bytes() == sketch.to_bytes()
    zeros = PrioritySketcher(3).sketch(np.zeros((4, 2)))
    assert (len(zeros.hashes), zeros.tau_, zeros.frobenius_norm_) == (0, np.inf, 0)
    assert ThresholdSketcher(3, adaptive=False).sketch(np.zeros((4, 2))).tau_ == np.inf
    with pytest.raises(ValueError, match="no batch"):
        PrioritySketcher().sketch_batches([])


# ---------------------------------------------------------------- one call
@pytest.mark.parametrize("method", ["priority", "threshold", "count", "gaussian", "sign"])
def test_matrix_product_in_one_call(method):
    A, B = rows(skewed=False), rows(d=4, seed=1, skewed=False) + rows(d=4, skewed=False)
    product = matrix_product(A, B, 200, method=method, random_state=0)
    scale = np.linalg.norm(A) * np.linalg.norm(B)
    assert np.linalg.norm(product - A.T @ B) < 3 * np.sqrt(2 / 199) * scale
    assert_array_equal(product, matrix_product(A, B, 200, method=method, random_state=0))
    assert (product != matrix_product(A, B, 200, method=method, random_state=1)).any()


def test_matrix_product_needs_the_same_rows():
    with pytest.raises(ValueError, match="same rows, got 300 and 299"):
        matrix_product(rows(), rows(299))
