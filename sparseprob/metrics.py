"""Scores of reconstructions."""

import numpy as np

from ._arrays import to_numpy

__all__ = [
    "linear_cka",
    "nmse",
    "peak_signal_to_noise_ratio",
    "support_recovery_rate",
    "symbol_error_rate",
]

_AT_ONCE = 2**16  # symbols compared with the constellation


def nmse(estimate, truth):
    """Normalized squared error: the squared length of the difference over that of the truth.

    Parameters
    ----------
    estimate, truth : array of any shape, real or complex
        The same shape for both.

    Returns
    -------
    float
        0 for a perfect estimate, 1 for an estimate of zero.

    Raises
    ------
    ValueError
        If the shapes differ, or the truth is zero.

    Examples
    --------
    >>> from sparseprob.metrics import nmse
    >>> nmse([3.0, 0.0], [3.0, 4.0])
    0.64
    """
    a, b = _pair(estimate, truth)
    power = float((np.abs(b) ** 2).sum())
    if power == 0:
        raise ValueError("truth is zero everywhere; errors cannot be related to it.")
    return float((np.abs(a - b) ** 2).sum()) / power


def support_recovery_rate(estimate, truth, *, threshold=1e-3):
    """Share of the entries in either support that are in both (the Jaccard index).

    Parameters
    ----------
    estimate, truth : array of any shape, real or complex
        The same shape for both.
    threshold : float, default=1e-3
        Entries above this share of the array's largest modulus are its support.

    Returns
    -------
    float
        1 for equal supports, two empty ones included; 0 for disjoint ones.

    Raises
    ------
    ValueError
        If the shapes differ, or the threshold is not in [0, 1).

    Examples
    --------
    >>> from sparseprob.metrics import support_recovery_rate
    >>> support_recovery_rate([1.0, 0.5, 0.0, 1e-6], [1.0, 0.0, 0.0, 0.0])
    0.5
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be in [0, 1), got {threshold!r}.")
    moduli = [np.abs(A) for A in _pair(estimate, truth)]
    a, b = (m > threshold * m.max(initial=0.0) for m in moduli)
    either = int((a | b).sum())
    return float((a & b).sum()) / either if either else 1.0


def symbol_error_rate(received, sent, *, constellation=None):
    """Share of symbols that are decided wrongly when the nearest one is taken.

    Parameters
    ----------
    received : array of any shape
        Received values, real or complex.
    sent : array of the same shape
        The symbols that were sent.
    constellation : array of shape (n_symbols,), default=None
        All symbols there are; None means those in `sent`.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If the shapes differ, there is nothing to compare, or a symbol sent is not in the
        constellation.

    Examples
    --------
    >>> from sparseprob.metrics import symbol_error_rate
    >>> symbol_error_rate([0.9, -0.2, 0.1, -2.0], [1, 1, 1, -1])
    0.25
    """
    a, b = (A.ravel() for A in _pair(received, sent))
    if b.size == 0:
        raise ValueError("sent is empty; there is nothing to compare.")
    symbols = np.unique(b if constellation is None else np.asarray(to_numpy(constellation)))
    if not np.isin(b, symbols).all():
        raise ValueError("sent holds symbols that are not in the constellation; add them to it.")
    wrong = 0
    for start in range(0, b.size, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        nearest = np.abs(a[part, None] - symbols).argmin(axis=1)
        wrong += int((symbols[nearest] != b[part]).sum())
    return wrong / b.size


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


def linear_cka(X, Y):
    r"""Similarity of two representations of the same samples: linear centered kernel alignment.

    Parameters
    ----------
    X, Y : array of shapes (n_samples, p) and (n_samples, q)
        What two networks, or two layers, make of the samples; real or complex.

    Returns
    -------
    float
        :math:`\|Y_c^* X_c\|_F^2 / (\|X_c^* X_c\|_F \|Y_c^* Y_c\|_F)` of the centered arrays, from 0
        to 1. Rotations, scales and shifts of either do not change it.

    Raises
    ------
    ValueError
        If the numbers of samples differ, or all samples are represented alike.

    References
    ----------
    See [Kornblith2019]_.

    Examples
    --------
    >>> import numpy as np
    >>> from sparseprob.metrics import linear_cka
    >>> X = np.random.default_rng(0).normal(size=(50, 4))
    >>> round(linear_cka(X, 3 * X[:, ::-1] + 1), 12)
    1.0
    """
    A, B = (np.asarray(to_numpy(Z)) for Z in (X, Y))
    if A.ndim != 2 or B.ndim != 2 or len(A) != len(B):
        raise ValueError(
            f"X and Y must be matrices with as many rows, got shapes {A.shape} and {B.shape}."
        )
    A, B = (Z.astype(np.result_type(Z, np.float64), copy=False) for Z in (A, B))
    A, B = A - A.mean(axis=0), B - B.mean(axis=0)
    power = _cross_norm(A, A) * _cross_norm(B, B)
    if not power > 0:
        raise ValueError("All samples are represented alike; similarity is not defined.")
    return _cross_norm(A, B) ** 2 / power


def _cross_norm(A, B):
    """Return the norm of B^* A by the smaller of the two ways to compute it."""
    if A.shape[1] * B.shape[1] <= len(A) ** 2:
        return float(np.linalg.norm(B.conj().T @ A))
    inner = (A @ A.conj().T) * (B @ B.conj().T).T
    return float(np.sqrt(max(inner.sum().real, 0.0)))


def _pair(a, b):
    a, b = (np.asarray(to_numpy(A)) for A in (a, b))
    a, b = (A.astype(np.result_type(A, np.float64), copy=False) for A in (a, b))
    if a.shape != b.shape:
        raise ValueError(f"Both arrays must have the same shape, got {a.shape} and {b.shape}.")
    return a, b
