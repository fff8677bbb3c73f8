"""Group normalisation that keeps float32's digits in every runtime, for the large groups of a VAE's encoder."""

from __future__ import annotations

from torch import Tensor, nn


class SteadyGroupNorm(nn.Module):
    """`nn.GroupNorm` whose means are taken of every row first, then of the rows.

    ONNX Runtime and OpenVINO add up a group's numbers one after the other in float32. A VAE's first groups have
    millions, and flat pictures lose four of seven digits there; torch adds up blocks, and loses fewer.
    """

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.groups, self.eps = norm.num_groups, norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) to the same; the statistics are float32 in every precision."""
        rows = x.float().reshape(x.shape[0], self.groups, -1, x.shape[-1])
        centred = rows - _mean(rows)
        normal = centred * (_mean(centred * centred) + self.eps).rsqrt()
        channels = (-1, *[1] * (x.ndim - 2))
        return normal.reshape(x.shape).to(x.dtype) * self.weight.reshape(channels) + self.bias.reshape(
            channels
        )


def steady(module: nn.Module) -> nn.Module:
    """Replace every `nn.GroupNorm` within `module`, in place; its weights stay shared."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(parent, name, SteadyGroupNorm(child))
    return module


def _mean(rows: Tensor) -> Tensor:
    """Of (B, G, R, W) over R and W."""
    return rows.mean(dim=-1, keepdim=True).mean(dim=-2, keepdim=True)
