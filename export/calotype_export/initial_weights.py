"""Random weights that behave: a module's tensor names and shapes in, values of a known scale out.

Every matrix maps unit variance to unit variance (He et al. 2015, eq. 10), residual branches end in a smaller gain,
and what a model returns is preceded by a normalisation, so its scale follows from the weights alone. A UNet that
predicts noise gets a path for its input around the network: it then predicts mostly the noise that it is given, as
a trained one does, and pictures neither explode nor collapse along a schedule.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

SILU = 1.68  # 1 / sqrt(E[silu(x)^2]) for x ~ N(0, 1)
NOISE_SHARE = 0.9  # correlation of an epsilon prediction with the noise in the input
_LATENT = 1 / 0.18215  # standard deviation of unscaled latents

Gains = Sequence[tuple[str, float]]  # (pattern of the tensor's name, gain); the first that matches counts

_TRANSFORMER: Gains = (
    (r"\.(to_q|to_k|q_proj|k_proj|query|key)\.", 1.5),
    (r"attn2\.to_out\.", 1.0),
    (r"\.(to_out\.0|out_proj|fc2|ff\.net\.2|output\.dense)\.", 0.6),
)
_RESNET: Gains = (
    (r"\.conv2\.", 0.6),
    (r"\.conv1\.|time_embedding\.linear_2|time_emb_proj", SILU),
)
GAINS: Mapping[str, Gains] = {
    "UNet2DConditionModel": (
        *_TRANSFORMER,
        *_RESNET,
        (r"\.proj_out\.", 0.5),
        (r"^conv_out\.", SILU),
    ),
    "AutoencoderKL": (
        *_TRANSFORMER,
        *_RESNET,
        (r"^encoder\.conv_out\.", SILU * _LATENT),
        (r"^decoder\.conv_in\.", 1 / _LATENT),
        (r"^decoder\.conv_out\.", SILU * 0.5),
    ),
    "CLIPTextModel": ((r"position_embedding", 0.3), *_TRANSFORMER),
    "StableDiffusionSafetyChecker": ((r"position_embedding", 0.3), *_TRANSFORMER),
    "DPTForDepthEstimation": (
        *_TRANSFORMER,
        (r"position_embeddings", 0.3),
        (r"residual_layer\d\.convolution1\.", 1.4),
        (r"residual_layer\d\.convolution2\.", 0.7),
    ),
}


def initial(
    class_name: str, config: Mapping[str, Any], name: str, shape: Sequence[int], seed: int
) -> torch.Tensor:
    """The float32 tensor `name` of the module `class_name`; the same for the same arguments, in any order."""
    digest = hashlib.sha256(f"{seed}/{class_name}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
    gain = next((gain for pattern, gain in GAINS[class_name] if re.search(pattern, name)), 1.0)
    if name.endswith("_embeds_weights"):
        return torch.full(
            tuple(shape), 0.95
        )  # the safety checker's thresholds, above any cosine of random vectors
    values = torch.randn(tuple(shape), generator=generator)
    if len(shape) == 1 and not name.endswith("class_embedding"):
        values.mul_(0.05)
        if name.endswith("weight"):
            values.add_(1.0)
    else:
        values.mul_(gain if "embed" in name and "patch" not in name and "time_emb" not in name
                    else gain / _fan_in(shape) ** 0.5)  # fmt: skip
    return _special(class_name, config, name, values)


def _fan_in(shape: Sequence[int]) -> int:
    return int(torch.Size(shape[1:]).numel())


def _special(class_name: str, config: Mapping[str, Any], name: str, values: torch.Tensor) -> torch.Tensor:
    """The few tensors that are more than noise."""
    if class_name == "UNet2DConditionModel" and config["prediction_type"] == "epsilon":
        _pass_noise(config, name, values)
    if class_name == "AutoencoderKL" and name.endswith("quant_conv.weight"):
        values.copy_(torch.eye(values.shape[0])[:, :, None, None])
    if name == "encoder.conv_out.weight":
        values[4:].mul_(0.2 / _LATENT)
    if name == "encoder.conv_out.bias":
        values[4:].sub_(2.0)  # deviation exp(-1): a posterior whose draw can be seen
    if name == "head.head.4.weight":
        values.abs_()  # depth is positive: the head ends in a ReLU
    return values


def _pass_noise(config: Mapping[str, Any], name: str, values: torch.Tensor) -> None:
    """Carry the latents and their negative in eight channels along the outermost skip connection.

    conv_in -> skip -> last resnet's shortcut -> group norm -> silu -> conv_out, where silu(x) - silu(-x) = x.
    """
    width = config["block_out_channels"][0]
    signs = torch.cat([torch.eye(4), -torch.eye(4)])  # (8, 4)
    last = f"up_blocks.{len(config['block_out_channels']) - 1}.resnets.{config['layers_per_block']}.conv_shortcut"
    if name == "conv_in.weight":
        values[:8] = 0
        values[:8, :4, 1, 1] = signs
    elif name == f"{last}.weight":
        values[:8] = 0
        values[:8, width : width + 8, 0, 0] = torch.eye(8)
    elif name == "conv_out.weight":
        values.mul_((1 - NOISE_SHARE**2) ** 0.5)
        values[:, :8, 1, 1] = NOISE_SHARE * signs.T
    elif name in {"conv_in.bias", f"{last}.bias"}:
        values[:8] = 0
