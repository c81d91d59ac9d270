"""Frames of a folder of pictures, a .npy file or a video file, and results as pictures or video.

Video files are read and written by imageio and PyAV, if they are installed.
"""

import os
import re
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from ._images import _pillow, write_image

_GREY = ("1", "L", "LA", "I;16")  # modes of pictures
_FRAMES_PER_SECOND = 25.0  # of what has no speed of its own


class Frames:
    """The frames of a video, one after the other, as often as asked; all of one size.

    Parameters
    ----------
    path : Path
        A folder of pictures, a .npy file or a video file.

    Attributes
    ----------
    frames_per_second : float
    """

    def __init__(self, path):
        self.path, self.frames_per_second = Path(path), _FRAMES_PER_SECOND
        if self.path.is_dir():
            self._read = _pictures(self.path)
        elif not self.path.exists():
            raise FileNotFoundError(
                f"There is no file or folder {str(path)!r}; give a folder of pictures, a .npy file "
                "or a video."
            )
        elif self.path.suffix.lower() == ".npy":
            self._read = _array(self.path)
        else:
            self._read, self.frames_per_second = _video(self.path)

    def __iter__(self):
        shape = None
        for number, frame in enumerate(self._read()):
            shape = frame.shape if shape is None else shape
            if frame.shape != shape:
                raise ValueError(
                    f"Frame {number} of {str(self.path)!r} has {_size(frame.shape)}, those before "
                    f"have {_size(shape)}; all frames must have the same size."
                )
            yield frame

    def sample(self, n_frames):
        """Return at most `n_frames` of all frames, evenly spaced, and how many there are."""
        kept, step, count = [], 1, 0
        for frame in self:
            if count % step == 0:
                kept.append(frame)
            if len(kept) == 2 * n_frames:
                kept, step = kept[::2], 2 * step
            count += 1
        if count == 0:
            raise ValueError(f"There are no frames in {str(self.path)!r}; give another video.")
        some = np.linspace(0, len(kept) - 1, min(n_frames, len(kept))).round().astype(int)
        return np.stack([kept[i] for i in some]), count


def _size(shape):
    return f"{shape[1]} x {shape[0]} pixels" + (f" of {shape[2]} colors" if shape[2:] else "")


# ---------------------------------------------------------------- sources
def _pictures(folder):
    Image = _pillow()
    kinds = Image.registered_extensions()
    paths = [p for p in folder.iterdir() if p.suffix.lower() in kinds and p.is_file()]
    if not paths:
        raise ValueError(f"There are no pictures in {str(folder)!r}; name another folder.")
    paths.sort(key=lambda p: [int(t) if t.isdigit() else t for t in re.split(r"(\d+)", p.name)])

    def read():
        mode = None
        for number, path in enumerate(paths):
            try:
                with Image.open(path) as picture:
                    mode = mode or ("L" if picture.mode in _GREY else "RGB")
                    frame = np.asarray(picture.convert(mode))
            except OSError as error:
                raise ValueError(
                    f"Frame {number}, {str(path)!r}, is no readable picture ({error}); remove it."
                ) from error
            yield frame

    return read


def _array(path):
    try:
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{str(path)!r} is not a numeric .npy file ({error}); save it anew."
        ) from error
    is_video = frames.ndim == 3 or (frames.ndim == 4 and frames.shape[3] == 3)
    if not is_video or frames.dtype.kind not in "fiu":
        raise ValueError(
            f"{str(path)!r} must hold frames (n_frames, height, width) or (n_frames, height, "
            f"width, 3), got {frames.dtype} of shape {frames.shape}."
        )
    return lambda: iter(frames)


def _video(path):
    imageio = _imageio()
    try:
        speed = float(imageio.immeta(path, plugin="pyav").get("fps") or _FRAMES_PER_SECOND)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from error

    def read():
        frames = imageio.imiter(path, plugin="pyav")
        number = 0
        while True:
            try:
                frame = next(frames)
            except StopIteration:
                return
            except (OSError, ValueError, RuntimeError) as error:
                raise _unreadable(path, error, f" from frame {number} on") from error
            yield frame
            number += 1

    return read, speed


def _unreadable(path, error, where=""):
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(
        f"{str(path)!r} is not a readable video{where} ({reason}); convert it, for example into a "
        "folder of pictures."
    )


def _imageio():
    try:
        import av  # noqa: F401 - what imageio reads videos with
        import imageio.v3
    except ImportError as error:
        raise ImportError(
            "Reading and writing videos needs imageio and PyAV, which are not installed; "
            "pip install imageio av."
        ) from error
    return imageio.v3


# ---------------------------------------------------------------- results
@contextmanager
def new_folder(path):
    """Yield a folder that becomes `path` when the block succeeds, and else is gone."""
    path = Path(path)
    with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}.") as beside:
        folder = Path(beside) / path.name
        folder.mkdir()
        yield folder
        if path.exists():
            path.rmdir()
        os.replace(folder, path)


def check_new(path):
    """Refuse a folder that could not be made, or in which there is something."""
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"The folder of {str(path)!r} does not exist; create it first.")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(
            f"{str(path)!r} exists and is not an empty folder; remove it or name another one."
        )


@contextmanager
def writers(folder, names, kind, frames_per_second):
    """Yield functions of a frame, by name, that write it: pictures in a folder, or a video."""
    with ExitStack() as open_files:
        if kind == "png":
            yield {name: _picture_writer(folder / name) for name in names}
        else:
            yield {
                name: open_files.enter_context(
                    _video_writer(folder / f"{name}.mp4", frames_per_second)
                )
                for name in names
            }


def _picture_writer(folder):
    folder.mkdir()
    numbers = iter(range(10**9))
    return lambda frame: write_image(frame, folder / f"{next(numbers):06d}.png")


@contextmanager
def _video_writer(path, frames_per_second):
    imageio = _imageio()
    with imageio.imopen(path, "w", plugin="pyav") as file:
        file.init_video_stream("libx264", fps=frames_per_second)

        def write(frame):
            levels = np.round(255 * np.clip(frame, 0, 1)).astype(np.uint8)
            if levels.ndim == 2:
                levels = np.repeat(levels[:, :, None], 3, axis=2)
            odd = [(0, n % 2) for n in levels.shape[:2]]  # the format wants even sizes
            file.write_frame(np.pad(levels, [*odd, (0, 0)], mode="edge"))

        yield write


def check_can_write(kind):
    """Refuse a kind of result for which a package is missing."""
    (_imageio if kind == "mp4" else _pillow)()
