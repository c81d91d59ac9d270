"""Online robust PCA by stochastic optimization.

J. Feng, H. Xu and S. Yan, "Online robust PCA via stochastic optimization", NeurIPS, 2013.
"""

import math

import numpy as np

from .._arrays import compute_namespace, to_cupy, to_numpy
from .._kernels import kernels
from ._online_start import principal_rows

TOL = {4: 1e-3, 8: 1e-6}  # of robust codes, relative to lam sqrt(n_features); by bytes of a number
MAX_STEPS = 200


class StochasticDictionary:
    """The basis D (k, p) of OR-PCA, and the sums that lead to the next one.

    The start counts as energy lam in each direction, so that it is kept where the first rows say
    nothing; a start to be trusted counts as `n_trusted` rows of entries about 2 lam.
    """

    n_seen, n_iter = 0, 0  # rows; passes of a fit

    def __init__(self, basis, lam, forgetting, n_trusted=0):
        xp, (k, p) = compute_namespace(basis), basis.shape
        self.lam, self.forgetting = lam, forgetting
        self.D = xp.ascontiguousarray(basis * math.sqrt(lam * math.sqrt(p)))
        energy = lam * (1 + n_trusted * 4 * math.sqrt(p) / k)
        self.A = energy * xp.eye(k)
        self.B = (energy + lam) * self.D.astype(np.float64)

    def copied_to(self, xp):
        """Return a copy with arrays of NumPy or CuPy."""
        copy = object.__new__(type(self))
        for name, value in vars(self).items():
            if hasattr(value, "dtype"):
                value = (to_numpy if xp is np else to_cupy)(value).copy()
            setattr(copy, name, value)
        return copy

    @property
    def components(self):
        """Orthonormal rows of the span of the basis."""
        return principal_rows(self.D, self.A)[0]

    def update(self, Z):
        """Take in rows; return how many were not solved to tolerance."""
        tol = TOL[self.D.dtype.itemsize]
        learn = kernels("online_rpca", self.D).learn_dictionary
        return learn(Z, self.D, self.A, self.B, self.lam, self.forgetting, tol, MAX_STEPS)
