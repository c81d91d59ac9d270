"""Generated surveillance video with known moving objects.

A static texture under changing light, moving squares, and noise; the masks are returned.
"""

from numbers import Integral

import numpy as np
from scipy import ndimage
from sklearn.utils import Bunch, check_random_state

_FOLDS, _GRAIN = 8.0, 1.5  # widths of coarse and fine texture in pixels
_CHANNELS = (1.0, 0.85, 0.7)  # red, green and blue of the texture


def make_surveillance_video(
    n_frames=120,
    shape=(96, 128),
    *,
    n_objects=4,
    object_size=12,
    contrast=0.2,
    light=0.3,
    noise=0.03,
    color=False,
    random_state=None,
):
    """Generate the video of a fixed camera: a texture under changing light, and moving squares.

    The background is a static texture times a light that changes in strength and from side to side:
    as a matrix of frames and pixels it has rank 2. Squares, brighter or darker than what is behind
    them, cross the picture at constant speed and bounce off its edges.

    Parameters
    ----------
    n_frames : int, default=120
        Number of frames.
    shape : tuple of int, default=(96, 128)
        Height and width of a frame in pixels.
    n_objects : int, default=4
        Number of squares.
    object_size : int, default=12
        Largest width of a square in pixels; the smallest is two thirds of it.
    contrast : float, default=0.2
        Least difference of a square from the background, where black is 0 and white is 1; the
        largest is half as much again.
    light : float, default=0.3
        Amplitude of the change of light, as a share of the light; 0 for constant light.
    noise : float, default=0.03
        Standard deviation of the Gaussian noise on every pixel.
    color : bool, default=False
        Make frames with three channels.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    bunch : Bunch
        ``frames`` (n_frames, height, width), or with a last axis of 3, between 0 and 1; ``masks``
        (n_frames, height, width), where the squares are; ``background``, of the shape of the
        frames, without squares and noise.

    Raises
    ------
    ValueError
        If the frames are no larger than a square, or a number, size or scale is negative.

    Examples
    --------
    >>> from sparseprob.datasets import make_surveillance_video
    >>> video = make_surveillance_video(20, random_state=0)
    >>> video.frames.shape, video.masks.shape
    ((20, 96, 128), (20, 96, 128))
    """
    _check_counts(n_frames=(n_frames, 1), object_size=(object_size, 1), n_objects=(n_objects, 0))
    _check_scales(contrast=contrast, light=light, noise=noise)
    if len(shape) != 2 or min(shape) <= object_size:
        raise ValueError(
            f"shape must be a height and a width above object_size={object_size}, got {shape!r}."
        )
    rng = check_random_state(random_state)
    background = _texture(rng, shape) * _light(rng, n_frames, shape[1], light)
    frames, masks = background.copy(), np.zeros(background.shape, dtype=bool)
    for _ in range(n_objects):
        size = rng.randint(-(-2 * object_size // 3), object_size + 1)
        brightness = rng.choice([-1.0, 1.0]) * contrast * rng.uniform(1, 1.5)
        paths = [_bouncing_path(rng, n_frames, length - size) for length in shape]
        for frame, mask, truth, top, left in zip(frames, masks, background, *paths, strict=True):
            part = np.s_[top : top + size, left : left + size]
            frame[part], mask[part] = truth[part] + brightness, True
    if color:
        frames, background = (A[..., None] * _CHANNELS for A in (frames, background))
    frames = np.clip(frames + rng.normal(scale=noise, size=frames.shape), 0, 1)
    return Bunch(frames=frames, masks=masks, background=background)


def _check_counts(**counts):
    for name, (value, least) in counts.items():
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}, got {value!r}.")


def _check_scales(**scales):
    for name, value in scales.items():
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value!r}.")


def _texture(rng, shape):
    """Coarse folds and fine grain, between 0.3 and 0.6."""
    texture = np.zeros(shape)
    for width, weight in ((_FOLDS, 1.0), (_GRAIN, 0.5)):
        layer = ndimage.gaussian_filter(rng.normal(size=shape), width, mode="wrap")
        texture += weight * layer / layer.std()
    return 0.45 + 0.15 * np.tanh(texture)


def _light(rng, n_frames, width, amplitude):
    """Strength of the light, and its slope from side to side, on each column of each frame."""
    time = 2 * np.pi * np.arange(n_frames) / n_frames
    phases, speeds = rng.uniform(0, 2 * np.pi, size=2), rng.uniform(0.5, 2, size=2)
    strength, slope = np.sin(np.outer(speeds, time) + phases[:, None])
    across = np.linspace(-1, 1, width)
    return 1 + amplitude * (strength[:, None] + slope[:, None] * across)[:, None, :] / 2


def _bouncing_path(rng, n_frames, length):
    """Places between 0 and length, both included, of something that bounces off both ends."""
    speed = rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 2.5)
    place = rng.uniform(0, 2 * length) + speed * np.arange(n_frames)
    return np.round(length - np.abs(length - place % (2 * length))).astype(int)
