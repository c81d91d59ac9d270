"""Sketches over MPI ranks: every rank ends with the bytes of one process."""

import hashlib

import numpy as np
import pytest

from sparseprob.sketch import CountSketcher, PrioritySketcher, ThresholdSketcher

pytestmark = pytest.mark.mpi
X = np.random.default_rng(0).standard_cauchy((1001, 3))
SKETCHERS = [
    PrioritySketcher(50),
    ThresholdSketcher(50),
    ThresholdSketcher(50, adaptive=False),
]

PROGRAM = """
import hashlib
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.sketch import CountSketcher, PrioritySketcher, ThresholdSketcher

X = np.random.default_rng(0).standard_cauchy((1001, 3))
keys = np.array([f"k{i}" for i in range(1001)])
sketchers = [PrioritySketcher(50), ThresholdSketcher(50), ThresholdSketcher(50, adaptive=False)]
lines = []
with distributed() as comm:
    mine = row_slice(len(X))
    for sketcher in sketchers:
        halves = (slice(mine.start, mine.start + 9), slice(mine.start + 9, mine.stop))
        sketches = [sketcher.sketch(X[mine]), sketcher.sketch(X[mine], keys[mine])]
        sketches += [sketcher.sketch_batches((X[h], keys[h]) for h in halves)]
        for i in range(0, 1001, 400):  # chunks of rows, each shared out
            part = row_slice(min(400, 1001 - i))
            sketcher.partial_fit(X[i : i + 400][part])
        sketches += [sketcher.sketch_]
        last = X if comm.rank == comm.size - 1 else X[:0]
        sketches += [sketcher.sketch(last, keys[: len(last)])]
        lines += [hashlib.sha256(s.to_bytes()).hexdigest() for s in sketches]
    W = CountSketcher(30).sketch(X[mine]).table_
    lines.append(str(round(float(np.linalg.norm(W)), 6)))
    try:
        sketchers[0].sketch_batches([(X[mine], None)])
    except ValueError as error:
        lines.append("refused" if "need keys" in str(error) else str(error))
    try:
        sketchers[0].sketch(X[:5], keys[:5])
    except ValueError as error:
        lines.append("twice" if "more than one" in str(error) else str(error))
    everyone = comm.gather(lines)
    if comm.rank == 0:
        assert all(other == lines for other in everyone), everyone
        print("|".join(lines))
"""


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_ranks_end_with_the_bytes_of_one_process(mpiexec, n_ranks):
    found = mpiexec(n_ranks, PROGRAM).stdout.strip().split("|")
    keys = [f"k{i}" for i in range(1001)]
    expected = []
    for sketcher in SKETCHERS:
        numbered, named = (
            hashlib.sha256(sketcher.sketch(X, k).to_bytes()).hexdigest() for k in (None, keys)
        )
        expected += [numbered, named, named, numbered, named]
    norm = np.linalg.norm(CountSketcher(30).sketch(X).table_)
    assert found == [*expected, str(round(float(norm), 6)), "refused", "twice"]
