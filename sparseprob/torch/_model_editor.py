"""Compressed layers put into a model, and taken out again when something fails."""

import torch

from .layers import StructuredLinear


class ModelEditor:
    """Writes results into a model.

    Parameters
    ----------
    model : Module
        Changed in place, unless it is itself the layer that is replaced.
    keep : bool
        Whether to remember what was there, for `undo`.

    Attributes
    ----------
    model : Module
    """

    def __init__(self, model, *, keep):
        self.model, self.keep = model, keep
        self._undo = []

    def write(self, layer, result):
        """Put the result of a layer in its place."""
        if result.modules:
            for (_, old), new in zip(layer.modules, result.modules, strict=True):
                _take_over(old, new)
                self._replace([name for name, module in layer.places if module is old], old, new)
            return
        if self.keep:
            before = layer.matrix.clone()
            self._undo.append(lambda: layer.write(before))
        layer.write(result.dense)

    def _replace(self, names, old, new):
        for name in names:
            self._set(name, new)
            if self.keep:
                self._undo.append(lambda name=name: self._set(name, old))

    def _set(self, name, module):
        if not name:
            self.model = module
            return
        parent, _, own = name.rpartition(".")
        self.model.get_submodule(parent)._modules[own] = module

    def undo(self):
        """Make the model what it was."""
        while self._undo:
            self._undo.pop()()


@torch.no_grad()
def _take_over(old, new):
    """Give a new module the state of the one that it replaces."""
    new.train(old.training)
    for parameter in new.parameters():
        parameter.requires_grad_(old.weight.requires_grad)
    if isinstance(new, StructuredLinear):
        new.bias = old.bias  # the same parameter, which an optimizer may know
