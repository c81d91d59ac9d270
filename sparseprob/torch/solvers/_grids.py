"""Quantization: uniform grids for groups of inputs of each output."""

from typing import Any, NamedTuple

from .._tensors import compute_namespace


class Levels(NamedTuple):
    """The grid points (q - zero) * scale, q = 0, ..., 2^bits - 1, of each group."""

    scale: Any  # (d_out, n_groups, 1)
    zero: Any


class Grid(NamedTuple):
    """Affine grids of `bits` bits for groups of `group_size` consecutive inputs; 0 is on each."""

    bits: int
    group_size: int

    def n_groups(self, d_in):
        """Number of groups of an output; the last one may be smaller."""
        return -(-d_in // self.group_size)

    def n_bits(self, shape, value_bits):
        """Bits of scales and zero points."""
        return shape[0] * self.n_groups(shape[1]) * (value_bits + self.bits)

    def levels(self, Z):
        """Return the levels that span the values of Z and 0."""
        groups = self._groups(Z)
        xp = compute_namespace(Z)
        low = xp.minimum(groups.min(axis=2, keepdims=True), 0)
        width = xp.maximum(groups.max(axis=2, keepdims=True), 0) - low
        scale = width / (2**self.bits - 1)
        scale = xp.where(scale > 0, scale, Z.dtype.type(1))  # of zeros, or of denormal numbers
        return Levels(scale, xp.rint(-low / scale))

    def levels_of_inputs(self, levels, d_in):
        """Return scales and zero points, (d_out, d_in) each, and the highest code."""
        xp = compute_namespace(levels.scale)
        size = min(self.group_size, d_in)
        each = (xp.repeat(part[:, :, 0], size, axis=1)[:, :d_in] for part in levels)
        return (*each, 2**self.bits - 1)

    def project(self, Z, levels=None):
        """Return the nearest grid points to Z; levels default to those of Z itself."""
        scale, zero = self.levels(Z) if levels is None else levels
        xp = compute_namespace(Z)
        codes = xp.clip(xp.rint(self._groups(Z) / scale) + zero, 0, 2**self.bits - 1)
        return ((codes - zero) * scale).reshape(len(Z), -1)[:, : Z.shape[1]]

    def _groups(self, Z):
        """View Z as (d_out, n_groups, group_size), filled up with zeros: they are on every grid."""
        size = min(self.group_size, Z.shape[1])
        missing = -Z.shape[1] % size
        if missing:
            xp = compute_namespace(Z)
            Z = xp.concatenate([Z, xp.zeros((len(Z), missing), dtype=Z.dtype)], axis=1)
        return Z.reshape(len(Z), -1, size)
