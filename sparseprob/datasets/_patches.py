"""Patches of photographs."""

import numpy as np
from sklearn.utils import check_random_state

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601


def load_photographs():
    """Load the two photographs that ship with scikit-learn, in grey.

    Returns
    -------
    images : list of ndarray of shape (427, 640)
        Luminance between 0 and 1: a Chinese temple and a flower.

    Examples
    --------
    >>> from sparseprob.datasets import load_photographs
    >>> [image.shape for image in load_photographs()]
    [(427, 640), (427, 640)]
    """
    from sklearn.datasets import load_sample_images

    return [image @ np.array(_LUMINANCE) / 255 for image in load_sample_images().images]


def extract_patches(images, n_patches, *, size=16, random_state=None):
    """Cut square patches out of images at random places.

    Parameters
    ----------
    images : sequence of array of shape (height, width)
        Grey images; each gives the same number of patches, up to one.
    n_patches : int
        Number of patches in all.
    size : int, default=16
        Width and height of a patch.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    patches : ndarray of shape (n_patches, size**2)
        In random order.

    Raises
    ------
    ValueError
        If an image is smaller than a patch.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.datasets import extract_patches
    >>> extract_patches([np.zeros((20, 30))], 7, size=8, random_state=0).shape
    (7, 64)
    """
    rng = check_random_state(random_state)
    images = [np.asarray(image) for image in images]
    for image in images:
        if image.ndim != 2 or min(image.shape) < size:
            raise ValueError(
                f"Each image must have shape (height, width), both at least size={size}, "
                f"got {image.shape}."
            )
    source = rng.permutation(np.arange(n_patches) % len(images))
    patches = np.empty((n_patches, size, size), dtype=np.result_type(*images))
    for number, image in enumerate(images):
        wanted = np.flatnonzero(source == number)
        windows = np.lib.stride_tricks.sliding_window_view(image, (size, size))
        rows = rng.randint(windows.shape[0], size=len(wanted))
        columns = rng.randint(windows.shape[1], size=len(wanted))
        patches[wanted] = windows[rows, columns]
    return patches.reshape(n_patches, size**2)
