"""The union of three coordinated samples against loops over the definition."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from reference_join import union_sample

from sparseprob.sketch._union_sample import UnionSample, candidates


def column(n=40, seed=0, zeros=5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n) * (1 + rng.pareto(1.5, size=n))
    x[:zeros] = 0
    return x, rng.random(n), rng.integers(0, 2**63, size=n).astype(np.uint64)


@pytest.mark.parametrize("k", [1, 2, 7, 20, 39, 40, 60])
@pytest.mark.parametrize("seed", range(5))
def test_rows_and_probabilities_are_those_of_the_definition(k, seed):
    x, u, hashes = column(seed=seed)
    sample = UnionSample(u, hashes, x, k)
    rows, probability = union_sample(x, u, k)
    assert set(np.flatnonzero(sample.sampled)) == rows
    assert_allclose(sample.probabilities(x), [probability(i) for i in range(40)], rtol=1e-12)


@pytest.mark.parametrize("k", [3, 10])
def test_candidates_hold_all_that_matters(k):
    x, u, hashes = column(n=500)
    whole, kept = UnionSample(u, hashes, x, k), candidates(u, x, k)
    part = UnionSample(u[kept], hashes[kept], x[kept], k)
    assert len(kept) <= 3 * (k + 1)
    assert part.listed.all()
    assert_array_equal(part.taus, whole.taus)
    assert_array_equal(kept[part.sampled], np.flatnonzero(whole.sampled))


def test_a_scaled_column_has_the_same_rows():
    x, u, hashes = column()
    sample = UnionSample(u, hashes, x, 10)
    for factor in (1e-150, 1e150, 3.0):
        scaled = UnionSample(u, hashes, factor * x, 10)
        assert_array_equal(scaled.sampled, sample.sampled)
        assert_allclose(scaled.probabilities(factor * x), sample.probabilities(x), rtol=1e-12)


def sums(k, cap):
    """Estimates of six sums over common keys for 4000 hash functions, and the sums."""
    x, _, hashes = column(n=60, zeros=0)
    y = 0.5 * x + np.random.default_rng(1).normal(size=60)
    rng, estimates = np.random.default_rng(2), []
    for _ in range(4000):
        u = rng.random(60)
        a, b = UnionSample(u, hashes, x, k, cap), UnionSample(u, hashes, y, k, cap)
        both = a.sampled & b.sampled
        p = np.minimum(a.probabilities(x), b.probabilities(y))[both]
        estimates.append([(value[both] / p).sum() for value in products(x, y)])
    return np.array(estimates), [value.sum() for value in products(x, y)]


def products(x, y):
    return [np.ones_like(x), x, y, x**2, y**2, x * y]


def test_sums_over_samples_of_a_fixed_size_are_unbiased():
    estimates, true = sums(60 - 1, cap=8)
    errors = estimates.std(axis=0) / np.sqrt(len(estimates))
    assert (np.abs(estimates.mean(axis=0) - true) < 4 * errors).all()


def test_the_size_found_from_the_hashes_hardly_shifts_the_sums():
    """The k-th rank in place of the (k+1)-st would shift them by a third of their deviation."""
    estimates, true = sums(16, cap=None)
    assert (np.abs(estimates.mean(axis=0) - true) < 0.12 * estimates.std(axis=0)).all()
