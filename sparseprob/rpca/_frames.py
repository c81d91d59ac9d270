"""Frames of a video as rows of numbers, read block by block, and masks of frames."""

import numpy as np

from .._arrays import (
    _is_memory_map,
    compute_namespace,
    is_array,
    is_row_source,
    to_compute,
)

_BLOCK_VALUES = 2**22
_CHANNELS = (3, 4)


class FrameRows:
    """A row source: a row for each frame of a video, in single precision.

    Parameters
    ----------
    frames : array, source or sequence of arrays
        (n_frames, height, width[, n_channels]), or one frame.
    frame_shape : tuple of int, default=None
        Shape of a frame, if it is known.

    Attributes
    ----------
    frames : array or source
        As given, or stacked.
    frame_shape : tuple of int
    is_single : bool
        Whether one frame was given.
    batch_size : int
        Frames in a block.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, frames, frame_shape=None):
        if not is_array(frames) and not is_row_source(frames):
            frames = _stacked(frames)
        shape = tuple(int(n) for n in frames.shape)
        if frame_shape is None:
            frame_shape = _frame_shape(shape)
        self.is_single = shape == frame_shape
        if not self.is_single and shape[1:] != frame_shape:
            raise ValueError(
                f"frames must have the shape of those of fit, {frame_shape}, got "
                f"{shape[-len(frame_shape) :]}; resize them."
            )
        self.frames, self.frame_shape = frames, frame_shape
        values = to_compute(frames) if is_array(frames) else frames
        self._values = values[None] if self.is_single else values
        self.shape = (int(self._values.shape[0]), int(np.prod(frame_shape)))
        self.batch_size = max(1, _BLOCK_VALUES // self.shape[1])
        probe = to_compute(self._values[:0])
        if probe.dtype.kind not in "fiub":
            raise ValueError(f"frames must be real numbers, got dtype {probe.dtype}; convert them.")
        self._is_whole = probe.dtype.kind != "f"

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        key = slice(*key.indices(len(self))) if isinstance(key, slice) else key
        block = to_compute(self._values[key])
        xp = compute_namespace(block)
        rows = xp.ascontiguousarray(block, dtype=self.dtype).reshape(len(block), -1)
        if not self._is_whole and not bool(xp.isfinite(rows).all()):
            bad = int(xp.argmin(xp.isfinite(rows).all(axis=1)))
            raise ValueError(
                f"Frame {range(len(self))[key][bad]} has NaN or infinity; leave it out."
            )
        return rows

    def all_rows(self):
        """Return the rows as an array, or this source if the frames are on disk."""
        on_disk = is_row_source(self._values) or _is_memory_map(self._values)
        return self if on_disk else self[:]


def _stacked(frames):
    """Return an array of a sequence of frames of one shape."""
    arrays = [np.asarray(frame) for frame in frames]
    for number, array in enumerate(arrays):
        if array.shape != arrays[0].shape:
            raise ValueError(
                f"Frame {number} has shape {array.shape}, the first one {arrays[0].shape}; all "
                "frames must have the same size."
            )
    return np.asarray(arrays)


def _frame_shape(shape):
    """Shape of a frame, from that of one or several frames."""
    is_color = len(shape) == 3 and shape[-1] in _CHANNELS
    if len(shape) == 2 or is_color:
        found = shape
    elif len(shape) == 3 or (len(shape) == 4 and shape[-1] in (1, *_CHANNELS)):
        found = shape[1:]
    else:
        found = ()
    if not found or 0 in found:
        raise ValueError(
            "frames must have shape (n_frames, height, width) or (n_frames, height, width, 3), "
            f"got {shape}."
        )
    return found


def majority(masks, width):
    """Masks after a vote in squares of pixels: a median filter, as fast as a mean."""
    if width == 1:
        return masks
    if compute_namespace(masks) is np:
        from scipy import ndimage
    else:
        from cupyx.scipy import ndimage
    return ndimage.uniform_filter(masks.astype(np.float32), size=(1, width, width)) > 0.5
