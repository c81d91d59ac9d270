"""The linear layers of a model: found by name, seen as matrices, one where weights are tied."""

import copy
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.parameter import is_lazy

_N_SHOWN = 12
_NO_LINEAR_MAP = (nn.Embedding, nn.EmbeddingBag)


class Layer:
    """A weight, and the modules that hold it: one, or several whose weights are tied.

    Parameters
    ----------
    places : list of (str, Module)
        Names in the model and modules; a module with several names occurs as often.
    others : list of str, default=()
        Names of parameters of other modules, such as embeddings, that are this weight, too.
    """

    def __init__(self, places, others=()):
        self.places, self.others = places, list(others)

    @property
    def names(self):
        """Names of the modules, the first of which is the name of the layer."""
        return [name for name, _ in self.places]

    @property
    def name(self):
        """Name for messages and reports."""
        return self.places[0][0]

    @property
    def weight(self):
        """The parameter."""
        return self.places[0][1].weight

    @property
    def modules(self):
        """One name and module for each module."""
        return list({id(module): (name, module) for name, module in self.places[::-1]}.values())[
            ::-1
        ]

    @property
    def matrix(self):
        """The weight as a matrix (d_out, d_in) that shares its memory."""
        return as_matrix(self.places[0][1])

    @property
    def shape(self):
        """Numbers of outputs and inputs."""
        return tuple(self.matrix.shape)

    @torch.no_grad()
    def write(self, dense):
        """Put a matrix (d_out, d_in) in place of the weight."""
        weight = self.weight
        V = dense.T if is_transposed(self.places[0][1]) else dense
        weight.copy_(V.reshape(weight.shape))


def is_transposed(module):
    """Whether a module is Conv1D of transformers, a linear layer with its weight transposed."""
    return any(
        c.__name__ == "Conv1D" and c.__module__ == "transformers.pytorch_utils"
        for c in type(module).__mro__
    )


def as_matrix(module):
    """Return the weight of a linear layer or a convolution as a matrix (d_out, d_in)."""
    weight = module.weight.detach()
    return weight.T if is_transposed(module) else weight.flatten(1)


def check_module_types(module_types):
    """Return module types as a tuple; refuse those whose weight is no matrix."""
    types = module_types if isinstance(module_types, tuple | list) else (module_types,)
    for kind in types:
        if not (isinstance(kind, type) and (issubclass(kind, nn.Linear | nn.Conv2d))):
            raise ValueError(
                "module_types may hold torch.nn.Linear, torch.nn.Conv2d and classes derived from "
                f"them, got {kind!r}."
            )
    return tuple(types)


