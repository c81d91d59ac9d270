"""``sparseprob background``: moving objects in the video of a fixed camera.

Two passes over the video: one chooses frames to learn from, one finds the objects in all frames.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from . import _video

_SOLVERS = ("ialm", "stable", "orpca", "grasta")
_NAMES = ("mask", "background", "foreground")
_BRIGHTNESS = (0.299, 0.587, 0.114)  # of red, green and blue
_BATCH = 16


def add_parser(commands):
    """Add the command to the parser."""
    text = "find moving objects in the video of a fixed camera"
    parser = commands.add_parser(
        "background", help=text, description=text + ": masks, background and foreground",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "video", metavar="VIDEO_OR_FRAMES", type=Path,
        help="folder of pictures, frames.npy (floats from 0 to 1, or integers), or a video file",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--format", choices=("png", "mp4"), default="png", help="what to write")
    parser.add_argument("--gray", action="store_true", help="leave color away, which is faster")
    parser.add_argument("--learn-from", type=int, default=200, help="frames to learn from")
    parser.add_argument("--n-components", type=int, default=3, help="rank of the background")
    parser.add_argument(
        "--solver", choices=_SOLVERS, default="ialm",
        help="orpca and grasta go on learning from every frame",
    )  # fmt: skip
    parser.add_argument(
        "--threshold", type=float, default=None,
        help="difference from the background in grey levels, 0 to 255; default: from the noise",
    )  # fmt: skip
    parser.add_argument("--window", type=int, default=3, help="odd width of the vote of neighbors")
    parser.add_argument("--random-state", type=int, default=0, help="seed")
    parser.set_defaults(run=run)


def run(options):
    """Learn, find the objects, write, say what was found."""
    began = time.perf_counter()
    _video.check_new(options.output)
    _video.check_can_write(options.format)
    if options.learn_from < 1:
        raise ValueError(f"--learn-from must be at least 1, got {options.learn_from}.")
    video = _video.Frames(options.video)
    sample, n_frames = video.sample(options.learn_from)
    model = _model(options)
    model.fit(_levels(sample, options.gray))
    model.set_callbacks()
    try:
        share = _write(options, model, video, n_frames)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Nothing was written.") from None
    height, width = model.frame_shape_[:2]
    figures = {
        "frames": f"{n_frames}, {width} x {height} pixels", "learned from": str(len(sample)),
        "noise (grey levels)": f"{255 * model.noise_scale_:.2f}",
        "threshold (grey levels)": f"{255 * model.threshold_:.2f}",
        "pixels in masks": f"{share:.2%}",
    }  # fmt: skip
    for name, value in figures.items():
        print(f"{name:<24} {value}")
    seconds = time.perf_counter() - began
    suffix = ".mp4" if options.format == "mp4" else "/"
    names = ", ".join(name + suffix for name in _NAMES)
    print(f"written to {options.output}/: {names}  ({seconds:.0f} s)")


def _model(options):
    from ..rpca import BackgroundSubtractor

    model = BackgroundSubtractor(
        options.n_components, solver=options.solver, window=options.window,
        threshold="auto" if options.threshold is None else options.threshold / 255,
        random_state=options.random_state,
    )  # fmt: skip
    try:
        import rich  # noqa: F401 - what ProgressBar draws with

        from ..callbacks import ProgressBar

        model.set_callbacks(ProgressBar())
    except ImportError:
        print(f"learning the background, solver={options.solver}")
    return model


def _levels(frames, gray):
    """Frames as floats, white being 1."""
    white = np.iinfo(frames.dtype).max if frames.dtype.kind in "iu" else 1
    frames = frames.astype(np.float32) / np.float32(white)
    if gray and frames.shape[-1] == 3 and frames.ndim == 4:
        return frames @ np.array(_BRIGHTNESS, dtype=np.float32)
    return frames


def _write(options, model, video, n_frames):
    """Write the results of all frames; return the share of pixels in masks."""
    follows, share = options.solver in ("orpca", "grasta"), 0.0
    speed = video.frames_per_second
    with (
        _video.new_folder(options.output) as folder,
        _video.writers(folder, _NAMES, options.format, speed) as write,
    ):
        for batch in _tracked(_batches(video), -(-n_frames // _BATCH)):
            frames = _levels(batch, options.gray)
            if follows:
                model.partial_fit(frames)
            backgrounds = model.background(frames)
            masks = model._mask(frames - backgrounds)
            for frame, background, mask in zip(frames, backgrounds, masks, strict=True):
                write["mask"](mask.astype(np.float32))
                write["background"](background)
                write["foreground"](
                    np.where(mask if frame.ndim == 2 else mask[..., None], frame, 0)
                )
            share += float(masks.sum()) / masks[0].size
    return share / n_frames


def _batches(video):
    batch = []
    for frame in video:
        batch.append(frame)
        if len(batch) == _BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def _tracked(batches, total):
    """Iterate with a progress bar, if rich is there."""
    try:
        from rich.console import Console
        from rich.progress import track
    except ImportError:
        return batches
    return track(batches, "finding objects", total=total, console=Console(stderr=True))
