"""What compress() refuses, before any work."""

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from .. import mpi
from ._layers_of_model import is_transposed
from .layers import StructuredLinear


def check_choice(name, value, choices):
    """Refuse a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")


def check_layer(layer):
    """Refuse a weight that cannot be written."""
    for name, module in layer.modules:
        problem = _problem(module)
        if problem:
            raise ValueError(f"Layer {name!r} {problem}.")
        groups = getattr(module, "groups", 1)
        if groups > 1:
            raise NotImplementedError(
                f"Layer {name!r} is a convolution of {groups} groups, which is no single matrix; "
                "exclude it."
            )


def _problem(module):
    """Why the weight of a module cannot be replaced, or None."""
    weight = module._parameters.get("weight")
    if weight is None:
        return (
            "computes its weight from other parameters (parametrized, pruned or normalized by "
            "torch.nn.utils); make it a parameter, for example by remove_parametrizations"
        )
    if is_lazy(weight):
        return "has no weight yet; run the model once before compressing it"
    if weight.is_meta:
        return "is on the meta device, without numbers; load its weight first"
    if not weight.is_floating_point():
        return f"has a weight of type {weight.dtype}; compress the model before it is quantized"
    if not bool(torch.isfinite(weight).all()):
        return "has NaN or infinity in its weight"
    return None


def check_replaceable(layer, inplace):
    """Refuse to put another module in the place of a layer where that would lose something."""
    if layer.others:
        raise ValueError(
            f"Layer {layer.name!r} shares its weight with {layer.others[0]!r}, which is no linear "
            "layer: another module would untie them; use replace='dense' or exclude it."
        )
    for name, module in layer.modules:
        plain = type(module).forward is nn.Linear.forward or is_transposed(module)
        if not plain:
            raise ValueError(
                f"Layer {name!r}, a {type(module).__name__}, cannot be replaced by another module; "
                "use replace='dense' or exclude it."
            )
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise ValueError(
                f"Layer {name!r} has hooks, which another module would lose; remove them, or use "
                "replace='dense'."
            )
    if inplace and "" in layer.names:
        raise ValueError(
            "The model is itself the layer, which cannot be replaced in place; use inplace=False."
        )


def check_module(layer, module):
    """Refuse a stand-in that cannot be given the biases of several tied layers."""
    if len(layer.modules) > 1 and not isinstance(module, StructuredLinear):
        raise ValueError(
            f"Layers {', '.join(map(repr, layer.names))} share one weight, which a "
            f"{type(module).__name__} cannot; use replace='dense'."
        )


def check_same_on_all_ranks(layers):
    """Refuse ranks that hold different models."""
    if mpi.n_ranks() == 1:
        return
    sums = [(layer.name, float(layer.weight.detach().double().sum())) for layer in layers]
    for found in mpi.all_gather(sums):
        for mine, theirs in zip(sums, found, strict=False):
            if mine != theirs or len(sums) != len(found):
                raise ValueError(
                    f"The ranks hold different models (layer {mine[0]!r}); load the same weights "
                    "on each, for example with the same seed."
                )
