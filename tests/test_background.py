"""Moving objects in video: masks against the truth, on the way of every source and solver."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from sparseprob._arrays import to_numpy
from sparseprob.callbacks import History
from sparseprob.datasets import make_surveillance_video
from sparseprob.rpca import BackgroundSubtractor


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


def test_mistakes_cost_the_command_one_line(video, tmp_path):
    Image = pytest.importorskip("PIL.Image")
    (tmp_path / "frames").mkdir()
    for number, shape in enumerate([(20, 30), (20, 30), (20, 31)]):
        Image.fromarray(np.zeros(shape, dtype=np.uint8)).save(tmp_path / f"frames/{number}.png")
    (tmp_path / "none").mkdir()
    (tmp_path / "bad.npy").write_bytes(b"no array")
    cases = {
        "frames": "Frame 2 of 'frames' has 31 x 20 pixels, those before have 30 x 20 pixels",
        "none": "There are no pictures in",
        "absent": "There is no file or folder",
        "bad.npy": "is not a numeric .npy file",
    }
    for source, message in cases.items():
        done = command(source, "--output", "out", cwd=tmp_path)
        assert done.returncode in (1, 2)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()
