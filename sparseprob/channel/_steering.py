"""Uniform linear arrays: steering vectors and grids of angles."""

import numpy as np

from .._arrays import compute_namespace, like, to_compute


def check_count(name, value, least=1):
    """Return `value` if it is a whole number of at least `least`, or refuse it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an int, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}.")
    return int(value)


def angle_grid(resolution):
    r"""Equidistant spatial angles, :math:`\psi_i = -1 + 2i/R`.

    A spatial angle is the sine of the angle to the array's normal. Steering vectors repeat with
    period 2, so differences of angles of the grid are, up to that period, angles of the grid
    shifted by one.

    Parameters
    ----------
    resolution : int
        Number R of angles.

    Returns
    -------
    ndarray of shape (resolution,)
        Angles in [-1, 1).

    Raises
    ------
    ValueError
        If `resolution` is less than 1.

    Examples
    --------
    >>> from sparseprob.channel import angle_grid
    >>> angle_grid(4)
    array([-1. , -0.5,  0. ,  0.5])
    """
    R = check_count("resolution", resolution)
    return -1 + 2 * np.arange(R) / R


def steering_vectors(n_antennas, angles):
    r"""Return the responses of a uniform linear array with half a wavelength between its antennas.

    :math:`a(\psi) = d^{-1/2} (1, e^{j\pi\psi}, \dots, e^{j\pi\psi(d-1)})` for d antennas.

    Parameters
    ----------
    n_antennas : int
        Number d of antennas.
    angles : array of shape (n_angles,)
        Spatial angles, usually in [-1, 1); see :func:`angle_grid`.

    Returns
    -------
    array of shape (n_antennas, n_angles)
        Complex columns of unit length, in the library of `angles`; single precision stays.

    Raises
    ------
    ValueError
        If `angles` is not one-dimensional and finite, or `n_antennas` is less than 1.

    Examples
    --------
    >>> from sparseprob.channel import steering_vectors
    >>> steering_vectors(2, [0.0, 1.0]).real.round(2)
    array([[ 0.71,  0.71],
           [ 0.71, -0.71]])
    """
    d = check_count("n_antennas", n_antennas)
    psi = to_compute(angles)
    xp = compute_namespace(psi)
    if psi.ndim != 1:
        raise ValueError(f"angles must be one-dimensional, got shape {psi.shape}.")
    single = psi.dtype == np.float32
    psi = psi.astype(np.float64)
    if not bool(xp.isfinite(psi).all()):
        raise ValueError("angles must be finite, got NaN or infinity.")
    A = xp.exp(1j * np.pi * xp.arange(d)[:, None] * psi) / np.sqrt(d)
    return like(A.astype(np.complex64) if single else A, angles)
