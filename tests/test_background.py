"""Moving objects in video: masks against the truth, on the way of every source and solver."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from sparseprob._arrays import to_numpy
from sparseprob._cli import main
from sparseprob._cli._video import Frames
from sparseprob.callbacks import History
from sparseprob.datasets import make_surveillance_video
from sparseprob.rpca import BackgroundSubtractor, _background
from sparseprob.rpca._frames import majority


@pytest.fixture(scope="module")
def video():
    return make_surveillance_video(60, (48, 64), random_state=0)


def f1(found, masks):
    both = np.sum(found & masks)
    return 2 * both / (found.sum() + masks.sum())


# ---------------------------------------------------------------- the generated scene
def test_the_scene_is_what_it_says():
    quiet = make_surveillance_video(40, (30, 50), noise=0, random_state=1)
    assert quiet.frames.shape == quiet.masks.shape == quiet.background.shape == (40, 30, 50)
    values = np.linalg.svd(quiet.background.reshape(40, -1), compute_uv=False)
    assert values[2] < 1e-6 * values[0] < values[1]
    assert_allclose(quiet.frames[~quiet.masks], quiet.background[~quiet.masks])
    difference = np.abs(quiet.frames - quiet.background)[quiet.masks]
    assert difference.min() > 0.15
    assert 0.01 < quiet.masks.mean() < 0.5


def test_the_seed_decides(video):
    again = make_surveillance_video(60, (48, 64), random_state=0)
    assert_array_equal(again.frames, video.frames)
    assert np.any(make_surveillance_video(60, (48, 64), random_state=1).frames != video.frames)


# ---------------------------------------------------------------- masks
@pytest.mark.parametrize("solver", ["ialm", "stable", "orpca", "grasta"])
def test_objects_are_found(video, solver):
    model = BackgroundSubtractor(solver=solver, random_state=0).fit(video.frames)
    online = solver in ("orpca", "grasta")  # the first frames were seen with a poor background
    assert f1(model.masks_, video.masks) > (0.85 if online else 0.9)
    assert 0.027 < model.noise_scale_ < 0.06  # what the background misses counts as noise
    assert_array_equal(model.apply(video.frames), model.masks_)
    missed = np.abs(model.background(video.frames) - video.background).mean()
    assert missed < (0.04 if online else 0.02)


def test_frames_that_were_not_learned_from(video):
    model = BackgroundSubtractor(random_state=0).fit(video.frames[:50])
    assert f1(model.apply(video.frames[50:]), video.masks[50:]) > 0.9
    assert_array_equal(model.apply(video.frames[55]), model.apply(video.frames[50:])[5])
    split = model.background(video.frames[55]) + model.foreground(video.frames[55])
    outside = ~model.apply(video.frames[55])
    assert np.abs(split - video.frames[55])[outside].max() < 0.2


def test_the_background_is_followed(video):
    model = BackgroundSubtractor(solver="orpca", random_state=0)
    model.partial_fit(video.frames[:30])
    for frame in video.frames[30:]:
        model.partial_fit(frame)
    assert model.n_frames_seen_ == 60
    assert f1(model.apply(video.frames[50:]), video.masks[50:]) > 0.85


def test_color_frames():
    video = make_surveillance_video(60, (48, 64), color=True, random_state=0)
    model = BackgroundSubtractor(random_state=0).fit(video.frames)
    assert model.background_.shape == (48, 64, 3)
    assert f1(model.masks_, video.masks) > 0.85


def test_whole_numbers_are_grey_levels(video):
    levels = np.round(255 * np.clip(video.frames, 0, 1)).astype(np.uint8)
    model = BackgroundSubtractor(random_state=0).fit(levels)
    assert f1(model.masks_, video.masks) > 0.9
    assert 5 < model.noise_scale_ < 11


def test_a_given_threshold_and_no_vote(video):
    model = BackgroundSubtractor(threshold=0.1, window=1, random_state=0).fit(video.frames)
    assert model.threshold_ == 0.1
    far = np.abs(video.frames - model.background(video.frames)) > 0.1
    assert np.mean(model.masks_ != far) < 1e-3


def test_a_file_of_frames(video, tmp_path):
    np.save(tmp_path / "frames.npy", video.frames.astype(np.float32))
    frames = np.load(tmp_path / "frames.npy", mmap_mode="r")
    model = BackgroundSubtractor(random_state=0).fit(frames)
    whole = BackgroundSubtractor(random_state=0).fit(np.asarray(frames))
    assert np.mean(model.masks_ != whole.masks_) < 1e-3


def test_libraries(xp, video):
    expected = BackgroundSubtractor(random_state=0).fit(video.frames[:30])
    model = BackgroundSubtractor(random_state=0).fit(xp.asarray(video.frames[:30]))
    assert type(model.masks_) is type(xp.asarray(video.frames))
    assert np.mean(to_numpy(model.masks_) != expected.masks_) < 1e-3


def test_clones_pickles_and_callbacks(video):
    history = History(("n_iter_",))
    model = BackgroundSubtractor(random_state=0).set_callbacks(history).fit(video.frames)
    assert len(history.records["n_iter_"]) == model.model_.n_iter_
    again = pickle.loads(pickle.dumps(clone(model).fit(video.frames)))
    assert_array_equal(again.apply(video.frames), model.masks_)


@pytest.mark.parametrize(
    ("options", "change", "message"),
    [
        ({"n_components": 0}, lambda f: f, "n_components"),
        ({"threshold": 0.0}, lambda f: f, "threshold"),
        ({"window": 2}, lambda f: f, "window"),
        ({"n_components": 9}, lambda f: f[:8], "n_components=9 needs at least as many frames"),
        ({}, lambda f: np.where(f == f[3, 2, 1], np.nan, f), "Frame 3 has NaN or infinity"),
        ({}, lambda f: f[0, 0], "frames must have shape"),
        ({}, lambda f: [f[0], f[1, :-1]], "Frame 1 has shape .* the same size"),
        ({}, lambda f: f.astype(str), "frames must be real numbers"),
    ],
)
def test_bad_input(video, options, change, message):
    with pytest.raises(ValueError, match=message):
        BackgroundSubtractor(**options).fit(change(video.frames))


def test_partial_fit_is_for_solvers_that_can(video):
    with pytest.raises(ValueError, match="partial_fit needs solver='orpca' or solver='grasta'"):
        BackgroundSubtractor().partial_fit(video.frames)
    model = BackgroundSubtractor(solver="orpca", random_state=0).partial_fit(video.frames[:20])
    with pytest.raises(ValueError, match="frames must have the shape of those of fit"):
        model.apply(video.frames[:, :-1])


def test_the_vote_is_a_median():
    masks = np.random.default_rng(0).random((4, 20, 23)) < 0.4
    for width in (3, 5):
        expected = ndimage.median_filter(masks.astype(np.uint8), (1, width, width)) > 0
        assert_array_equal(majority(masks, width), expected)
    assert_array_equal(majority(masks, 1), masks)


def test_noise_and_threshold_are_those_of_the_formulas(video):
    model = BackgroundSubtractor(random_state=0).fit(video.frames)
    rest = np.abs(model.foreground(video.frames)).reshape(60, -1)
    assert_allclose(model.noise_scale_, np.median(1.4826 * np.median(rest, axis=1)), rtol=1e-4)
    assert_allclose(model.threshold_, 3 * model.noise_scale_, rtol=1e-12)
    still = np.repeat(video.background[:1], 8, axis=0)
    model = BackgroundSubtractor(1, random_state=0).fit(still)
    assert not model.masks_.any()
    assert_allclose(model.threshold_, np.ptp(still) / 255, rtol=1e-5)  # no noise: a grey level


def test_scaled_and_flipped_frames_give_the_same_masks(video):
    expected = BackgroundSubtractor(random_state=0).fit(video.frames).masks_
    for frames in (40 * video.frames, -video.frames):
        masks = BackgroundSubtractor(random_state=0).fit(frames).masks_
        assert np.mean(masks != expected) < 1e-3


def test_some_pixels_suffice_for_the_coordinates(video, monkeypatch):
    model = BackgroundSubtractor(random_state=0).fit(video.frames)
    monkeypatch.setattr(_background, "_N_PIXELS", 800)
    change = np.abs(model.background(video.frames[:9]) - video.background[:9]).mean()
    assert change < 0.02
    assert np.mean(model.apply(video.frames) != model.masks_) < 5e-3


def test_more_iterations_are_asked_for(video):
    with pytest.warns(ConvergenceWarning, match="did not settle in max_iter=2 iterations"):
        BackgroundSubtractor(max_iter=2, random_state=0).fit(video.frames)


@pytest.mark.mpi
@pytest.mark.parametrize("n_ranks", [2, 3])
def test_ranks_share_the_frames(mpiexec, n_ranks, tmp_path):
    """Every rank ends with the same model, that of one process."""
    mpiexec(n_ranks, RANKS)
    video = make_surveillance_video(30, (24, 32), object_size=6, random_state=0)
    model = BackgroundSubtractor(random_state=0).fit(video.frames)
    masks = []
    for rank in range(n_ranks):
        with np.load(tmp_path / f"rank{rank}.npz") as found:
            assert_allclose(found["noise"], model.noise_scale_, rtol=1e-3)  # single precision
            assert_allclose(found["background"], model.background_, atol=1e-3)
            masks.append(found["masks"])
    assert np.mean(np.concatenate(masks) != model.masks_) < 1e-3


RANKS = """
import numpy as np
from sparseprob import distributed, row_slice
from sparseprob.datasets import make_surveillance_video
from sparseprob.mpi import rank
from sparseprob.rpca import BackgroundSubtractor

