"""A start for the VAE: weights that carry averaged colours through it, so that training begins with every colour.

From random weights a small VAE finds brightness at once and the green-magenta axis only after many hundred steps.
"""

# diffusers, transformers and torch annotate less than they take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false
from __future__ import annotations

from typing import Final

import torch
from diffusers import AutoencoderKL
from torch import nn

# Channels 0-2 carry red, green and blue, 3-5 their negatives, 6-7 a constant and its negative: the negatives
# because silu(x) - silu(-x) = x, the constant because it keeps the normalisation's divisor nearly fixed.
_CARRIED: Final = 8
_CONSTANT: Final = 2.0
_DETAIL_GAIN: Final = 0.1
_LOG_VARIANCE: Final = -5.0


@torch.no_grad()
def carry_colours(autoencoder: AutoencoderKL) -> None:
    """Set the weights of a new `autoencoder` so that latents 0-2 are averaged colours, in place."""
    for coder in (autoencoder.encoder, autoencoder.decoder):
        _enter(coder.conv_in)
        for name, module in coder.named_modules():
            if name.endswith("conv2"):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
            elif name.endswith("conv_shortcut") or ("upsamplers" in name and isinstance(module, nn.Conv2d)):
                _carry(module, 1.0)
            elif "downsamplers" in name and isinstance(module, nn.Conv2d):
                _carry(module, 0.25)
        _leave(coder.conv_out)
    for outer in (autoencoder.quant_conv, autoencoder.post_quant_conv):
        nn.init.zeros_(outer.bias)
        outer.weight.copy_(torch.eye(len(outer.weight))[:, :, None, None])
    autoencoder.encoder.conv_out.bias[4:] = _LOG_VARIANCE


def _enter(convolution: nn.Conv2d) -> None:
    """Colours from channels 0-2 of the input, both signs, and the constant from the bias."""
    convolution.weight[:_CARRIED].zero_()
    convolution.bias[:_CARRIED].zero_()
    for colour in range(3):
        convolution.weight[colour, colour, 1, 1] = 1.0
        convolution.weight[3 + colour, colour, 1, 1] = -1.0
    convolution.bias[6], convolution.bias[7] = _CONSTANT, -_CONSTANT


def _carry(convolution: nn.Conv2d, weight: float) -> None:
    """Carried channels pass unmixed: the centre at stride 1, the average of 2 x 2 pixels at stride 2."""
    convolution.weight[:_CARRIED].zero_()
    convolution.bias[:_CARRIED].zero_()
    for channel in range(_CARRIED):
        if weight == 1.0:
            middle = convolution.kernel_size[0] // 2
            convolution.weight[channel, channel, middle, middle] = 1.0
        else:
            convolution.weight[channel, channel, :2, :2] = weight


def _leave(convolution: nn.Conv2d) -> None:
    """Colours out through silu(x) - silu(-x); the other channels speak softly at first."""
    convolution.weight.mul_(_DETAIL_GAIN)
    convolution.bias.zero_()
    for colour in range(3):
        convolution.weight[colour].zero_()
        convolution.weight[colour, colour, 1, 1] = 1.0
        convolution.weight[colour, 3 + colour, 1, 1] = -1.0
