"""What all sketches can do: products with each other, merging, bytes."""

import warnings
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from .._arrays import is_array, like, to_compute
from ._serialization import pack, unpack


class NoOverlapWarning(UserWarning):
    """Two sketches have no key in common: their product is estimated as zero.

    Parameters
    ----------
    message : str
        What was found.
    """

    def __init__(self, message):
        super().__init__(message)


class Settings(NamedTuple):
    """What two sketches must agree in to be paired; the number of samples only to be merged.

    Parameters
    ----------
    method : str
    seed : int
    weighting : str
    key_kind : str
    n_samples : int
    """

    method: str
    seed: int
    weighting: str
    key_kind: str
    n_samples: int

    def check_pair(self, other, *, sizes=False):
        """Refuse sketches that do not belong together."""
        names = ("method", "seed", "weighting", "key_kind") + (("n_samples",) if sizes else ())
        for name in names:
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                raise ValueError(
                    f"The sketches differ in {name}: {ours!r} and {theirs!r}; build both with "
                    "the same."
                )


class MatrixSketch(ABC):
    """A small stand-in for a matrix whose rows have keys; sketchers make it.

    Two sketches built apart, with one seed, estimate the product of the matrices they stand for:
    the sum over common keys of outer products of rows.

    Parameters
    ----------
    settings : Settings
        What two sketches must agree in.
    n_rows : int
        Number of rows sketched.
    n_features : int
        Number of columns.
    given : array, default=None
        The matrix, whose library answers follow; None for NumPy.

    Attributes
    ----------
    method : str
        How it was made.
    n_samples, seed, weighting, key_kind : int or str
        As the sketcher was told; the kind of keys as it was found.
    n_rows_ : int
        Number of rows sketched.
    n_features_ : int
        Number of columns.
    frobenius_norm_ : float
        Frobenius norm of the matrix, estimated by linear sketches.
    nbytes : int
        Length of the serialized form.
    """

    def __init__(self, settings, n_rows, n_features, given=None):
        self._settings = settings
        self.n_rows_, self.n_features_ = n_rows, n_features
        self._given = given[:0, ...] if is_array(given) else None

    method = property(lambda self: self._settings.method)
    seed = property(lambda self: self._settings.seed)
    weighting = property(lambda self: self._settings.weighting)
    key_kind = property(lambda self: self._settings.key_kind)
    n_samples = property(lambda self: self._settings.n_samples)

    def __repr__(self):
        return (
            f"{type(self).__name__}({self.method}, {self.n_rows_} rows, {self.n_features_} "
            f"columns, {self.key_kind} keys, n_samples={self.n_samples}, seed={self.seed})"
        )

    def product(self, other, *, return_std=False):
        """Estimate the product of two matrices over the rows they have in common.

        Parameters
        ----------
        other : MatrixSketch
            Of the same method, seed, weighting and kind of keys.
        return_std : bool, default=False
            Return an estimate of the error too.

        Returns
        -------
        product : array of shape (n_features, n_features_of_other)
            Estimate of the transposed matrix times the other one; in the library of the matrix
            that this sketch was made of.
        std : float
            Root of the expected squared Frobenius norm of the error, estimated; only if
            `return_std`. NaN without a common key, of which `NoOverlapWarning` warns.
        """
        self._check_other(other)
        self._settings.check_pair(other._settings)
        product, std = self._product(other)
        answer = product if self._given is None else like(product, self._given)
        return (answer, std) if return_std else answer

    def inner(self, other, *, return_std=False):
        """Estimate the inner product of two columns over the rows they have in common.

        Parameters
        ----------
        other : MatrixSketch
            Sketch of a single column, as this one.
        return_std : bool, default=False
            Return an estimate of the standard error too.

        Returns
        -------
        inner : float
        std : float
            Only if `return_std`.
        """
        self._check_other(other)
        widths = self.n_features_, other.n_features_
        if widths != (1, 1):
            raise ValueError(
                f"inner is for single columns, got sketches of {widths[0]} and {widths[1]}; "
                "use product."
            )
        product, std = self.product(other, return_std=True)
        value = float(to_compute(product)[0, 0])
        return (value, std) if return_std else value

    def merge(self, other):
        """Return the sketch of the rows of both; neither is changed.

        Parameters
        ----------
        other : MatrixSketch
            Sketch of other rows of the same columns.

        Returns
        -------
        sketch : MatrixSketch
        """
        self._check_other(other)
        if self.n_rows_ and other.n_rows_:  # without rows, the kind of keys is not known
            self._settings.check_pair(other._settings, sizes=True)
        if self.n_features_ != other.n_features_:
            raise ValueError(
                f"Sketches of {self.n_features_} and {other.n_features_} columns cannot be merged."
            )
        if not (self.n_rows_ and other.n_rows_):
            return self if self.n_rows_ else other
        return self._merge([self, other])

    def to_bytes(self):
        """Return the sketch as bytes, the same on every machine.

        Returns
        -------
        content : bytes
        """
        numbers, arrays = self._contents()
        return pack(type(self).__name__, {**self._settings._asdict(), **numbers}, arrays)

    @staticmethod
    def from_bytes(content):
        """Return the sketch that `to_bytes` wrote.

        Parameters
        ----------
        content : bytes

        Returns
        -------
        sketch : MatrixSketch

        Raises
        ------
        ValueError
            If the bytes are not a sketch, are damaged, or of an unknown version.
        """
        name, numbers, arrays = unpack(content)
        kinds = {kind.__name__: kind for kind in MatrixSketch.__subclasses__()}
        if name not in kinds:
            raise ValueError(f"Expected a sketch of a matrix, got bytes of a {name}.")
        settings = Settings(*(numbers.pop(field) for field in Settings._fields))
        return kinds[name]._of_contents(settings, numbers, arrays)

    @property
    def nbytes(self):
        """Length of the serialized form."""
        return len(self.to_bytes())

    def _check_other(self, other):
        if not isinstance(other, MatrixSketch):
            raise TypeError(
                f"Expected another sketch, got {type(other).__name__}; sketch the matrix first."
            )

    def _moved_like(self, other):
        """Return this sketch with answers in the library of the other one's matrix."""
        self._given = other._given
        return self

    @abstractmethod
    def _product(self, other):
        """Return the estimate, NumPy or CuPy, and its standard deviation."""

    @classmethod
    @abstractmethod
    def _merge(cls, sketches) -> "MatrixSketch":
        """Return the sketch of the rows of several that agree in their settings."""

    @abstractmethod
    def _contents(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return numbers and arrays that say all."""

    @classmethod
    @abstractmethod
    def _of_contents(cls, settings, numbers, arrays) -> "MatrixSketch":
        """Return the sketch that `_contents` describes."""


def no_overlap():
    """Warn that there is no common key."""
    warnings.warn(
        "The two sketches have no key in common: either the tables have none, or too few for "
        "samples of this size. The product is estimated as zero.",
        NoOverlapWarning,
        stacklevel=4,
    )


def merge_all(sketches):
    """Return the sketch of the rows of several sketches, in any order."""
    first, *others = sketches
    for other in others:
        first = first.merge(other)
    return first
