"""The array seam: views without copies, chunks of rows from anywhere."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sparseprob._arrays import compute_dtype, is_array, is_row_source, like, row_chunks, to_compute

X = np.arange(70.0).reshape(14, 5)


def test_views_share_memory():
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(X.copy())
    view = to_compute(tensor)
    view[0, 0] = -1
    assert tensor[0, 0] == -1
    assert to_compute(X) is X
    back = like(view, tensor)
    assert back.data_ptr() == tensor.data_ptr()


def test_answers_come_back_in_the_library_of_the_question(xp):
    A = xp.asarray(X)
    answer = like(to_compute(A) * 2, A)
    assert type(answer) is type(A)
    assert is_array(A)
    assert not is_row_source(A)
    assert compute_dtype(A) == np.float64
    if xp.name != "cupy":
        assert_array_equal(to_compute(answer), 2 * X)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int32", "bool"])
def test_small_floats_stay_single(dtype):
    expected = np.float32 if dtype in ("float16", "float32") else np.float64
    assert compute_dtype(X.astype(dtype)) == expected


@pytest.mark.parametrize("batch_size", [1, 3, 14, 100])
def test_chunks_cover_all_rows_in_order(tmp_path, batch_size):
    h5py = pytest.importorskip("h5py")
    np.save(tmp_path / "x.npy", X)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        sources = [
            X,
            X[::-1][::-1],
            np.asfortranarray(X),
            np.load(tmp_path / "x.npy", mmap_mode="r"),
        ]
        sources += [file.create_dataset("x", data=X, chunks=(4, 5))]
        for source in sources:
            chunks = list(row_chunks(source, batch_size, np.dtype(np.float64)))
            assert_array_equal(np.concatenate([chunk for _, chunk in chunks]), X)
            starts = np.cumsum([0] + [len(chunk) for _, chunk in chunks])[:-1]
            assert [start for start, _ in chunks] == list(starts)
            assert all(chunk.flags.c_contiguous for _, chunk in chunks)


def test_rows_in_memory_are_not_copied():
    ((_, chunk),) = row_chunks(X, 100, np.dtype(np.float64))
    assert np.shares_memory(chunk, X)


def test_a_failing_source_fails_the_loop():
    class Broken:
        shape, dtype = (10, 2), np.dtype(float)

        def __len__(self):
            return 10

        def __getitem__(self, key):
            if key.start >= 4:
                raise OSError("disk gone")
            return np.zeros((key.stop - key.start, 2))

    with pytest.raises(OSError, match="disk gone"):
        list(row_chunks(Broken(), 2, np.dtype(float)))


def test_frames_and_sparse_matrices_are_not_row_sources():
    scipy_sparse = pytest.importorskip("scipy.sparse")
    pandas = pytest.importorskip("pandas")
    assert not is_row_source(scipy_sparse.csr_matrix(X))
    assert not is_row_source(pandas.DataFrame(X))