frames = make_surveillance_video(30, (24, 32), object_size=6, random_state=0).frames
with distributed():
    model = BackgroundSubtractor(random_state=0).fit(frames[row_slice(30)])
    np.savez(f"rank{rank()}.npz", noise=model.noise_scale_, background=model.background_,
             masks=model.masks_)
"""


# ---------------------------------------------------------------- the command
def command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "sparseprob", "background", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=120,
    )  # fmt: skip


def picture(path):
    from PIL import Image

    return np.asarray(Image.open(path))


def test_the_command_writes_masks_background_and_foreground(video, tmp_path):
    pytest.importorskip("PIL")
    np.save(tmp_path / "frames.npy", video.frames)
    done = command("frames.npy", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "60, 64 x 48 pixels" in done.stdout
    masks = np.stack([picture(p) > 127 for p in sorted((tmp_path / "out/mask").iterdir())])
    assert f1(masks, video.masks) > 0.9
    assert len(list((tmp_path / "out/background").iterdir())) == 60
    again = command(tmp_path / "out/foreground", "--output", "again", cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_mistakes_cost_the_command_one_line(tmp_path, monkeypatch, capsys):
    Image = pytest.importorskip("PIL.Image")
    monkeypatch.chdir(tmp_path)
    for folder, shapes in {"frames": [(20, 30), (20, 30), (20, 31)], "cut": [(40, 30)] * 2}.items():
        (tmp_path / folder).mkdir()
        for number, shape in enumerate(shapes):
            noise = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
            Image.fromarray(noise).save(tmp_path / f"{folder}/{number}.png")
    whole = (tmp_path / "cut/1.png").read_bytes()
    (tmp_path / "cut/1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none").mkdir()
    (tmp_path / "bad.npy").write_bytes(b"no array")
    np.save("flat.npy", np.zeros((4, 5)))
    np.save("nan.npy", np.full((4, 9, 9), np.nan))
    cases = {
        "frames": "Frame 2 of 'frames' has 31 x 20 pixels, those before have 30 x 20 pixels",
        "cut": "Frame 1, 'cut/1.png', is no readable picture",
        "none": "There are no pictures in",
        "absent": "There is no file or folder",
        "bad.npy": "is not a numeric .npy file",
        "flat.npy": "must hold frames (n_frames, height, width)",
        "nan.npy": "Frame 0 has NaN or infinity",
    }
    before = set(tmp_path.iterdir())
    for source, message in cases.items():
        assert main(["background", source, "--output", "out"]) == 1
        assert message in capsys.readouterr().err
        assert set(tmp_path.iterdir()) == before  # neither results nor temporary files
    for output, message in {"no/out": "does not exist", "cut": "is not an empty folder"}.items():
        assert main(["background", "frames", "--output", output]) == 1
        assert message in capsys.readouterr().err


def test_frames_are_sorted_by_number_and_sampled_evenly(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    for number in range(12):
        Image.fromarray(np.full((2, 3), number, dtype=np.uint8)).save(tmp_path / f"{number}.png")
    frames = Frames(tmp_path)
    assert [int(frame[0, 0]) for frame in frames] == list(range(12))
    for n_frames, expected in {20: range(12), 12: range(12), 4: (0, 2, 6, 8), 1: (0,)}.items():
        some, count = frames.sample(n_frames)
        assert count == 12
        assert len(some) == len(expected)
        if n_frames >= 12:
            assert_array_equal(some[:, 0, 0], expected)


def test_video_files(video, tmp_path, monkeypatch, capsys):
    pytest.importorskip("av")
    imageio = pytest.importorskip("imageio.v3")
    monkeypatch.chdir(tmp_path)
    frames = np.round(255 * np.repeat(video.frames[..., None], 3, axis=3)).astype(np.uint8)
    imageio.imwrite("in.mp4", frames, plugin="pyav", codec="libx264", fps=10)
    options = ["--output", "out", "--format", "mp4", "--gray"]
    assert main(["background", "in.mp4", *options]) == 0
    assert "60, 64 x 48 pixels" in capsys.readouterr().out
    masks = imageio.imread("out/mask.mp4", plugin="pyav")[..., 0] > 127
    assert f1(masks, video.masks) > 0.85
    assert imageio.immeta("out/mask.mp4", plugin="pyav")["fps"] == 10
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    assert main(["background", "bad.mp4", "--output", "other"]) == 1
    assert "'bad.mp4' is not a readable video" in capsys.readouterr().err


def test_missing_packages_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "in.mp4").write_bytes(b"")
    assert main(["background", str(tmp_path / "in.mp4"), "--output", str(tmp_path / "out")]) == 1
    assert "pip install imageio av" in capsys.readouterr().err


def test_interrupting_leaves_nothing(video, tmp_path, monkeypatch, capsys):
    np.save(tmp_path / "frames.npy", video.frames)

    def stop(self, frames):
        raise KeyboardInterrupt

    monkeypatch.setattr(BackgroundSubtractor, "background", stop)
    arguments = [str(tmp_path / "frames.npy"), "--output", str(tmp_path / "out")]
    assert main(["background", *arguments, "--solver", "stable"]) == 130
    assert "interrupted. Nothing was written." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["frames.npy"]
