"""Networks trained while they are factorized, and frozen in that form."""

from ._layers_of_model import find_layers
from .layers import DenseSparseLinear
from .solvers import DSFormer


def apply_stf(
    model,
    compression=0.5,
    *,
    include=("*",),
    exclude=("*head*", "*embed*"),
    refine_steps=1,
    **parameters,
):
    """Replace linear layers by ones that are factorized while they are trained, in place.

    Train the model afterwards with an optimizer made after this call, then call `freeze_stf`.

    Parameters
    ----------
    model : nn.Module
        Its ``nn.Linear`` layers are replaced.
    compression : float, default=0.5
        Share of the storage of each layer that is saved in the end.
    include, exclude : tuple of str
        Patterns of names of layers, as for `sparseprob.torch.compress`.
    refine_steps : int, default=1
        Alternations between codes and atoms in each call of a layer that is trained.
    **parameters
        Those of `sparseprob.torch.solvers.DSFormer`, but `whiten`.

    Returns
    -------
    nn.Module
        The model; a new one if it is a linear layer itself.

    Raises
    ------
    ValueError
        If no layer is named, or one shares its weight with another.

    References
    ----------
    See [Chand2023]_.

    Examples
    --------
    >>> import torch
    >>> from sparseprob.torch import apply_stf, freeze_stf
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU())
    >>> model = apply_stf(model, compression=0.75, include=("0",))
    >>> optimizer = torch.optim.Adam(model.parameters())
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     loss = model(torch.randn(16, 64)).square().mean()
    ...     loss.backward()
    ...     optimizer.step()
    >>> freeze_stf(model)[0]
    DictionaryLinear(in_features=64, out_features=64, bias=True, n_atoms=10, n_nonzero=5)
    """
    solver = DSFormer(compression, **parameters)
    layers = find_layers(model, include, exclude)[0]
    for layer in layers:
        if len(layer.modules) > 1 or layer.others:
            raise ValueError(
                f"The weight of layer {layer.name!r} is that of other layers, too, and would no "
                "longer be when it is trained in factors; exclude it."
            )
    new = [_factorized(layer, solver, refine_steps) for layer in layers]
    for layer, module in zip(layers, new, strict=True):
        model = _with_module(model, layer.names, module)
    return model


def freeze_stf(model):
    """Replace the layers that `apply_stf` put into a model by their factors, in place.

    Parameters
    ----------
    model : nn.Module
        Full weights are dropped; factors are parameters, which can be trained further.

    Returns
    -------
    nn.Module
        The model; a new one if it is such a layer itself.

    Raises
    ------
    ValueError
        If there is no such layer.
    """
    names: dict[DenseSparseLinear, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, DenseSparseLinear):
            names.setdefault(module, []).append(name)
    if not names:
        raise ValueError("The model has no DenseSparseLinear to be frozen; use apply_stf first.")
    for module, places in names.items():
        model = _with_module(model, places, module.freeze())
    return model


def _factorized(layer, solver, refine_steps):
    """Return what stands in for a layer."""
    module = layer.modules[0][1]
    try:
        found = DenseSparseLinear._from_weight(layer.matrix, module.bias, solver, refine_steps)
    except ValueError as error:
        raise ValueError(f"Layer {layer.name!r}: {error}") from error
    found.weight.requires_grad_(module.weight.requires_grad)
    if found.bias is not None:
        found.bias.requires_grad_(module.bias.requires_grad)
    return found.train(module.training)


def _with_module(model, names, module):
    """Return the model with a module at some places."""
    for name in names:
        if not name:
            return module
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, module)
    return model
