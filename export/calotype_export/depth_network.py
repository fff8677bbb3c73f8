"""DPT and DPT-hybrid in half precision: the model in, the same rounded in a way that keeps digits out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.bit.modeling_bit import WeightStandardizedConv2d


class Standardised(nn.Module):
    """`WeightStandardizedConv2d` whose kernels were standardised once, and not in each run."""

    def __init__(self, layer: WeightStandardizedConv2d) -> None:
        super().__init__()
        rows = layer.weight.detach().reshape(1, layer.out_channels, -1)
        kernels = functional.batch_norm(rows, None, None, training=True, momentum=0.0, eps=layer.eps)
        layer.weight = nn.Parameter(kernels.reshape_as(layer.weight), requires_grad=False)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        padded = x if layer.pad is None else layer.pad(x)
        return functional.conv2d(
            padded, layer.weight, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups
        )


class InFloat32(nn.Module):
    """A float32 layer among others that are not; what it gives is made `dtype`."""

    def __init__(self, layer: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer, self.dtype = layer, dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float()).to(self.dtype)


def rounded(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A DPTForDepthEstimation, which is float32, in `dtype`, in place.

    Kernels of a hybrid's backbone are standardised before they are rounded: eager diffusers takes mean and deviation
    of rounded ones. The layer that makes one depth of 32 channels stays float32, or depths near each other would
    become equal, and so do transposed convolutions, which TensorRT-RTX 1.7.1 has none of in bfloat16.
    """
    exact: list[tuple[nn.Module, str, InFloat32]] = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, WeightStandardizedConv2d):
                setattr(parent, name, Standardised(child))
            if isinstance(child, nn.ConvTranspose2d):
                exact.append((parent, name, InFloat32(child, dtype)))
    head: Any = model.get_submodule("head.head")
    last = max(index for index, layer in enumerate(head) if isinstance(layer, nn.Conv2d))
    exact.append((head, str(last), InFloat32(head[last], torch.float32)))
    for parent, name, _ in exact:
        setattr(parent, name, nn.Identity())
    model.to(dtype)
    for parent, name, layer in exact:
        setattr(parent, name, layer)
    return model
