"""Kernels of gpytorch as covariances: sums of stationary ones are read, others stay in torch."""

import copy
import math
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from gpytorch import kernels

from .. import mpi
from .._covariance import (
    MATERN_12,
    MATERN_32,
    MATERN_52,
    RATIONAL_QUADRATIC,
    SQUARED_EXPONENTIAL,
    Covariance,
)
from ._torch_covariance import TorchCovariance

_MATERN = {0.5: MATERN_12, 1.5: MATERN_32, 2.5: MATERN_52}
_RANGE = 1e5  # a parameter may change by this factor, within its constraint
_MARGIN = 1e-6  # of a bound or an interval: raw parameters are infinite at bounds themselves
_OFF = 1e100  # lengthscale of a feature that a kernel does not see
_PLACES = {"outputscale": "variance", "lengthscale": "lengthscale", "alpha": "shape"}


def read_kernel(kernel, n_features):
    """Read a module as a `Covariance` if it is a sum of stationary kernels, else as it is.

    The caller's object is never changed: it is copied here, and copies get learned parameters.
    Priors of parameters are not used. Under `distributed` all ranks take the kernel of rank 0, as
    networks start at random.

    Parameters
    ----------
    kernel : gpytorch.kernels.Kernel or torch.nn.Sequential
        A sequence is a map of features with a kernel behind it: a deep kernel.
    n_features : int

    Returns
    -------
    covariance : Covariance or TorchCovariance
    """
    kernel = mpi.broadcast(kernel)
    last = kernel[-1] if isinstance(kernel, torch.nn.Sequential) and len(kernel) else kernel
    if not isinstance(last, kernels.Kernel):
        raise TypeError(
            f"The module {type(kernel).__name__} is not a kernel; supported are kernels of "
            "gpytorch, and torch.nn.Sequential of a feature map and such a kernel."
        )
    if len(last.batch_shape):
        raise ValueError(
            f"The kernel {type(last).__name__} has batch_shape={tuple(last.batch_shape)}; give one "
            "without a batch."
        )
    precise = copy.deepcopy(kernel).double()
    terms = None if last is not kernel else _terms_of(precise, np.arange(n_features), [])
    if terms is None:
        return TorchCovariance(kernel, n_features)
    return _assemble(kernel, precise, terms, n_features)


class _Term(NamedTuple):
    """A term while a kernel is read: its kind, the features it sees, modules and attributes."""

    kind: int
    dims: np.ndarray
    entries: list


def _terms_of(kernel, dims, entries, *, called=True):
    """Read a tree of kernels into terms; None if it has anything but known stationary ones.

    A `ScaleKernel` does not call its base but its ``forward``, which takes all features it gets.
    """
    if called and kernel.active_dims is not None:
        dims = dims[_checked_dims(kernel, len(dims))]
    if type(kernel) is kernels.ScaleKernel:
        entries = [*entries, (kernel, "outputscale")]
        return _terms_of(kernel.base_kernel, dims, entries, called=False)
    if type(kernel) is kernels.AdditiveKernel:
        parts = [_terms_of(k, dims, entries) for k in kernel.kernels]
        return None if None in parts else sum(parts, [])
    kind = _kind(kernel)
    if kind is None:
        return None
    entries = [*entries, (kernel, "lengthscale")]
    if kind == RATIONAL_QUADRATIC:
        entries.append((kernel, "alpha"))
    n_lengthscales = kernel.raw_lengthscale.numel()
    if n_lengthscales not in (1, len(dims)):
        raise ValueError(
            f"The kernel {type(kernel).__name__} has {n_lengthscales} length-scales, but X has "
            f"{len(dims)} features for it; give one for each feature, or a single one."
        )
    return [_Term(kind, dims, entries)]


def _checked_dims(kernel, n_features):
    active = kernel.active_dims.cpu().numpy()
    if active.size and active.max() >= n_features:
        raise ValueError(
            f"The kernel {type(kernel).__name__} has active_dims={active.tolist()}, but X has "
            f"{n_features} features."
        )
    return active


def _kind(kernel):
    """Number of the kind of a stationary kernel; subclasses are other kernels."""
    if type(kernel) is kernels.MaternKernel:
        return _MATERN[kernel.nu]
    if type(kernel) is kernels.RBFKernel:
        return SQUARED_EXPONENTIAL
    return RATIONAL_QUADRATIC if type(kernel) is kernels.RQKernel else None


