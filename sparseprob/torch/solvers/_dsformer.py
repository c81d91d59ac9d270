"""Layers as a dense times a semi-structured sparse matrix (DSFormer)."""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from ._alternation import Pattern, alternate, first_factors
from ._base import LayerSolver
from ._dictionary_solution import DictionarySolution, SharedDictionary
from ._whitening import atoms_of_weight, whitened

_BITS = 16  # of a number, against those of a position


class DSFormer(LayerSolver):
    r"""Write the weight as a dense small matrix times a sparse one of regular pattern.

    Minimizes :math:`\|W^T - D S\|_F^2` over D of `n_atoms` columns and S whose columns have
    `n_nonzero` numbers, spread evenly: the atoms are cut in segments, of which each output uses
    `n_per_segment`. Positions then take few bits, and hardware can read them in order. Codes, by
    coordinate descent over segments, and atoms, by least squares, are found in turn.

    `sparseprob.torch.apply_stf` trains networks in this form.

    Parameters
    ----------
    compression : float, default=0.2
        Share of the storage that is saved, at 16 bits a number. Not used when `n_atoms` is given.
    n_atoms : int, default=None
        Number of atoms; None finds the largest that saves `compression`.
    n_nonzero : int, default=None
        Atoms of an output; None stands for `n_atoms` over `rho`.
    rho : float, default=2.0
        Atoms per non-zero. Larger ones suit layers of many outputs and few inputs.
    pattern : {"segment", "topk"}, default="segment"
        "topk" leaves the places of non-zeros free, and finds them by matching pursuit.
    n_per_segment : int, default=1
        Atoms of a segment that an output uses; segments have `rho` times as many.
    max_iter : int, default=20
        Number of alternations.
    whiten : bool, default=False
        Whether errors of the outputs are minimized instead of those of the weight; this needs
        calibration.
    damp : float, default=1e-6
        Multiple of the mean of the diagonal of the Gram matrix that is added to its diagonal.

    References
    ----------
    See [Chand2023]_.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.solvers import DSFormer
    >>> _ = torch.manual_seed(0)
    >>> solution = DSFormer(compression=0.5, rho=4).solve(torch.randn(60, 30))
    >>> solution.to_module()
    DictionaryLinear(in_features=30, out_features=60, bias=False, n_atoms=16, n_nonzero=4)
    >>> solution.indices[0] // 4  # one atom of each segment of four
    array([0, 1, 2, 3], dtype=int32)
    """

    _parameter_constraints = {
        "compression": [Interval(Real, 0, 1, closed="left")],
        "n_atoms": [Interval(Integral, 1, None, closed="left"), None],
        "n_nonzero": [Interval(Integral, 1, None, closed="left"), None],
        "rho": [Interval(Real, 1, None, closed="left")],
        "pattern": [StrOptions({"segment", "topk"})],
        "n_per_segment": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "whiten": ["boolean"],
        "damp": [Interval(Real, 0, 0.1, closed="both")],
    }

    def __init__(
        self,
        compression=0.2,
        *,
        n_atoms=None,
        n_nonzero=None,
        rho=2.0,
        pattern="segment",
        n_per_segment=1,
        max_iter=20,
        whiten=False,
        damp=1e-6,
    ):
        self.compression = compression
        self.n_atoms = n_atoms
        self.n_nonzero = n_nonzero
        self.rho = rho
        self.pattern = pattern
        self.n_per_segment = n_per_segment
        self.max_iter = max_iter
        self.whiten = whiten
        self.damp = damp

    @property
    def needs_calibration(self):
        """Whether `solve` needs statistics of the inputs."""
        return bool(self.whiten)

    def _pattern(self, d_out, d_in):
        """Return the places of non-zeros for a layer of this shape."""
        k, s = self.n_atoms, self.n_nonzero
        if k is None:
            k = self._n_atoms(d_out, d_in, s)
        if s is None:
            s = max(1, math.floor(k / self.rho))
        per = self.n_per_segment if self.pattern == "segment" else 1
        return Pattern(k, s, self.pattern, per)

    def _n_atoms(self, d_out, d_in, n_nonzero):
        """Return the largest number of atoms that saves enough."""
        budget = (1 - self.compression) * d_out * d_in
        if self.pattern == "topk":
            codes = n_nonzero if n_nonzero is not None else 0
            rate = d_out / _BITS + (d_out / self.rho if n_nonzero is None else 0)
            return max(0, math.floor((budget - codes * d_out) / (d_in + rate)))
        per = self.n_per_segment
        if n_nonzero is not None:  # the longest segments that there is room for
            n_segments, segment = max(1, n_nonzero // per), per
            while _stored(n_segments, segment + 1, per, d_out, d_in) <= budget:
                segment += 1
            fits = _stored(n_segments, segment, per, d_out, d_in) <= budget
            return n_segments * segment if fits else 0
        segment = round(self.rho * per)
        return segment * math.floor(budget / _stored(1, segment, per, d_out, d_in))

    def _check_shape(self, d_out, d_in):
        if self.pattern == "segment" and (self.rho * self.n_per_segment) % 1:
            raise ValueError(
                f"rho={self.rho} times n_per_segment={self.n_per_segment} is the length of a "
                "segment, which must be a whole number."
            )
        pattern = self._pattern(d_out, d_in)
        if pattern.n_atoms < 1:
            raise ValueError(
                f"compression={self.compression} leaves no room for a segment of atoms in a weight "
                f"of shape ({d_out}, {d_in}); lower it or leave this layer as it is."
            )
        pattern.check()

    def _solve(self, problem):
        A, R, used = problem.W, None, None
        if self.whiten:
            A, R, used = whitened(problem, self.damp)
        A = problem.xp.ascontiguousarray(A, dtype=problem.W.dtype)
        pattern = self._pattern(*problem.shape)
        D, indices, values = first_factors(A, pattern)
        squares, history = float((A.astype(np.float64, copy=False) ** 2).sum()) or 1.0, []
        for _ in range(self.max_iter):
            D, residual = alternate(A, D, indices, values, pattern)
            error = float((residual.astype(np.float64, copy=False) ** 2).sum())
            history.append(error / squares)
        atoms, lengths = atoms_of_weight(problem, R, D)
        return DictionarySolution(
            problem,
            SharedDictionary(atoms),
            indices,
            values * lengths[indices],
            segment=pattern.segment,
            history=history,
            damp=used,
        )


def _stored(n_segments, segment, n_per_segment, d_out, d_in):
    """Return the storage of the factors in numbers of 16 bits."""
    positions = math.ceil(math.log2(segment)) / _BITS
    return n_segments * (segment * d_in + n_per_segment * d_out * (1 + positions))
