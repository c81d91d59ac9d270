"""Robust subspace tracking on the Grassmannian.

J. He, L. Balzano and A. Szlam, "Incremental gradient on the Grassmannian for online foreground and
background separation in subsampled video", CVPR, 2012.
"""

import numpy as np

from .._arrays import compute_namespace
from .._kernels import kernels
from ._orpca import MAX_STEPS, TOL, StochasticDictionary

_STEP = 0.75  # per component: the first angles, which shrink with the number of rows remembered
_PASSES = 30


class GrassmannTracker(StochasticDictionary):
    """An orthonormal basis U (k, p) that follows the gradients of absolute deviations."""

    def __init__(self, basis, lam, forgetting, n_trusted=0):
        xp = compute_namespace(basis)
        self.lam, self.forgetting = lam, forgetting
        self.D = xp.array(basis, order="C")
        self.A = xp.zeros((len(basis), len(basis)))
        self.state = np.array([0, n_trusted, 0, 0.0])

    def copied_to(self, xp):
        """Return a copy with arrays of NumPy or CuPy; the counts stay on the host."""
        copy = super().copied_to(xp)
        copy.state = self.state.copy()
        return copy

    def update(self, Z):
        """Take in rows; none is solved to a tolerance."""
        track = kernels("online_rpca", self.D).track_subspace
        tol, step = TOL[self.D.dtype.itemsize], _STEP * len(self.D)
        steps = step, tol, MAX_STEPS, _PASSES
        track(Z, self.D, self.A, self.state, self.lam, self.forgetting, *steps)
        return 0