def _assemble(kernel, precise, terms, n_features):
    """Make a `Covariance` of terms; parameters that are shared have one place in theta."""
    slots = _Slots(precise)
    shared = all(_n_lengthscales(term) == 1 and len(term.dims) == n_features for term in terms)
    width = (1 if shared else n_features) + 2
    base, places = np.zeros((len(terms), width)), []
    for t, term in enumerate(terms):
        if not shared:
            base[t, 1 + np.setdiff1d(np.arange(n_features), term.dims)] = math.log(_OFF)
        for module, attribute in term.entries:
            place = _place(_PLACES[attribute], term, width, shared)
            positions = slots.positions(module, attribute)
            if positions is None:
                base[t, place] += np.log(_values(module, attribute))
            else:
                places.append((t, place, positions))
    jacobian = np.zeros((len(terms), width, len(slots.theta)))
    for t, place, positions in places:
        np.add.at(jacobian, (t, place, positions), 1.0)
    return Covariance(
        np.array([term.kind for term in terms], dtype=np.int64),
        base.ravel(),
        jacobian.reshape(base.size, -1),
        np.array(slots.theta),
        np.array(slots.bounds).reshape(-1, 2),
        slots.names,
        n_features,
        partial(_write, copy.deepcopy(kernel), slots.written),
    )


def _n_lengthscales(term):
    return next(m for m, what in term.entries if what == "lengthscale").raw_lengthscale.numel()


def _place(what, term, width, shared):
    """Where a parameter stands among the internal ones of its term."""
    lengthscales = np.array([1]) if shared else 1 + term.dims
    return {"variance": [0], "shape": [width - 1], "lengthscale": lengthscales}[what]


def _values(module, attribute):
    return getattr(module, attribute).detach().cpu().numpy().ravel()


class _Slots:
    """Places in theta of the free parameters of a kernel, in the order in which they are met."""

    def __init__(self, kernel):
        self._paths = {id(module): path for path, module in kernel.named_modules()}
        self._known = {}
        self.theta, self.bounds, self.names, self.written = [], [], [], []

    def positions(self, module, attribute):
        """Return where a parameter stands in theta; None if it is fixed."""
        raw = getattr(module, f"raw_{attribute}")
        if not raw.requires_grad:
            return None
        if id(raw) not in self._known:
            self._known[id(raw)] = self._add(module, attribute, raw)
        return self._known[id(raw)]

    def _add(self, module, attribute, raw):
        first, values = len(self.theta), _values(module, attribute)
        positions = np.arange(first, first + len(values))
        path = self._paths[id(module)]
        constraint = getattr(module, f"raw_{attribute}_constraint")
        limits = [
            np.broadcast_to(bound.cpu().numpy(), tuple(raw.shape)).ravel()
            for bound in (constraint.lower_bound, constraint.upper_bound)
        ]
        self.theta.extend(np.log(values))
        self.bounds.extend(_log_bounds(*v) for v in zip(values, *limits, strict=True))
        name = f"{path}.{attribute}".lstrip(".")
        many = len(values) > 1
        self.names.extend(f"{name}[{i}]" if many else name for i in range(len(values)))
        self.written.append((path, attribute, positions))
        return positions


def _log_bounds(value, lower, upper):
    """Logarithms of bounds within a constraint, a little inside of it."""
    bounded = math.isfinite(upper) and math.isfinite(lower)
    low, high = value / _RANGE, value * _RANGE
    if math.isfinite(lower):
        low = max(low, lower + _MARGIN * (upper - lower if bounded else abs(lower)))
    if math.isfinite(upper):
        high = min(high, upper - _MARGIN * (upper - lower if bounded else abs(upper)))
    return math.log(min(low, value)), math.log(max(high, value))


def _write(kernel, written, theta):
    """Return a copy of a kernel with other parameters, in the precision of the given one."""
    dtype = next(kernel.parameters()).dtype
    kernel = copy.deepcopy(kernel).double()
    with torch.no_grad():
        for path, attribute, positions in written:
            module = kernel.get_submodule(path)
            shape = getattr(module, f"raw_{attribute}").shape
            values = torch.from_numpy(np.exp(np.asarray(theta)[positions]))
            setattr(module, attribute, values.reshape(shape))
    return kernel.to(dtype)
