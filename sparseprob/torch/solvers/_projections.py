"""Which entries of a weight may be kept together, and the projections onto such weights."""

from numbers import Integral
from typing import NamedTuple

from ...recovery._hard_threshold import largest
from .._tensors import compute_namespace

GRANULARITIES = ("row", "matrix", "nm", "block")


class Pattern(NamedTuple):
    """Weights of one shape of which, in each run of `run` cells, `n_kept` may differ from zero.

    A cell is `cell` consecutive inputs of one output; runs follow each other in the order of rows.
    """

    shape: tuple
    run: int
    n_kept: int
    cell: int = 1
    is_nm: bool = False

    @property
    def keeps_all(self):
        """Whether nothing has to go."""
        return self.n_kept == self.run

    @property
    def rows_are_independent(self):
        """Whether no row's entries compete with those of another."""
        return self.run <= self.shape[1] // self.cell

    @property
    def is_2_of_4(self):
        """Whether GPUs have instructions for it."""
        return self.is_nm and (self.n_kept, self.run) == (2, 4)

    @property
    def n_mask_bits(self):
        """Bits that say which entries are kept."""
        cells = self.shape[0] * self.shape[1] // self.cell
        if self.keeps_all:
            return 0
        by_place = cells // self.run * self.n_kept * (self.run - 1).bit_length()
        return min(cells, by_place)

    def part(self, fraction):
        """Return the pattern on the way from keeping all (0) to this one (1)."""
        return self._replace(n_kept=self.run - round(fraction * (self.run - self.n_kept)))

    def mask(self, moduli):
        """Return where the entries to keep are: those of largest modulus, or cells of entries."""
        xp = compute_namespace(moduli)
        if self.cell > 1:
            cells = moduli.reshape(-1, self.cell)
            moduli = xp.sqrt((cells * cells).sum(axis=1))
        kept = largest(moduli.reshape(-1, self.run), self.n_kept)
        if self.cell > 1:
            kept = xp.repeat(kept.ravel(), self.cell)
        return kept.reshape(self.shape)


def pattern(shape, *, sparsity, granularity, nm, block_size=1):
    """Return the pattern that parameters of a pruner ask for, or refuse them in one sentence."""
    d_out, d_in = shape
    if nm is not None or granularity == "nm":
        n, m = parse_nm(nm, d_in)
        return Pattern(shape, m, n, is_nm=True)
    if granularity == "block":
        if d_in % block_size:
            raise ValueError(f"block_size={block_size} must divide the {d_in} inputs of the layer.")
        n_cells = d_in // block_size
        return Pattern(shape, n_cells, n_to_keep(n_cells, sparsity), block_size)
    run = d_in if granularity == "row" else d_out * d_in
    return Pattern(shape, run, n_to_keep(run, sparsity))


def n_to_keep(n, sparsity):
    """How many of n entries stay; one at least."""
    return max(1, round((1 - sparsity) * n))


def parse_nm(nm, d_in):
    """Return N and M of "N:M" or (N, M) for a layer of `d_in` inputs."""
    parts = nm.split(":") if isinstance(nm, str) else nm
    try:
        n, m = (int(p) if isinstance(p, str | Integral) else None for p in parts)
    except (TypeError, ValueError):
        n = m = None
    if n is None or m is None or not 0 < n <= m:
        raise ValueError(f'nm must be "N:M" or (N, M) with 0 < N <= M, such as "2:4", got {nm!r}.')
    if d_in % m:
        raise ValueError(
            f"nm={nm!r} needs a number of inputs that is a multiple of {m}, got {d_in}."
        )
    return n, m
