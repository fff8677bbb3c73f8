"""Small diffusers modules with random weights, and a manifest that fits them."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, DPTConfig, DPTForDepthEstimation

from calotype.manifest import Manifest, TimeEmbedding
from calotype_export.signatures import Sizes

WIDTH = 16  # of the embeddings
SIZES = Sizes(embedding_width=WIDTH, pixels={})


def unet(channels: int = 4, **config: Any) -> UNet2DConditionModel:
    """A UNet with two levels."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        in_channels=channels,
        block_out_channels=(16, 32),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **config,
    ).eval()


def vae() -> AutoencoderKL:
    """A VAE with four levels, 8 pixels a latent."""
    torch.manual_seed(0)
    config: dict[str, Any] = {
        "block_out_channels": (8, 8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "latent_channels": 4,
        "norm_num_groups": 8,
    }
    return AutoencoderKL(**config).eval()


def text_encoder() -> CLIPTextModel:
    """A text encoder with three layers."""
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=300, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=3, num_attention_heads=4
    )
    model = CLIPTextModel(config).eval()
    torch.nn.init.normal_(model.final_layer_norm.weight)
    return model


def depth_estimator(**config: Any) -> Any:
    """A DPT for pictures of 64x64, whose weights make one depth of a picture unlike another; norms have statistics."""
    torch.manual_seed(0)
    widths = {"hidden_size": 32, "intermediate_size": 64, "fusion_hidden_size": 16}
    layers = {
        "num_hidden_layers": 4,
        "backbone_out_indices": [0, 1, 2, 3],
        "neck_hidden_sizes": [16, 16, 32, 32],
    }
    settings = DPTConfig(**widths, **layers, num_attention_heads=4, image_size=64, patch_size=16, **config)
    model: Any = DPTForDepthEstimation(settings).eval().requires_grad_(False)
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
    for name, statistics in model.named_buffers():
        if name.endswith("running_mean"):
            statistics.normal_(0, 0.1)
        if name.endswith("running_var"):
            statistics.uniform_(0.5, 1.5)
    # most depths above what the ReLU behind it makes 0
    nn.init.constant_(model.head.head[4].bias, 2.0)
    return model


def manifest(conditioning: tuple[str, ...] = (), guided: bool = True, timestep_cond: int = 0) -> Manifest:
    """What export decided: 64 x 48 pixels, 8 x 6 latents."""
    return Manifest(
        family="custom",
        height=64,
        width=48,
        latent_channels=4,
        vae_scale_factor=8,
        batches=(1, 2),
        precision="fp32",
        guided=guided,
        conditioning=conditioning,
        state_slots=5,
        time_embedding=TimeEmbedding(16, True, 0.0),
        timestep_cond=timestep_cond,
        max_length=77,
        programs=(),
        files=(),
    )
