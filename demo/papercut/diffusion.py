"""The UNets: built, trained on cached latents with v-prediction, and grown by extra input channels."""

# diffusers, transformers and torch annotate less than they take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportReturnType=false, reportCallIssue=false
from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from papercut.autoencoder import device
from papercut.dataset import Examples
from papercut.loop import Schedule, fit
from papercut.text import tokenise

_LATENT_CHANNELS = 4
# Captions replaced by the empty one, for classifier-free guidance (Ho and Salimans 2022).
_EMPTY_SHARE = 0.1
# Channels of the levels at 32, 16 and 8 cells a side; the level at 64 has as many as that at 32.
_WIDTHS = (32, 72, 104)
_OBJECT_DISTANCE = 0.4
_OBJECT_WEIGHT = 3.0


@dataclass(frozen=True, slots=True)
class Course:
    """One training stage: its checkpoint's name, batch size, schedule and seed, and the noise's deviation.

    Noise averaged over 2 x 2 has half the deviation: an inner UNet is trained on what it will be given inside.
    """

    name: str
    batch: int
    schedule: Schedule
    seed: int
    noise: float = 1.0


def build_unet() -> UNet2DConditionModel:
    """A small text-to-image UNet: attention at an eighth of the latents' side, where most of the weights are."""
    return _build(64, (_WIDTHS[0], *_WIDTHS))


def build_inner_unet() -> UNet2DConditionModel:
    """`build_unet` without its outermost level: it paints latents averaged over 2 x 2."""
    return _build(32, _WIDTHS)


def _build(side: int, widths: tuple[int, ...]) -> UNet2DConditionModel:
    plain = len(widths) - 1
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        down_block_types=("DownBlock2D",) * plain + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * plain,
        block_out_channels=widths,
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=128,
        attention_head_dim=2,
    )


@torch.no_grad()
def add_outer_level(inner: UNet2DConditionModel) -> UNet2DConditionModel:
    """`build_unet` with the weights of `inner` inside; at first its outermost level averages, repeats and passes on.

    Inside, the picture keeps its scale: what `inner` knows of places and layouts holds on.
    """
    unet: Any = build_unet()
    weights = unet.state_dict()
    for name, weight in inner.state_dict().items():
        kind, _, rest = name.partition(".")
        level, _, part = rest.partition(".")
        weights[f"down_blocks.{int(level) + 1}.{part}" if kind == "down_blocks" else name] = weight.clone()
    unet.load_state_dict(weights)
    width = _WIDTHS[0]
    outer_down, outer_up = unet.down_blocks[0], unet.up_blocks[-1]
    for block in (*outer_down.resnets, *outer_up.resnets):
        nn.init.zeros_(block.conv2.weight)
        nn.init.zeros_(block.conv2.bias)
    identity = torch.eye(width)[:, :, None, None]
    for block in outer_up.resnets:  # of (what comes from inside, skip), 2 x width channels
        block.conv_shortcut.weight[:, :width] = identity
        block.conv_shortcut.weight[:, width:] = 0
        nn.init.zeros_(block.conv_shortcut.bias)
    for convolution, window in (
        (outer_down.downsamplers[0].conv, 2),
        (unet.up_blocks[-2].upsamplers[0].conv, 1),
    ):
        nn.init.zeros_(convolution.weight)
        nn.init.zeros_(convolution.bias)
        convolution.weight[:, :, 1 : 1 + window, 1 : 1 + window] = identity / window**2
    return unet


def build_scheduler() -> DDIMScheduler:
    """v-prediction on a noise schedule that ends in noise alone: sqrt(alpha_bar) is 0.0025 at the last step.

    With Stable Diffusion's own `beta_end` of 0.012 the last step still shows the picture's colours
    (Lin et al. 2024, "Common Diffusion Noise Schedules and Sample Steps are Flawed").
    """
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.03,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )


def grow(unet: UNet2DConditionModel, extra_channels: int) -> UNet2DConditionModel:
    """The same UNet with more input channels, whose weights are zero: it starts by ignoring them."""
    config = dict(unet.config)
    config["in_channels"] = unet.config["in_channels"] + extra_channels
    grown = UNet2DConditionModel.from_config(config)
    weights = copy.deepcopy(unet.state_dict())
    weights["conv_in.weight"] = functional.pad(weights["conv_in.weight"], (0, 0, 0, 0, 0, extra_channels))
    grown.load_state_dict(weights)
    return grown


class Painter(nn.Module):
    """A UNet with the text encoder that it listens to."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, sample: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The predicted velocity (B, 4, H, W) for `sample` (B, 4 + E, H, W) and token ids (B, 77)."""
        embeddings = self.text_encoder(tokens).last_hidden_state
        return self.unet(sample, timesteps, embeddings).sample


def train_unet(
    painter: Painter, examples: Examples, tokenizer: CLIPTokenizer, course: Course, cache: Path
) -> None:
    """Train the UNet in place; the text encoder is shared by all checkpoints and stays as it is."""
    painter.to(device()).text_encoder.requires_grad_(False)
    if device().type == "cpu":  # a third faster there than the fused attention, whose backward pass is slow
        painter.unet.set_attn_processor(AttnProcessor())
        nn.Module.to(painter.unet, memory_format=torch.channels_last)
    scheduler = build_scheduler()
    empty = tokenise(tokenizer, [""])[0]

    def loss_at(step: int) -> torch.Tensor:
        generator = np.random.default_rng((course.seed, 5, step))
        noises = torch.Generator().manual_seed(course.seed * 1_000_003 + step)
        latents, extras, tokens = _batch(examples, course.batch, generator)
        tokens[torch.from_numpy(generator.random(course.batch) < _EMPTY_SHARE)] = empty
        timesteps = torch.from_numpy(generator.integers(0, len(scheduler.alphas_cumprod), course.batch))
        noise = course.noise * torch.randn(latents.shape, generator=noises)
        sample = torch.cat([scheduler.add_noise(latents, noise, timesteps), extras], dim=1)
        target = scheduler.get_velocity(latents, noise, timesteps)
        with torch.autocast(device().type, torch.bfloat16):
            predicted = painter(sample.to(device()), timesteps.to(device()), tokens.to(device()))
        error = (predicted.float() - target.to(device())) ** 2
        return (_object_weight(latents).to(device()) * error).mean()

    fit(painter.unet, loss_at, course.schedule, cache / f"{course.name}.pt")


def _object_weight(latents: torch.Tensor) -> torch.Tensor:
    """Weights (B, 1, H, W) of mean 1: objects, which cover a tenth of a picture, count more than the background."""
    background = latents[:, :, :2].flatten(2).median(dim=2).values[:, :, None, None]
    is_object = ((latents - background).norm(dim=1, keepdim=True) > _OBJECT_DISTANCE).float()
    weight = 1 + _OBJECT_WEIGHT * is_object
    return weight / weight.mean()


def _batch(
    examples: Examples, size: int, generator: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = torch.from_numpy(generator.integers(len(examples.latents), size=size))
    captions = torch.from_numpy(generator.integers(examples.tokens.shape[1], size=size))
    return (
        examples.latents[rows].float(),
        examples.extras[rows].float(),
        examples.tokens[rows, captions].long(),
    )
