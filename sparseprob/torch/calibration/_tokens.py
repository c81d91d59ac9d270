"""What a linear layer or a convolution multiplies its weight with, as rows of a matrix."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

_CHUNK = 2**23  # numbers of a chunk: 64 MB in double precision


def mask_of(batch):
    """Return the mask (batch, length) of the tokens that are no padding, or None."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if isinstance(mask, torch.Tensor) and mask.ndim == 2 and not mask.is_floating_point():
        return mask.bool()
    return None


def kind(module):
    """What a module makes of its input: modules of one kind see the same rows of one tensor."""
    if isinstance(module, nn.Conv2d):
        return ("conv2d", *map(str, _geometry(module)))
    return ("linear",)


def _geometry(module):
    names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    return [getattr(module, name) for name in names]


def rows_in_chunks(module, x, mask=None):
    """Yield the inputs of a module as matrices (n, d_in) of a moderate size.

    Parameters
    ----------
    module : Module
        A linear layer, or a convolution, which sees one patch for each position of its output.
    x : tensor
        Input of the module.
    mask : tensor of bool of shape (batch, length), default=None
        Which tokens count; ignored unless `x` has these leading dimensions, flattened or not.
    """
    if isinstance(module, nn.Conv2d):
        yield from _patches_in_chunks(module, x if x.ndim == 4 else x[None])
        return
    if mask is not None:
        mask = mask.to(x.device)
        if x.ndim >= 3 and x.shape[:2] == mask.shape:
            x = x[mask]
        elif x.ndim == 2 and len(x) == mask.numel():
            x = x[mask.flatten()]
    rows = x.reshape(-1, x.shape[-1])
    yield from rows.split(max(1, _CHUNK // max(1, rows.shape[1])))


def _patches_in_chunks(module, x):
    kernel, stride, padding, dilation, mode = _geometry(module)
    x = F.pad(x, _sides(kernel, padding, dilation), "constant" if mode == "zeros" else mode)
    per_image = max(1, x[:1].numel() * kernel[0] * kernel[1] // (stride[0] * stride[1]))
    for images in x.split(max(1, _CHUNK // per_image)):
        patches = F.unfold(images, kernel, dilation=dilation, stride=stride)
        yield patches.transpose(1, 2).flatten(0, 1)


def _sides(kernel, padding, dilation):
    """Padding left, right, above and below."""
    if padding == "valid":
        return [0, 0, 0, 0]
    sides = []
    for axis in (1, 0):
        whole = dilation[axis] * (kernel[axis] - 1)
        before = whole // 2 if padding == "same" else padding[axis]
        sides += [before, whole - before if padding == "same" else before]
    return sides
