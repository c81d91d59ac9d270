"""Correlations over joins from sketches of single columns."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_join import union_sample, weighted_moments

from sparseprob.sketch import JoinCorrelationSketch, NoOverlapWarning
from sparseprob.sketch._keys import as_keys, units


def tables(n=2000, overlap=0.5, seed=0):
    """Two skewed, correlated columns, their keys, and the rows of each that join."""
    rng = np.random.default_rng(seed)
    scale = 1 + rng.pareto(2.5, size=n)
    x = scale * rng.normal(size=n) + 1
    y = 0.6 * x + scale * rng.normal(size=n)
    keys = rng.permutation(10 * n)[: 2 * n]
    n_common = int(overlap * n)
    y_keys = np.concatenate([keys[:n_common], keys[n : 2 * n - n_common]])
    return x, keys[:n], y, y_keys, n_common


def sketches(k, seed=0, **options):
    x, x_keys, y, y_keys, n_common = tables(**options)
    a = JoinCorrelationSketch(k, seed=seed).fit(x, x_keys)
    return a, JoinCorrelationSketch(k, seed=seed).fit(y, y_keys), x[:n_common], y[:n_common]


def test_columns_that_fit_in_are_exact():
    a, b, x, y = sketches(5000)
    moments = a.moments(b)
    assert moments.n_common == moments.size == len(x)
    assert_allclose(moments.mean, [x.mean(), y.mean()], rtol=1e-12)
    assert_allclose(moments.std, [x.std(), y.std()], rtol=1e-12)
    assert_allclose(moments.correlation, np.corrcoef(x, y)[0, 1], rtol=1e-12)
    assert moments.correlation_std == 0


@pytest.mark.parametrize("k", [5, 20, 60])
def test_moments_are_the_six_sums_of_the_definition(k):
    x, x_keys, y, y_keys, _ = tables(n=80)
    ux, uy = (units(as_keys(keys, 80, seed=3).hashes) for keys in (x_keys, y_keys))
    (left, p), (right, q) = union_sample(x, ux, k), union_sample(y, uy, k)
    pairs = [(i, list(y_keys).index(x_keys[i])) for i in left if x_keys[i] in y_keys]
    pairs = [(i, j) for i, j in pairs if j in right]
    i, j = (list(side) for side in zip(*pairs, strict=True))
    probabilities = [min(p(a), q(b)) for a, b in pairs]
    a = JoinCorrelationSketch(k, seed=3).fit(x, x_keys)
    moments = a.moments(JoinCorrelationSketch(k, seed=3).fit(y, y_keys))
    if len(pairs) < 2:
        assert moments.n_common == len(pairs)
        return
    size, *means_and_stds, r = weighted_moments(x[i], y[j], probabilities)
    assert_allclose(moments.size, size, rtol=1e-12)
    assert_allclose([*moments.mean, *moments.std], means_and_stds, rtol=1e-9)
    assert_allclose(moments.correlation, r, rtol=1e-9)


def test_the_sample_is_no_larger_than_asked_for():
    sample = sketches(100)[0].sketch_
    assert 98 <= len(sample.x_) <= 100  # each step of the size adds up to three rows
    x, keys, *_ = tables()
    assert_array_equal(x[[list(keys).index(key) for key in sample.keys_]], sample.x_)


def test_the_standard_deviation_is_that_of_the_estimates():
    estimates, variances = [], []
    for seed in range(300):
        a, b, x, y = sketches(200, seed=seed)
        r, std = a.correlation(b, return_std=True)
        estimates.append(r)
        variances.append(std**2)
    error = np.sqrt(np.mean((np.array(estimates) - np.corrcoef(x, y)[0, 1]) ** 2))
    # 300 estimates fix their spread to 5 %, the first-order formula is good to some 10 %
    assert_allclose(np.sqrt(np.mean(variances)), error, rtol=0.25)


def test_skewed_columns_want_more_than_a_uniform_sample():
    from sparseprob.sketch import PrioritySketcher
    from sparseprob.sketch._moments import weighted_moments as estimate

    errors = []
    for seed in range(60):
        a, b, x, y = sketches(100, seed=seed, overlap=0.9)
        x_, x_keys, y_, y_keys, _ = tables(overlap=0.9)
        uniform = PrioritySketcher(100, weighting="uniform", seed=seed)
        SX, Sy = uniform.sketch(x_[:, None], x_keys), uniform.sketch(y_[:, None], y_keys)
        pairs = SX.match(Sy)
        left, right, p = pairs
        columns = SX.rows_.toarray()[left, 0], Sy.rows_.toarray()[right, 0]
        r = np.corrcoef(x, y)[0, 1]
        errors.append([a.correlation(b) - r, estimate(*columns, p).correlation - r])
    ours, theirs = np.sqrt(np.mean(np.square(errors), axis=0))
    assert ours < 0.8 * theirs


# ---------------------------------------------------------------- parts, order, bytes
@pytest.mark.parametrize("seed", range(30))
def test_chunks_and_order_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    k, cuts = int(rng.integers(1, 60)), rng.integers(0, 301, size=seed % 5)
    x, keys, *_ = tables(n=300, seed=1)
    whole = JoinCorrelationSketch(k).fit(x, keys).to_bytes()
    order = rng.permutation(300)
    streamed, merged = JoinCorrelationSketch(k), None
    for rows in np.split(order, sorted(cuts)):
        streamed.partial_fit(x[rows], keys[rows])
        part = JoinCorrelationSketch(k).fit(x[rows], keys[rows])
        merged = part if merged is None else part.merge(merged)
    assert streamed.to_bytes() == merged.to_bytes() == whole


def test_row_numbers_go_on_from_chunk_to_chunk():
    x, *_ = tables()
    parts = JoinCorrelationSketch(50).partial_fit(x[:700]).partial_fit(x[700:])
    assert parts.to_bytes() == JoinCorrelationSketch(50).fit(x).to_bytes()
    assert parts.to_bytes() == JoinCorrelationSketch(50).fit(x, np.arange(2000)).to_bytes()


@pytest.mark.parametrize("kind", [str, np.bytes_, np.uint64, np.int32])
def test_bytes_bring_the_sketch_back(kind):
    x, keys, y, y_keys, _ = tables()
    a = JoinCorrelationSketch(50, seed=7).fit(x, keys.astype(kind))
    b = JoinCorrelationSketch(50, seed=7).fit(y, y_keys.astype(kind))
    again = JoinCorrelationSketch.from_bytes(a.to_bytes())
    assert again.to_bytes() == a.to_bytes()
    assert (again.n_samples, again.seed, again.sketch_.n_rows_) == (50, 7, 2000)
    assert again.moments(b) == a.moments(b)


def test_any_byte_changed_is_noticed():
    content = JoinCorrelationSketch(4).fit(np.arange(20.0)).to_bytes()
    for place in range(len(content)):
        for flip in (1, 128):
            damaged = bytearray(content)
            damaged[place] ^= flip
            with pytest.raises(ValueError, match="sketch"):
                JoinCorrelationSketch.from_bytes(bytes(damaged))
    for length in range(len(content)):
        with pytest.raises(ValueError, match="sketch"):
            JoinCorrelationSketch.from_bytes(content[:length])


def test_compact_sketches_estimate_the_same_and_merge():
    a, b, x, y = sketches(100)
    small = a.compact()
    assert small.nbytes < a.nbytes
    assert small.moments(b) == a.moments(b)
    assert_array_equal(small.sketch_.keys_, a.sketch_.keys_)
    assert len(small.sketch_._x) <= 103


def test_merged_compact_sketches_are_right_on_average():
    sizes = []
    for seed in range(400):
        x, keys, y, y_keys, n_common = tables(n=200, seed=1)
        parts = [
            JoinCorrelationSketch(30, seed=seed).fit(x[rows], keys[rows]).compact()
            for rows in (slice(0, 50), slice(50, 200))
        ]
        other = JoinCorrelationSketch(30, seed=seed).fit(y, y_keys)
        sizes.append(parts[0].merge(parts[1]).moments(other).size)
    assert abs(np.mean(sizes) - n_common) < 4 * np.std(sizes) / np.sqrt(400)


def test_processes_of_different_hash_seeds_agree():
    program = (
        "import numpy as np; from sparseprob.sketch import JoinCorrelationSketch as S;"
        "print(S(5).fit(np.arange(50.0), [f'k{i}' for i in range(50)]).to_bytes().hex())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, text=True,
            capture_output=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1


def test_every_array_library_gives_the_same_bytes(xp):
    x, keys, *_ = tables()
    expected = JoinCorrelationSketch(40).fit(x, keys).to_bytes()
    assert JoinCorrelationSketch(40).fit(xp.asarray(x), keys).to_bytes() == expected
    assert JoinCorrelationSketch(40).fit(xp.asarray(x), xp.asarray(keys)).to_bytes() == expected


def test_series_of_pandas_and_single_precision():
    pandas = pytest.importorskip("pandas")
    x, keys, *_ = tables()
    x = x.astype(np.float32)
    frame = pandas.DataFrame({"x": x, "key": keys})
    sketch = JoinCorrelationSketch(40).fit(frame["x"], frame["key"])
    assert sketch.to_bytes() == JoinCorrelationSketch(40).fit(x.astype(float), keys).to_bytes()


@pytest.mark.mpi
def test_ranks_end_with_the_sketch_of_one_process(mpiexec, tmp_path):
    program = """
