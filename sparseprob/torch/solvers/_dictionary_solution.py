"""A layer stored as a dictionary and sparse codes."""

import math

from ._solution import LayerSolution


class SharedDictionary:
    """Atoms that one layer has, or several have in common.

    Parameters
    ----------
    atoms : array of shape (d_in, n_atoms)
    n_layers : int, default=1
        Number of layers, the members, that are built of these atoms.
    """

    def __init__(self, atoms, n_layers=1):
        self.atoms, self.n_layers = atoms, n_layers
        self._parameter, self._owners = None, set()

    def n_params(self, member):
        """Share of the numbers that a member counts; all shares add up to the dictionary."""
        n, layers = self.atoms.size, self.n_layers
        return n * (member + 1) // layers - n * member // layers

    def parameter(self, member, new):
        """Return one Parameter for all members; who asks again begins another round."""
        from torch import nn

        if self._parameter is None or member in self._owners:
            self._parameter, self._owners = nn.Parameter(new().clone()), set()
        self._owners.add(member)
        return self._parameter


class DictionarySolution(LayerSolution):
    """A weight whose rows are sparse combinations of atoms.

    Parameters
    ----------
    problem : LayerProblem
        The layer.
    dictionary : SharedDictionary
    indices : array of int of shape (d_out, n_nonzero)
        Atoms of each row, all different.
    values : array of shape (d_out, n_nonzero)
    member : int, default=0
        Number of the layer among those that share the dictionary.
    segment : int, default=None
        Number of consecutive atoms among which each position chooses; None stands for all.
    **options
        Those of `LayerSolution`.
    """

    def __init__(self, problem, dictionary, indices, values, *, member=0, segment=None, **options):
        super().__init__(problem, **options)
        self._dictionary, self._member, self._segment = dictionary, member, segment
        self.indices, self.values, self._xp = indices, values, problem.xp

    @property
    def dictionary(self):
        """Atoms, the columns of an array of shape (d_in, n_atoms)."""
        return self._dictionary.atoms

    @property
    def n_sharing(self):
        """Number of layers that have this dictionary in common."""
        return self._dictionary.n_layers

    def codes(self):
        """Return the codes with their zeros.

        Returns
        -------
        array of shape (d_out, n_atoms)
        """
        S = self._xp.zeros((len(self.values), self.dictionary.shape[1]), dtype=self.values.dtype)
        rows = self._xp.arange(len(S))[:, None]
        S[rows, self.indices] = self.values
        return S

    def _dense(self):
        return self.codes() @ self.dictionary.T

    def to_module(self, bias=None):
        """Return a `DictionaryLinear`; layers that share a dictionary share its parameter.

        Parameters
        ----------
        bias : tensor of shape (d_out,), default=None
            Bias of the layer.

        Returns
        -------
        DictionaryLinear
        """
        from ..layers import DictionaryLinear

        parameter = self._dictionary.parameter(self._member, lambda: self._tensor(self.dictionary))
        values, indices = self._tensor(self.values), self._tensor(self.indices)
        return DictionaryLinear.from_factors(parameter, values, indices, bias)

    @property
    def n_params(self):
        """Number of stored numbers; of a shared dictionary an equal share."""
        return self._dictionary.n_params(self._member) + self.values.size

    def n_bits(self, value_bits=16, index=None):
        """Return the size of the layer without its bias.

        Parameters
        ----------
        value_bits : int, default=16
            Bits of a stored number.
        index : {"bitmask", "coo"}, default=None
            Positions as a bit for every atom and output, or as a number for every non-zero; None
            takes the smaller.

        Returns
        -------
        int
            Bits, those of positions included.
        """
        n_atoms = self.dictionary.shape[1]
        sizes = {
            "bitmask": n_atoms * len(self.values),
            "coo": math.ceil(math.log2(self._segment or n_atoms)) * self.values.size,
        }
        if index is not None and index not in sizes:
            raise ValueError(f"index must be 'bitmask', 'coo' or None, got {index!r}.")
        positions = min(sizes.values()) if index is None else sizes[index]
        return self.n_params * value_bits + positions