def find_layers(model, include=("*",), exclude=(), module_types=(nn.Linear,)):
    """Find the layers to be compressed.

    Parameters
    ----------
    model : Module
    include, exclude : sequence of str
        Patterns of names, as file names are matched; every one of `include` has to match.
    module_types : tuple of type
        Kinds of modules; linear layers comprise Conv1D of transformers.

    Returns
    -------
    layers : list of Layer
        In the order of the model.
    skipped : dict of str to str
        Why a matrix of the model is left as it is, by name.
    ties : list of list of str
        Names of the parameters that are one with the weight of a layer.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    include, exclude = patterns("include", include), patterns("exclude", exclude)
    types = check_module_types(module_types)
    reasons = _reasons(model, types)
    chosen, skipped = {}, {}
    for name, reason in reasons.items():
        excluded = next((p for p in exclude if fnmatchcase(name, p)), None)
        if not any(fnmatchcase(name, p) for p in include):
            continue
        if excluded is not None:
            reason = f"excluded by {excluded!r}"
        if reason is None:
            chosen[name] = model.get_submodule(name)
        else:
            skipped[name] = reason
    _check_patterns("include", include, list(reasons))
    layers, ties = _tied(model, chosen, skipped)
    if not layers:
        raise ValueError(f"No layer of the model is left to be compressed: {_listed(skipped)}.")
    return layers, skipped, ties


def patterns(what, given):
    """Return patterns of names as a tuple of text."""
    found = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(pattern, str) for pattern in found):
        raise TypeError(f"{what} must hold patterns of names, got {given!r}.")
    return found


def _check_patterns(what, given, names):
    for pattern in given:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"The pattern {pattern!r} of {what} matches no layer; there are {shown(names)}."
            )


def shown(names):
    """Text of some names."""
    text = ", ".join(repr(name) for name in names[:_N_SHOWN]) or "none"
    return text + (f" and {len(names) - _N_SHOWN} more" if len(names) > _N_SHOWN else "")


def _listed(skipped):
    found = [f"{name!r} ({reason})" for name, reason in skipped.items()]
    text = ", ".join(found[:_N_SHOWN]) or "none matches include"
    return text + (f" and {len(found) - _N_SHOWN} more" if len(found) > _N_SHOWN else "")


def _reasons(model, types):
    """Why matrices of the model cannot be compressed, by name; None for those that can."""
    found: dict[str, str | None] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        parent = model.get_submodule(name.rpartition(".")[0]) if name else None
        if isinstance(module, types) or (nn.Linear in types and is_transposed(module)):
            found[name] = None
            if isinstance(parent, nn.MultiheadAttention):
                found[name] = "read by nn.MultiheadAttention, which never calls it"
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            found[name] = f"{type(module).__name__} is not among module_types"
        elif not isinstance(module, _NO_LINEAR_MAP):
            for own, parameter in module.named_parameters(recurse=False):
                if is_lazy(parameter) or parameter.ndim >= 2:
                    full = f"{name}.{own}" if name else own
                    found[full] = f"a bare parameter of {type(module).__name__}, no linear layer"
    return found


# ---------------------------------------------------------------- ties
def _memory(tensor):
    """Where the numbers of a tensor are."""
    if is_lazy(tensor) or tensor.is_meta:
        return ("parameter", id(tensor))
    return (str(tensor.device), tensor.data_ptr())


def _view(tensor):
    return None if is_lazy(tensor) else (tuple(tensor.shape), tuple(tensor.stride()))


def _tied(model, chosen, skipped):
    """Return layers of the modules chosen, one for each weight, and the names that share one."""
    owners = _owners(model)
    groups: dict[tuple, list] = {}
    for name, module in chosen.items():
        weight = module.weight
        groups.setdefault((_memory(weight), _view(weight)), []).append((name, module))
    layers, ties = [], []
    for (memory, _), places in groups.items():
        names, others = _sharers(places, owners.get(memory, []))
        reason = _untouchable(places, others, skipped)
        if reason:
            skipped.update({name: reason for name, _ in places})
            continue
        layers.append(Layer(places, [name for name, _ in others]))
        if len(names) > 1:
            ties.append(names)
    return layers, ties


def _owners(model):
    """Names and views of all parameters, by where their numbers are."""
    owners: dict[tuple, list] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(_memory(parameter), []).append((name, _view(parameter)))
    return owners


def copy_of(model):
    """Return a deep copy of a model in which parameters that share memory still do."""
    copied = copy.deepcopy(model)
    for (first, _), *others in _owners(model).values():
        for name, view in others:
            one, other = copied.get_parameter(first), copied.get_parameter(name)
            if other is not one and view is not None and other.numel() == one.numel():
                other.data = one.data.as_strided(*view)
    return copied


def _sharers(places, owners):
    """Names of all parameters in the memory of a weight, and those that are none of `places`."""
    own = {f"{name}.weight" if name else "weight" for name, _ in places}
    return [name for name, _ in owners], [(name, view) for name, view in owners if name not in own]


def _untouchable(places, others, skipped):
    """Why a weight must stay as it is because of other parameters in the same memory, or None."""
    view = _view(places[0][1].weight)
    for name, other in others:
        if name.removesuffix(".weight") in skipped:
            return f"shares its weight with {name!r}, which stays as it is"
        if other != view:
            return f"shares memory with {name!r}, which has another shape"
    return None
