"""Layers as sparse combinations of learned atoms, guided by calibration (CoSpaDi)."""

import math
from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from ... import mpi
from ..._arrays import compute_namespace, like
from ...dictionary._ksvd_loop import ksvd
from .._tensors import to_array
from ._base import LayerSolver
from ._dictionary_solution import DictionarySolution, SharedDictionary
from ._problem import LayerProblem, check_weight
from ._whitening import atoms_of_weight, whitened

_MASK = 1 / 16  # a bit of the mask of non-zeros against a stored number


class CoSpaDi(LayerSolver):
    r"""Write every row of the weight as a combination of a few atoms of its own.

    Minimizes :math:`\mathrm{tr}((W - V) C (W - V)^T)` over :math:`V = S D^T` with `n_atoms` atoms,
    the columns of D, and rows of S of `n_nonzero` numbers: a union of subspaces, where low rank has
    but one. With :math:`C = R^T R` this is K-SVD on the rows of :math:`W R^T`.

    Parameters
    ----------
    compression : float, default=0.2
        Share of the storage that is saved, at 16 bits a number and a bit for each entry of S:
        :math:`1 - (d_1 k + d_2 s + d_2 k / 16) / (d_1 d_2)` for k atoms, s non-zeros, :math:`d_1`
        inputs and :math:`d_2` outputs. Not used when `n_atoms` and `n_nonzero` are both given.
    n_atoms : int, default=None
        Number of atoms; None finds the largest that saves `compression`.
    n_nonzero : int, default=None
        Atoms of a row; None stands for `n_atoms` over `rho`.
    rho : float, default=2.0
        Atoms per non-zero, at least 1.
    init : {"svd", "random"}, default="svd"
        First atoms: the leading singular vectors of :math:`W R^T`, which a layer of quickly
        decaying singular values needs, or random rows of it, which are better where rows lie in
        many small subspaces.
    max_iter : int, default=60
        Number of iterations of K-SVD.
    n_power_iterations : int, default=8
        Power iterations of the update of an atom.
    whiten : bool, default=True
        Whether errors of the outputs are minimized, or those of the weight (C of one), which needs
        no calibration.
    damp : float, default=1e-6
        Multiple of the mean of the diagonal of C that is added to its diagonal.
    random_state : int, RandomState instance or None, default=None
        For the first atoms.

    References
    ----------
    See [Makhov2025]_.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.calibration import LayerStats
    >>> from sparseprob.torch.solvers import CoSpaDi
    >>> _ = torch.manual_seed(0)
    >>> weight, stats = torch.randn(40, 30), LayerStats.of(torch.randn(500, 30))
    >>> solution = CoSpaDi(compression=0.3, max_iter=10, random_state=0).solve(weight, stats)
    >>> solution.to_module()
    DictionaryLinear(in_features=30, out_features=40, bias=False, n_atoms=16, n_nonzero=8)
    >>> solution.n_bits(index="bitmask") / (16 * weight.numel()) <= 0.7
    True
    """

    _parameter_constraints = {
        "compression": [Interval(Real, 0, 1, closed="left")],
        "n_atoms": [Interval(Integral, 1, None, closed="left"), None],
        "n_nonzero": [Interval(Integral, 1, None, closed="left"), None],
        "rho": [Interval(Real, 1, None, closed="left")],
        "init": [StrOptions({"svd", "random"})],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_power_iterations": [Interval(Integral, 1, None, closed="left")],
        "whiten": ["boolean"],
        "damp": [Interval(Real, 0, 0.1, closed="both")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        compression=0.2,
        *,
        n_atoms=None,
        n_nonzero=None,
        rho=2.0,
        init="svd",
        max_iter=60,
        n_power_iterations=8,
        whiten=True,
        damp=1e-6,
        random_state=None,
    ):
        self.compression = compression
        self.n_atoms = n_atoms
        self.n_nonzero = n_nonzero
        self.rho = rho
        self.init = init
        self.max_iter = max_iter
        self.n_power_iterations = n_power_iterations
        self.whiten = whiten
        self.damp = damp
        self.random_state = random_state

    @property
    def needs_calibration(self):
        """Whether `solve` needs statistics of the inputs."""
        return bool(self.whiten)

    def solve_group(self, weights, stats=None):
        """Compress layers of equally many inputs with one dictionary for all.

        Parameters
        ----------
        weights : sequence of tensors or arrays of shape (d_out, d_in)
            Of one type and on one device; numbers of outputs may differ.
        stats : sequence of LayerStats, default=None
            Statistics of each layer, with their numbers of tokens; they are merged.

        Returns
        -------
        list of DictionarySolution
            One for each layer. Sizes count an equal share of the dictionary each, and their modules
            hold the same parameter.

        Raises
        ------
        ValueError
            If layers, parameters and statistics do not fit together, or statistics are missing.
        """
        weights, joint = list(weights), None
        _check_group(weights)
        if stats is not None:
            stats = list(stats)
            if len(stats) != len(weights):
                raise ValueError(
                    f"Got {len(weights)} weights but {len(stats)} statistics; pass one for each."
                )
            joint = stats[0]
            for other in stats[1:]:
                joint = joint.merge(other)
        arrays = [to_array(weight) for weight in weights]
        together = like(compute_namespace(arrays[0]).concatenate(arrays), weights[0])
        self._check_ready(together, joint)
        problems = [LayerProblem(weight) for weight in weights]
        solutions = self._factorize(LayerProblem(together, joint), problems)
        for solution in solutions:
            solution.method = type(self).__name__
        return solutions

    def _sizes(self, d_out, d_in):
        """Return the numbers of atoms and of non-zeros for a layer of this shape."""
        k, s = self.n_atoms, self.n_nonzero
        budget = (1 - self.compression) * d_out * d_in
        if k is None and s is not None:
            k = math.floor((budget - s * d_out) / (d_in + d_out * _MASK))
        elif k is None:
            k = math.floor(budget / (d_in + d_out / self.rho + d_out * _MASK))
        return k, max(1, math.floor(k / self.rho)) if s is None else s

    def _check_shape(self, d_out, d_in):
        n_atoms, n_nonzero = self._sizes(d_out, d_in)
        shape = f"a weight of shape ({d_out}, {d_in})"
        if n_atoms < 1:
            raise ValueError(
                f"compression={self.compression} leaves no room for an atom in {shape}; lower it "
                "or leave this layer as it is."
            )
        if n_nonzero > min(n_atoms, d_in):
            raise ValueError(
                f"n_nonzero must be at most {min(n_atoms, d_in)} for {n_atoms} atoms and {shape}, "
                f"got {n_nonzero}."
            )

    def _solve(self, problem):
        return self._factorize(problem, [problem])[0]

    def _factorize(self, joint, problems):
        """Solve the joint problem, and return a solution for each of its parts."""
        R, used, A = None, None, joint.W
        if self.whiten:
            A, R, used = whitened(joint, self.damp)
            A = joint.xp.ascontiguousarray(A, dtype=joint.W.dtype)
        components, indices, values, history = self._learn(A)
        atoms, lengths = atoms_of_weight(joint, R, components)
        values = values * lengths[indices]
        dictionary = SharedDictionary(atoms, len(problems))
        edges = np.cumsum([0] + [len(problem.W) for problem in problems])
        options = {"history": history, "damp": used}
        return [
            DictionarySolution(
                problem,
                dictionary,
                indices[edges[i] : edges[i + 1]],
                values[edges[i] : edges[i + 1]],
                member=i,
                **options,
            )
            for i, problem in enumerate(problems)
        ]

    def _learn(self, A):
        """Return atoms of unit length, codes of the rows of A, and relative squared errors."""
        xp, (n_atoms, n_nonzero) = compute_namespace(A), self._sizes(*A.shape)
        squares = float((A.astype(np.float64, copy=False) ** 2).sum())
        if squares == 0:
            indices = xp.zeros((len(A), 1), np.int32) + xp.arange(n_nonzero, dtype=np.int32)
            values = xp.zeros(indices.shape, dtype=A.dtype)
            return xp.eye(n_atoms, A.shape[1], dtype=A.dtype), indices, values, []
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31 - 1))
        with mpi.each_rank_alone():  # ranks that share out layers have different ones
            found = ksvd(
                A,
                n_atoms,
                n_nonzero,
                max_iter=self.max_iter,
                n_power_iterations=self.n_power_iterations,
                init=self.init,
                rng=rng,
            )
        history = [float(error) / squares for error in found.history]
        return found.components, found.indices, found.values, history

    def _check_ready(self, weight, stats):
        check_weight(weight)
        self.check(tuple(weight.shape))
        if stats is None and self.needs_calibration:
            raise ValueError(
                "CoSpaDi needs statistics of the inputs of the layers; collect them with "
                "collect_grams, or set whiten=False."
            )


def _check_group(weights):
    if not weights:
        raise ValueError("A group needs at least one layer, got none.")
    for weight in weights:
        check_weight(weight)
    if len({weight.shape[1] for weight in weights}) > 1:
        raise ValueError(
            "Layers that share a dictionary must have equally many inputs, got "
            f"{[weight.shape[1] for weight in weights]}."
        )
    if len({(str(weight.dtype), str(weight.device)) for weight in weights}) > 1:
        raise ValueError("Layers that share a dictionary must be of one type and on one device.")
