"""Data sets, patches, whitening, rows from files, matching."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sparseprob.datasets import (
    extract_patches,
    load_photographs,
    make_bars,
    match_components,
    on_gpu,
    open_rows,
    zca_whiten,
)


@pytest.mark.parametrize("model", ["linear", "max", "absmax"])
def test_bars_are_what_the_states_say(model):
    bars = make_bars(200, 4, noise=0.0, signed=True, model=model, values=(1, 2), random_state=0)
    assert_array_equal(np.unique(bars.states), [0, 1, 2])
    assert_array_equal((np.abs(bars.components) == 10).sum(axis=1), 4)
    parts = bars.states[:, :, None] * bars.components
    if model == "linear":
        expected = parts.sum(axis=1)
    elif model == "max":
        expected = np.maximum(parts.max(axis=1), 0)
    else:
        strongest = np.abs(parts).argmax(axis=1)
        expected = np.take_along_axis(parts, strongest[:, None], axis=1)[:, 0]
    assert_allclose(bars.data, expected)


def test_bars_have_the_asked_frequency_and_noise():
    bars = make_bars(20_000, p_bar=0.2, random_state=0)
    assert abs(bars.states.mean() - 0.2) < 4 * np.sqrt(0.16 / bars.states.size)
    residual = bars.data - bars.states @ bars.components
    assert abs(residual.std() - 2) < 4 * 2 / np.sqrt(2 * residual.size)
    assert_array_equal(make_bars(5, random_state=3).data, make_bars(5, random_state=3).data)
    with pytest.raises(ValueError, match="model must be one of"):
        make_bars(model="product")
    with pytest.raises(ValueError, match="p_bar must lie between 0 and 1"):
        make_bars(p_bar=1.5)


def test_patches_are_pieces_of_the_images():
    image = np.arange(30 * 40, dtype=float).reshape(30, 40)
    patches = extract_patches([image, image + 5000], 101, size=6, random_state=0)
    assert patches.shape == (101, 36)
    corner = patches[:, 0] % 5000
    offsets = (np.arange(6)[:, None] * 40 + np.arange(6)).ravel()
    assert_array_equal(patches % 5000, corner[:, None] + offsets)
    assert abs((patches[:, 0] >= 5000).sum() - 50) <= 1
    with pytest.raises(ValueError, match="at least size=31, got"):
        extract_patches([image], 3, size=31)


def test_photographs_are_grey_and_real():
    images = load_photographs()
    assert [image.shape for image in images] == [(427, 640)] * 2
    assert all(0 <= image.min() < 0.1 and 0.8 < image.max() <= 1 for image in images)


def test_whitening_removes_correlations_and_can_be_undone():
    from sparseprob.datasets import ZCAWhitening

    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4)) + 3
    whitening = ZCAWhitening(retained_variance=1.0).fit(X)
    white = whitening.transform(X)
    assert_allclose(np.cov(white.T), np.eye(4), atol=1e-10)
    assert_allclose(whitening.whitening_, whitening.whitening_.T, atol=1e-12)
    assert_allclose(whitening.inverse_transform(white), X, atol=1e-9)
    variances = np.linalg.eigvalsh(np.cov(zca_whiten(X, retained_variance=0.8).T))
    assert variances[-1] == pytest.approx(1)
    assert variances[0] < 0.9
    with pytest.raises(ValueError, match="zero variance"):
        zca_whiten(np.ones((5, 3)))


def test_rows_are_opened_without_reading(tmp_path):
    h5py = pytest.importorskip("h5py")
    X = np.arange(12.0).reshape(4, 3)
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "b.npz", X=X)
    np.savez(tmp_path / "c.npz", X=X, Y=2 * X)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["group/rows"] = X
    assert isinstance(open_rows(tmp_path / "a.npy"), np.memmap)
    assert isinstance(open_rows(f"{tmp_path}/d.h5:/group/rows"), h5py.Dataset)
    for name in ("a.npy", "b.npz", "c.npz:X", "d.h5:/group/rows"):
        assert_array_equal(open_rows(f"{tmp_path}/{name}")[:], X)


def test_files_that_hold_no_rows_are_refused_in_a_sentence(tmp_path):
    np.save(tmp_path / "text.npy", np.array([["a"]]))
    np.save(tmp_path / "object.npy", np.array([[None]]), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 2)), b=np.zeros((2, 2)))
    (tmp_path / "x.csv").write_text("1,2")
    for broken in ("broken.npy", "broken.npz", "broken.h5"):
        (tmp_path / broken).write_text("nothing")
    for name, message in {
        "none.npy": "There is no file",
        "text.npy": "must hold real numbers",
        "object.npy": "not a numeric .npy file",
        "flat.npy": "must hold a table",
        "two.npz": r"holds the arrays \['a', 'b'\]; name one",
        "x.csv": "must end in .npy, .npz or .h5",
        "broken.npy": "not a numeric .npy file",
        "broken.npz": "not a numeric .npz file",
        "broken.h5:/x": "not an HDF5 file",
    }.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            open_rows(tmp_path / name)


def test_atoms_are_matched_one_to_one():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(6, 9))
    order, signs = rng.permutation(6), np.array([1, -1, 1, 1, -1, 1])
    learned = (signs[:, None] * truth)[order] + 0.01
    match = match_components(learned, truth, signed=True)
    assert_array_equal(order[match.order], np.arange(6))
    assert_array_equal(match.signs, signs)
    assert_allclose(match.errors, 0.01, atol=1e-12)
    assert match_components(learned, truth).errors.max() > 0.1
    with pytest.raises(ValueError, match=r"must have shape \(>= 6, 9\), got \(5, 9\)"):
        match_components(learned[:5], truth)


def test_rows_for_a_gpu_need_one():
    try:
        import cupy

        available = cupy.cuda.is_available()
    except ImportError:
        available = False
    if available:
        pytest.skip("there is a GPU")
    with pytest.raises(ImportError, match="on_gpu needs"):
        on_gpu(np.zeros((3, 2)))


@pytest.mark.gpu
@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_rows_arrive_on_the_gpu_in_order(batch_size):
    X = np.random.default_rng(0).normal(size=(701, 5)).astype(np.float32)
    rows = on_gpu(X)
    assert rows.shape == X.shape
    chunks = [(start, chunk.get()) for start, chunk in rows.iter_chunks(batch_size)]
    assert_array_equal(np.concatenate([chunk for _, chunk in chunks]), X)
    assert [start for start, _ in chunks] == list(range(0, 701, batch_size))
