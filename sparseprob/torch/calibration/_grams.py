"""Second moments of the inputs of all layers of a model, from one pass over data."""

from collections.abc import Mapping
from numbers import Integral

import numpy as np
import torch
from torch import nn

from ... import mpi
from ..._arrays import like
from .._layers_of_model import find_layers
from ._collector import collect, device_of
from ._layer_stats import LayerStats


def collect_grams(model, batches, layers=None, *, module_types=(nn.Linear,), max_tokens=None):
    """Run a model on data and return the second moments of the inputs of its layers.

    The model runs in evaluation mode, without gradients, on tensors where they are; afterwards it
    is as before. Moments are summed in double precision on the CPU; on a GPU products of single
    precision are added up in double precision. Layers that are fed by the same tensor share one
    Gram matrix. Where a batch is a mapping with an integer ``"attention_mask"`` of shape (batch,
    length), inputs with these leading dimensions count only where the mask is not zero, so that
    padding is left out. Inside ``with distributed():`` each rank passes batches of its own.

    Parameters
    ----------
    model : torch.nn.Module
        Any model.
    batches : iterable
        Mappings become ``model(**batch)``, tuples and lists ``model(*batch)``, anything else
        ``model(batch)``.
    layers : str or sequence of str, default=None
        Patterns of the names of layers, such as ``"encoder.*"``; None means all of them.
    module_types : tuple of type, default=(torch.nn.Linear,)
        Kinds of layers. The inputs of ``torch.nn.Conv2d`` are the patches that it sees. Linear
        layers comprise ``Conv1D`` of transformers.
    max_tokens : int, default=None
        Inputs (tokens, rows, patches) to be used of each layer and rank: the first ones. None uses
        all.

    Returns
    -------
    dict of str to LayerStats
        By the name of the layer in the model, on the device of its input.

    Raises
    ------
    ValueError
        If a pattern matches no layer, or a layer is never called.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch.calibration import collect_grams
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> stats = collect_grams(model, [torch.randn(10, 4) for _ in range(3)])
    >>> {name: (tuple(s.gram.shape), s.n_tokens) for name, s in stats.items()}
    {'0': ((4, 4), 30), '2': ((8, 8), 30)}
    """
    found, _, _ = find_layers(model, ("*",) if layers is None else layers, (), module_types)
    modules = {name: module for layer in found for name, module in layer.modules}
    check_batches(batches)
    check_max_tokens(max_tokens)
    stats = gather(model, batches, modules, max_tokens=max_tokens)
    check_called(stats)
    return stats


def check_batches(batches):
    """Refuse what is one batch rather than several, or none."""
    if isinstance(batches, torch.Tensor | np.ndarray | Mapping | str) or not (
        hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")
    ):
        raise TypeError(
            "calibration must be an iterable of batches, such as a list of tensors, got "
            f"{type(batches).__name__}; put a single batch into a list."
        )


def check_max_tokens(max_tokens):
    """Refuse what is no number of tokens."""
    if max_tokens is not None and not (isinstance(max_tokens, Integral) and int(max_tokens) >= 1):
        raise ValueError(f"max_tokens must be a positive integer or None, got {max_tokens!r}.")


def check_called(stats):
    """Refuse layers without inputs."""
    for name, found in stats.items():
        if found.n_tokens == 0:
            raise ValueError(
                f"Calibration produced no tokens for layer {name!r}: is it unused in forward? "
                "Exclude it, or give data that reach it."
            )


def gather(model, batches, modules, *, max_tokens=None, stop_early=False):
    """Return statistics of the inputs of modules, of all ranks together."""
    with mpi.errors_together():
        collector = collect(model, batches, modules, max_tokens=max_tokens, stop_early=stop_early)
    return _reduced(collector)


def _reduced(collector):
    """Add up the sums of all ranks: one Allreduce for each tensor that fed layers."""
    if not any(mpi.all_gather(collector.n_batches)):
        raise ValueError("calibration holds no batches; was it an iterator that has been read?")
    names = list(collector.modules)
    own = [collector.leaders.get(name) for name in names]
    together = dict(zip(names, zip(*mpi.all_gather(own), strict=True), strict=True))
    widths = mpi.all_gather({n: len(m.total) for n, m in collector.moments.items() if m.n})
    widths = {name: d for found in widths for name, d in found.items()}
    done: dict[tuple, LayerStats] = {}
    for name, leaders in together.items():
        if leaders not in done:
            width = next((widths[leader] for leader in leaders if leader in widths), 0)
            take = collector.moments.pop if mpi.n_ranks() == 1 else collector.moments.get
            moments = take(collector.leaders.get(name), None)
            done[leaders] = _stats(collector.modules[name].weight, moments, width)
    return {name: done[leaders] for name, leaders in together.items()}


def _stats(weight, moments, width):
    if moments is None or not moments.n:
        outer, total, n = np.zeros((width, width)), np.zeros(width), 0
    else:
        outer, total, n = moments.outer, moments.total, moments.n
    outer, total, n = mpi.row_sum(outer, total, float(n))
    n = round(float(n))
    with device_of(weight):
        outer /= max(n, 1)
        total /= max(n, 1)
        return LayerStats(like(outer, weight), like(total, weight), n)
