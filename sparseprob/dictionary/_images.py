"""Images cleaned and completed by a sparse coding model of their patches."""

import numpy as np
from sklearn.utils import check_random_state

from ..datasets import ImagePatches


def restore_image(image, estimator, *, size=8, step=1, n_fit=20_000, random_state=None):
    """Denoise or complete an image by the posterior means of its patches.

    The estimator learns from patches of the image itself; every patch is replaced by its posterior
    mean, and where patches overlap they are averaged.

    Parameters
    ----------
    image : array of shape (height, width) or (height, width, n_channels)
        NaN marks unknown pixels; they need an estimator with ``missing="nan"``.
    estimator : sparse coding estimator
        Fitted in place, unless it is fitted already.
    size : int, default=8
        Width and height of a patch.
    step : int, default=1
        Pixels from one patch to the next: 2 takes a quarter of the time.
    n_fit : int, default=20_000
        Number of patches to learn from, drawn at random.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw.

    Returns
    -------
    restored : ndarray of the shape of the image

    Raises
    ------
    ValueError
        If the image is smaller than a patch, or a hole is larger than one.

    See Also
    --------
    estimate_noise : Standard deviation of the noise of an image.

    References
    ----------
    .. [1] A.-S. Sheikh, J. A. Shelton, J. Lücke. "A Truncated EM Approach for Spike-and-Slab Sparse
       Coding". JMLR 15:2653-2687, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.dictionary import BinarySparseCoding, restore_image
    >>> image = np.random.default_rng(0).random((16, 16))
    >>> model = BinarySparseCoding(4, max_iter=5, tol=0, random_state=0)
    >>> restore_image(image, model, size=4).shape
    (16, 16)
    """
    patches = ImagePatches(image, size=size, step=step)
    if not hasattr(estimator, "components_"):
        n = min(n_fit, len(patches))
        chosen = check_random_state(random_state).permutation(len(patches))[:n]
        estimator.fit(patches[np.sort(chosen)])
    restored = patches.average(estimator.reconstruct(patches))
    if np.isnan(restored).any():
        raise ValueError(
            f"{int(np.isnan(restored).sum())} unknown pixels lie in no patch of size={size} with a "
            "known pixel; raise size."
        )
    return restored


def estimate_noise(image):
    """Estimate the standard deviation of white noise in an image.

    Median of the diagonal details of the finest Haar wavelet, in which smooth parts of the picture
    do not show.

    Parameters
    ----------
    image : array of shape (height, width) or (height, width, n_channels)
        NaN marks unknown pixels.

    Returns
    -------
    float
        In the units of the image.

    References
    ----------
    .. [1] D. L. Donoho, I. M. Johnstone. "Ideal spatial adaptation by wavelet shrinkage".
       Biometrika 81:425-455, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.dictionary import estimate_noise
    >>> noise = np.random.default_rng(0).normal(scale=2.0, size=(200, 200))
    >>> round(estimate_noise(noise + np.arange(200.0)), 1)
    2.0
    """
    a = np.asarray(image, dtype=np.float64)
    height, width = (length // 2 * 2 for length in a.shape[:2])
    a = a[:height, :width]
    detail = (a[::2, ::2] - a[1::2, ::2] - a[::2, 1::2] + a[1::2, 1::2]) / 2
    return float(np.nanmedian(np.abs(detail)) / 0.6744897501960817)
