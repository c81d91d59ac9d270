"""Scores of reconstructions."""

import numpy as np

from ._arrays import to_numpy

__all__ = ["peak_signal_to_noise_ratio"]


def peak_signal_to_noise_ratio(image_true, image_test, *, data_range=1.0):
    """Peak signal-to-noise ratio in decibels: 10 log10(data_range^2 / mean squared error).

    Parameters
    ----------
    image_true, image_test : array of any shape
        The same shape for both.
    data_range : float, default=1.0
        Largest possible difference of two values: 1 for images between 0 and 1.

    Returns
    -------
    float
        Infinity for equal images.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.metrics import peak_signal_to_noise_ratio
    >>> round(peak_signal_to_noise_ratio(np.zeros((4, 4)), np.full((4, 4), 0.1)), 6)
    20.0
    """
    a, b = (np.asarray(to_numpy(A), dtype=np.float64) for A in (image_true, image_test))
    if a.shape != b.shape:
        raise ValueError(
            f"Both images must have the same shape, got {a.shape} and {b.shape}; crop one of them."
        )
    error = float(np.mean((a - b) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))
