"""Quadrature phase-shift keying through an estimated channel."""

import numpy as np
from sklearn.utils import check_random_state

from .._arrays import like, to_numpy


def qpsk_symbols(size, *, random_state=None):
    r"""Draw symbols :math:`(\pm 1 \pm j)/\sqrt 2` with equal probability.

    Parameters
    ----------
    size : int or tuple of int
        Shape of the array.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    ndarray of shape `size`
        Complex numbers of modulus 1.

    Examples
    --------
    >>> from sparseprob.channel import qpsk_symbols
    >>> abs(qpsk_symbols(3, random_state=0)).round(12)
    array([1., 1., 1.])
    """
    rng = check_random_state(random_state)
    signs = rng.choice([-1.0, 1.0], size=(2, *np.atleast_1d(size)))
    return (signs[0] + 1j * signs[1]) / np.sqrt(2)


def transmit(symbols, channel, estimate, noise_var, *, random_state=None):
    r"""Send symbols along the strongest direction of an estimated channel.

    The sender shapes with the leading right singular vector v of the estimate, the receiver
    combines with the left one u and divides by the gain it expects:
    :math:`u^{\mathsf H}(H v s + n) / u^{\mathsf H} \hat H v`. What the estimate gets wrong costs
    power and turns phases.

    Parameters
    ----------
    symbols : array of shape (n_symbols,)
        Symbols to send, of :func:`qpsk_symbols` for example.
    channel, estimate : array of shape (..., n_receive, n_send)
        True and estimated channels, one pair or several, each of which carries all symbols.
    noise_var : float
        Variance of the complex noise at each receiving antenna.
    random_state : int, RandomState instance or None, default=None
        Seed of the noise.

    Returns
    -------
    array of shape (..., n_symbols)
        What is received, in the library of `symbols`; decide with
        :func:`~sparseprob.metrics.symbol_error_rate`. Not divided where an estimate is zero.

    Raises
    ------
    ValueError
        If the shapes of the channels differ or `noise_var` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.channel import qpsk_symbols, transmit
    >>> from sparseprob.metrics import symbol_error_rate
    >>> sent, H = qpsk_symbols(1000, random_state=0), np.eye(4, 2)
    >>> received = transmit(sent, H, H, noise_var=0.2, random_state=0)
    >>> round(symbol_error_rate(received, sent), 2)
    0.03
    """
    s, H, H_hat = (np.asarray(to_numpy(A)) for A in (symbols, channel, estimate))
    if H.shape != H_hat.shape:
        raise ValueError(
            f"channel and estimate must have the same shape, got {H.shape} and {H_hat.shape}."
        )
    if not noise_var >= 0:
        raise ValueError(f"noise_var must be non-negative, got {noise_var!r}.")
    rng = check_random_state(random_state)
    U, strengths, Vh = np.linalg.svd(H_hat, full_matrices=False)
    u, v, expected = U[..., 0].conj(), Vh[..., 0, :, None].conj(), strengths[..., :1]
    gain = (u * (H @ v)[..., 0]).sum(axis=-1, keepdims=True)
    noise = complex_normal(rng, (*H.shape[:-2], len(s)))  # u has length 1: it keeps the variance
    received = gain * s + np.sqrt(noise_var) * noise
    return like(received / np.where(expected > 0, expected, 1), symbols)


def complex_normal(rng, size):
    """Draw circular Gaussian numbers of variance 1."""
    parts = rng.normal(scale=np.sqrt(0.5), size=(2, *np.atleast_1d(size)))
    return parts[0] + 1j * parts[1]