import sys
import numpy as np
from sparseprob import distributed
from sparseprob.sketch import JoinCorrelationSketch

x = np.random.default_rng(0).normal(size=501)
keys = [f"row {i}" for i in range(501)]
with distributed() as comm:
    mine = (slice(0, 200), slice(200, 501), slice(501, 501))[comm.rank]
    ours = [JoinCorrelationSketch(20).fit(x[mine], keys[mine]),
            JoinCorrelationSketch(20).fit(x[mine])]
    contents = comm.gather([s.to_bytes() for s in ours])
alone = [JoinCorrelationSketch(20).fit(x, k).to_bytes() for k in (keys, None)]
if comm.rank == 0:
    print(all(c == alone for c in contents))
"""
    assert mpiexec(3, program).stdout.strip() == "True"


# ---------------------------------------------------------------- bad input
def test_disjoint_keys_are_told():
    a = JoinCorrelationSketch(5).fit(np.arange(9.0), np.arange(9))
    b = JoinCorrelationSketch(5).fit(np.arange(9.0), np.arange(100, 109))
    with pytest.warns(NoOverlapWarning, match="no key in common"):
        moments = a.moments(b)
    assert moments.n_common == moments.size == 0
    assert np.isnan(moments.correlation)


def test_constant_columns_have_no_correlation():
    a = JoinCorrelationSketch(5).fit(np.full(50, 0.1))
    b = JoinCorrelationSketch(5).fit(np.arange(50.0))
    assert np.isnan(a.correlation(b))
    moments = a.moments(b)
    assert_allclose([moments.mean[0], moments.std[0]], [0.1, 0], atol=1e-15)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_very_large_and_small_columns(scale):
    x = np.random.default_rng(0).normal(size=300)
    pairs = [JoinCorrelationSketch(50).fit(c) for c in (x, x**3, scale * x, scale * x**3)]
    assert_allclose(pairs[2].correlation(pairs[3]), pairs[0].correlation(pairs[1]), rtol=1e-9)


@pytest.mark.parametrize(
    ("x", "keys", "message"),
    [
        ([1.0, np.nan], None, "Row 1 contains NaN or infinity"),
        ([[1.0, 2.0]], None, "x must be one column"),
        (["a", "b"], None, "x must hold real numbers"),
        ([1.0, 2.0], [1, 2, 3], "one key for each of the 2 rows"),
        ([1.0, 2.0], [1, 1], "unique"),
    ],
)
def test_bad_columns(x, keys, message):
    with pytest.raises(ValueError, match=message):
        JoinCorrelationSketch(5).fit(x, keys)


def test_sketches_that_do_not_belong_together():
    x = np.arange(9.0)
    a = JoinCorrelationSketch(5).fit(x)
    with pytest.raises(ValueError, match="differ in seed: 0 and 1"):
        a.correlation(JoinCorrelationSketch(5, seed=1).fit(x))
    with pytest.raises(ValueError, match="differ in key_kind: 'int64' and 'str'"):
        a.correlation(JoinCorrelationSketch(5).fit(x, list("abcdefghi")))
    with pytest.raises(ValueError, match="differ in n_samples: 5 and 6"):
        a.merge(JoinCorrelationSketch(6).fit(x, x.astype(int) + 10))
    with pytest.raises(ValueError, match="more than one of the merged"):
        a.merge(a)
    with pytest.raises(TypeError, match="another JoinCorrelationSketch, got ndarray"):
        a.correlation(x)
    with pytest.raises(ValueError, match="n_samples"):
        JoinCorrelationSketch(0).fit(x)
