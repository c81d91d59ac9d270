"""What sparse coding does alike on every device."""

import numpy as np

_EXACT = 64  # atoms for each of which a row is asked anew; in proportion when there are more
_MOST = 16


def atoms_together(n_nonzero):
    """Return how many atoms enter a code at once: one up to 127 of them, at most sixteen."""
    return max(1, min(_MOST, n_nonzero // _EXACT))


def tolerances(dtype):
    """Return what correlations may be neglected, and squared distances that mean dependence.

    Parameters
    ----------
    dtype : numpy.dtype
        float32 or float64.

    Returns
    -------
    negligible : float
        Of the length of a row.
    dependent : float
        Of the squared length of an atom.
    """
    eps = float(np.finfo(dtype).eps)
    return max(1e-12, 32 * eps), (1e-12 if eps < 1e-10 else 1e-5)
