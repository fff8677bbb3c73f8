"""DPT and DPT-hybrid as they are exported: the model in, the same with other layers and rounded out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers.models.bit.modeling_bit import WeightStandardizedConv2d
from transformers.models.dpt.modeling_dpt import DPTPreActResidualLayer, DPTReassembleLayer


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
        return nn.Conv2d.forward(layer, x if layer.pad is None else layer.pad(x))


class Blocks(nn.Module):
    """`ConvTranspose2d` without padding whose strides are its kernel's sides: of each pixel a block, by one product.

    (n, c, h, w) becomes (n, c', h * k, w * k) with a kernel of k x k. In bfloat16 neither ONNX Runtime 1.31.1 on GPUs
    nor TensorRT-RTX 1.7.1 has transposed convolutions, nor has the first what `pixel_shuffle` is exported as.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.channels, self.sides = layer.out_channels, layer.kernel_size
        rows = layer.weight.detach().permute(1, 2, 3, 0)  # (c', k, k, c)
        biases = layer.bias.detach().repeat_interleave(rows[0, :, :, 0].numel())
        self.weight = nn.Parameter(rows.reshape(len(biases), -1, 1, 1), requires_grad=False)
        self.bias = nn.Parameter(biases, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        high, wide = self.sides
        blocks = functional.conv2d(x, self.weight, self.bias).reshape(n, self.channels, high, wide, h, w)
        return blocks.permute(0, 1, 4, 2, 5, 3).reshape(n, self.channels, h * high, w * wide)


class InFloat32(nn.Module):
    """A float32 layer behind others that are not."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float())


def prepared(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A DPTForDepthEstimation, which is float32, in `dtype`, in place.

    Kernels of a hybrid's backbone are standardised before they are rounded, where eager diffusers takes mean and
    deviation of rounded ones. Batch norms of the fusion stage become part of the convolutions before them, and
    transposed convolutions `Blocks`. The layer that makes one depth of 32 channels stays float32, or depths near each
    other would become equal.
    """
    for parent in list(model.modules()):
        if isinstance(parent, DPTPreActResidualLayer) and parent.use_batch_norm:
            _fold_norms(parent)
        for name, child in list(parent.named_children()):
            if isinstance(child, WeightStandardizedConv2d):
                setattr(parent, name, Standardised(child))
            elif isinstance(parent, DPTReassembleLayer) and isinstance(child, nn.ConvTranspose2d):
                setattr(parent, name, Blocks(child))
    head: Any = model.get_submodule("head.head")
    last = max(index for index, layer in enumerate(head) if isinstance(layer, nn.Conv2d))
    exact, head[last] = head[last], nn.Identity()
    model.to(dtype)
    head[last] = InFloat32(exact)
    return model


def _fold_norms(layer: Any) -> None:
    """A DPTPreActResidualLayer's batch norms made part of its convolutions."""
    layer.convolution1 = fuse_conv_bn_eval(layer.convolution1, layer.batch_norm1)
    layer.convolution2 = fuse_conv_bn_eval(layer.convolution2, layer.batch_norm2)
    del layer.batch_norm1, layer.batch_norm2
    layer.use_batch_norm = False
