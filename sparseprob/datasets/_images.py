"""All patches of an image, and the image that overlapping patches make."""

import numpy as np


class ImagePatches:
    """All overlapping square patches of an image, as rows read chunk by chunk.

    A row source: nothing of size patches x pixels is held in memory. The mean of each patch (of
    each channel) is removed; `average` puts it back. Patches without a single known pixel are left
    out.

    Parameters
    ----------
    image : array of shape (height, width) or (height, width, n_channels)
        NaN marks unknown pixels.
    size : int, default=8
        Width and height of a patch.
    step : int, default=1
        Pixels from one patch to the next; the last row and column of patches are always there.

    Attributes
    ----------
    shape : tuple of int
        Number of patches, and ``size**2 * n_channels``.
    dtype : numpy.dtype
        Type of the image.

    Raises
    ------
    ValueError
        If the image has another number of dimensions or is smaller than a patch.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.datasets import ImagePatches
    >>> image = np.arange(30.0).reshape(5, 6)
    >>> patches = ImagePatches(image, size=3)
    >>> patches.shape
    (12, 9)
    >>> bool((abs(patches.average(patches[:]) - image) < 1e-12).all())
    True
    """

    def __init__(self, image, *, size=8, step=1):
        image = np.asarray(image)
        if image.ndim not in (2, 3) or min(image.shape[:2]) < size:
            raise ValueError(
                "image must have shape (height, width) or (height, width, n_channels), with height "
                f"and width at least size={size}, got {image.shape}."
            )
        if image.dtype.kind != "f":
            image = image.astype(np.float64)
        self._pixels = image if image.ndim == 3 else image[:, :, None]
        self.image, self.size, self.step, self.ndim = image, size, step, 2
        corners = [_places(length - size, step) for length in image.shape[:2]]
        tops, lefts = (grid.ravel() for grid in np.meshgrid(*corners, indexing="ij"))
        known = ~np.isnan(self._windows()[tops, lefts]).all(axis=(2, 3)).any(axis=1)
        self._tops, self._lefts = tops[known], lefts[known]
        self.shape = (len(self._tops), size**2 * self._pixels.shape[2])
        self.dtype = image.dtype

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, key):
        patches = self._cut(key)
        return (patches - _means(patches)).reshape(len(patches), -1)

    def _windows(self):
        """Views of all windows, (rows, columns, n_channels, size, size)."""
        return np.lib.stride_tricks.sliding_window_view(
            self._pixels, (self.size, self.size), axis=(0, 1)
        )

    def _cut(self, key):
        """Patches (n, size**2, n_channels)."""
        windows = self._windows()[self._tops[key], self._lefts[key]]
        return np.moveaxis(windows, 1, -1).reshape(len(windows), self.size**2, -1)

    def average(self, patches):
        """Put patches in their places, with their means, and average where they overlap.

        Parameters
        ----------
        patches : array of shape (n_patches, size**2 * n_channels)
            One for each row, in the same order.

        Returns
        -------
        image : ndarray of the shape of the image
            NaN where no patch reaches.
        """
        height, width, n_channels = self._pixels.shape
        patches = np.asarray(patches).reshape(len(self), self.size**2, n_channels)
        total, count = np.zeros((height * width, n_channels)), np.zeros(height * width)
        for start in range(0, len(self), 2**14):  # a chunk of patches and its means
            part = slice(start, start + 2**14)
            whole = patches[part] + _means(self._cut(part))
            for pixel in range(self.size**2):
                i, j = divmod(pixel, self.size)
                place = (self._tops[part] + i) * width + self._lefts[part] + j
                count += np.bincount(place, minlength=height * width)
                for channel in range(n_channels):
                    weights = whole[:, pixel, channel]
                    total[:, channel] += np.bincount(place, weights, minlength=height * width)
        count[count == 0] = np.nan
        return (total / count[:, None]).reshape(self.image.shape).astype(self.dtype)


def _means(patches):
    """Means of the known pixels of each channel, (n, 1, n_channels)."""
    return np.nanmean(patches, axis=1, keepdims=True)


def _places(last, step):
    """0, step, 2 step, ... and the last place."""
    return np.unique(np.append(np.arange(0, last + 1, step), last))
