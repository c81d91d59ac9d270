"""From structured layers back to dense ones, in the middle of training."""

import warnings

from torch import nn

from .layers import StructuredLinear


def densify_(model, optimizer=None):
    """Replace the structured layers of a model, in place, by linear ones that compute the same.

    Training that begins with Monarch layers and ends with dense ones ("reverse sparsification")
    calls this for the last part of the steps.

    Parameters
    ----------
    model : nn.Module
        Every `sparseprob.torch.layers.StructuredLinear` in it is replaced; a layer that is used
        twice stays one layer.
    optimizer : torch.optim.Optimizer, default=None
        Learns the new weights in the groups of the parameters they come from, which it forgets,
        together with the moments of their gradients. Biases keep theirs.

    Returns
    -------
    nn.Module
        The model.

    Raises
    ------
    ValueError
        If the model itself is a structured layer, or has none.

    Warns
    -----
    UserWarning
        If the optimizer loses moments.

    References
    ----------
    See [Dao2022]_.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch import densify_
    >>> from sparseprob.torch.layers import MonarchLinear
    >>> model = torch.nn.Sequential(MonarchLinear(64, 64), torch.nn.ReLU())
    >>> densify_(model)
    Sequential(
      (0): Linear(in_features=64, out_features=64, bias=True)
      (1): ReLU()
    )
    """
    if isinstance(model, StructuredLinear):
        raise ValueError(
            f"The model is itself a {type(model).__name__}, which has no place to be replaced in; "
            "put it into another module."
        )
    found = {module: None for module in model.modules() if isinstance(module, StructuredLinear)}
    if not found:
        raise ValueError("The model has no structured layers; nothing to replace.")
    dense = {layer: _linear(layer) for layer in found}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in dense:
                parent._modules[name] = dense[child]
    if optimizer is not None:
        kept = set(model.parameters())
        lost = [_replace_parameters(optimizer, old, new, kept) for old, new in dense.items()]
        if any(lost):
            warnings.warn(
                "The optimizer starts again with the weights of the layers that became dense; "
                "warm up the learning rate for a few steps.",
                UserWarning,
                stacklevel=2,
            )
    return model


def _linear(layer):
    """Return the linear layer that computes the same, with the bias itself."""
    weight = layer.dense_weight().detach().contiguous()
    linear = nn.Linear(
        layer.in_features, layer.out_features, bias=False, device="meta", dtype=weight.dtype
    )
    trained = any(p.requires_grad for p in layer.parameters() if p is not layer.bias)
    linear.weight = nn.Parameter(weight, requires_grad=trained)
    linear.bias = layer.bias
    return linear.train(layer.training)


def _replace_parameters(optimizer, old, new, kept):
    """Put the weight of `new` where those of `old` were; return whether moments were lost."""
    parts = set(old.parameters()) - kept
    groups = [g for g in optimizer.param_groups if any(p in parts for p in g["params"])]
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if p not in parts]
    if groups:
        groups[0]["params"].append(new.weight)
    return any([bool(optimizer.state.pop(p, None)) for p in parts])
