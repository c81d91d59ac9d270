"""Images: patches and their average, restoring, noise estimates, and the commands for pictures."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from sparseprob._cli import main
from sparseprob.datasets import ImagePatches, load_photographs
from sparseprob.dictionary import BinarySparseCoding, estimate_noise, restore_image
from sparseprob.metrics import peak_signal_to_noise_ratio


def picture(height=40, width=44):
    """Bright blocks on a dark ground."""
    rows, columns = np.indices((height, width))
    return 0.2 + 0.6 * ((rows // 8 + columns // 8) % 2)


@pytest.mark.parametrize(("shape", "step"), [((9, 11), 1), ((9, 11), 3), ((10, 8, 3), 2)])
def test_averaged_patches_give_the_image_back(shape, step):
    image = np.random.default_rng(0).random(shape)
    patches = ImagePatches(image, size=4, step=step)
    rows = patches[:]
    assert rows.shape == patches.shape
    pixels = rows.reshape(len(patches), 16, -1)
    assert_allclose(pixels.mean(axis=1), 0, atol=1e-14)
    assert_allclose(patches.average(rows), image, rtol=1e-12)
    assert_array_equal(patches[3:9:2], rows[3:9:2])


def test_unknown_pixels_stay_unknown_and_empty_patches_are_left_out():
    image = np.random.default_rng(0).random((8, 8))
    image[:4, :4] = np.nan
    patches = ImagePatches(image, size=2)
    assert len(patches) == 49 - 9
    averaged = patches.average(np.zeros(patches.shape))
    assert np.isnan(averaged).sum() == 9  # the pixels that only empty patches cover
    with pytest.raises(ValueError, match="raise size"):
        restore_image(image, BinarySparseCoding(2, max_iter=1, tol=0, missing="nan"), size=2)
    with pytest.raises(ValueError, match="at least size=9"):
        ImagePatches(image, size=9)


def test_restoring_takes_noise_away_and_fills_holes():
    truth, rng = picture(), np.random.default_rng(0)
    noisy = truth + 0.1 * rng.normal(size=truth.shape)
    model = BinarySparseCoding(16, init="data", max_iter=15, tol=0, random_state=0)
    clean = restore_image(noisy, model, size=4)
    before, after = (peak_signal_to_noise_ratio(truth, image) for image in (noisy, clean))
    assert after > before + 3
    assert_array_equal(restore_image(noisy, model, size=4), clean)  # a fitted model is kept
    holes = np.where(rng.random(truth.shape) < 0.3, np.nan, truth)
    model = BinarySparseCoding(16, init="data", max_iter=15, tol=0, missing="nan", random_state=0)
    filled = restore_image(holes, model, size=4)
    constant = np.where(np.isnan(holes), np.nanmean(holes), holes)
    gain = peak_signal_to_noise_ratio(truth, filled) - peak_signal_to_noise_ratio(truth, constant)
    assert gain > 3


def test_noise_is_estimated():
    truth, rng = load_photographs()[1], np.random.default_rng(0)
    for scale in (0.05, 0.1):
        noisy = truth + scale * rng.normal(size=truth.shape)
        assert abs(estimate_noise(noisy) / scale - 1) < 0.06
        noisy[rng.random(truth.shape) < 0.1] = np.nan
        assert abs(estimate_noise(noisy) / scale - 1) < 0.06


def test_psnr_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    a, b = np.random.default_rng(0).random((2, 20, 30))
    expected = metrics.peak_signal_noise_ratio(a, b, data_range=1.0)
    assert_allclose(peak_signal_to_noise_ratio(a, b), expected, rtol=1e-12)
    assert peak_signal_to_noise_ratio(a, a) == np.inf
    with pytest.raises(ValueError, match="same shape"):
        peak_signal_to_noise_ratio(a, b[1:])


# ---------------------------------------------------------------- commands
def save(path, image):
    from PIL import Image

    Image.fromarray(np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)).save(path)
    return str(path)


def load(path):
    from PIL import Image

    return np.asarray(Image.open(path)) / 255


QUICK = ("--n-components", "12", "--max-iter", "10", "--size", "4")


@pytest.mark.parametrize("channels", [(), (3,)])
def test_denoise_writes_a_cleaner_picture(tmp_path, channels, capsys):
    truth = np.broadcast_to(
        picture().reshape(40, 44, *np.ones(len(channels), int)), (40, 44, *channels)
    )
    noisy = truth + 0.1 * np.random.default_rng(0).normal(size=truth.shape)
    source, target = save(tmp_path / "noisy.png", noisy), tmp_path / "clean.png"
    assert main(["denoise", source, "--output", str(target), "--noise-scale", "25", *QUICK]) == 0
    assert load(target).shape == truth.shape
    before, after = (peak_signal_to_noise_ratio(truth, load(p)) for p in (source, target))
    assert after > before + 3
    assert "25.0 grey levels (given)" in capsys.readouterr().out


def test_inpaint_fills_in_and_keeps_what_is_known(tmp_path):
    truth, rng = picture(), np.random.default_rng(0)
    mask = rng.random(truth.shape) < 0.3
    source = save(tmp_path / "holes.png", np.where(mask, 0, truth))
    target = tmp_path / "filled.png"
    arguments = ["inpaint", source, save(tmp_path / "mask.png", mask), "--output", str(target)]
    assert main([*arguments, *QUICK]) == 0
    filled, known = load(target), load(source)
    assert_array_equal(filled[~mask], known[~mask])
    assert peak_signal_to_noise_ratio(truth[mask], filled[mask]) > 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("denoise", "missing.png", "--output", "x.png"), "No such file"),
        (("denoise", "rows.txt", "--output", "x.png"), "cannot identify image"),
        (("denoise", "a.png", "--output", "x.what"), "must end in .png"),
        (("denoise", "a.png", "--output", "x.png", "--noise-scale", "-1"), "must be positive"),
        (("inpaint", "a.png", "b.png", "--output", "x.png"), "resize it"),
        (
            ("denoise", "a.png", "--output", "x.png", "--noise-scale", "9", "--size", "99"),
            "at least size=99",
        ),
    ],
)
def test_mistakes_with_pictures_cost_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.txt").write_text("no picture")
    save("a.png", picture())
    save("b.png", picture(20, 20))
    assert main(list(arguments)) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert message in said[0]
    assert not (tmp_path / "x.png").exists()
