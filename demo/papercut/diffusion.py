"""The UNets: built, trained on cached latents with v-prediction, and grown by extra input channels."""

# diffusers, transformers and torch annotate less than they take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportReturnType=false
from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
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
_OBJECT_DISTANCE = 0.4
_OBJECT_WEIGHT = 3.0


@dataclass(frozen=True, slots=True)
class Course:
    """One training stage: its checkpoint's name, batch size, schedule and seed."""

    name: str
    batch: int
    schedule: Schedule
    seed: int


def build_unet() -> UNet2DConditionModel:
    """A small text-to-image UNet: attention at a quarter of the latents' side, where most of the weights are."""
    return UNet2DConditionModel(
        sample_size=64,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 64, 104),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=128,
        attention_head_dim=4,
    )


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
    """A UNet with the text encoder that is trained together with it."""

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, sample: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """The predicted velocity (B, 4, H, W) for `sample` (B, 4 + E, H, W) and token ids (B, 77)."""
        embeddings = self.text_encoder(tokens).last_hidden_state
        return self.unet(sample, timesteps, embeddings).sample


def train_jointly(
    painter: Painter, examples: Examples, tokenizer: CLIPTokenizer, course: Course, cache: Path
) -> None:
    """Train UNet and text encoder together, in place."""
    painter.to(device())
    _fit(painter, painter, examples, tokenizer, course, cache)


def train_unet(
    painter: Painter, examples: Examples, tokenizer: CLIPTokenizer, course: Course, cache: Path
) -> None:
    """Train the UNet alone, in place; the text encoder is shared by all checkpoints and stays as it is."""
    painter.to(device()).text_encoder.requires_grad_(False)
    _fit(painter, painter.unet, examples, tokenizer, course, cache)


def _fit(
    painter: Painter,
    trained: nn.Module,
    examples: Examples,
    tokenizer: CLIPTokenizer,
    course: Course,
    cache: Path,
) -> None:
    scheduler = build_scheduler()
    empty = tokenise(tokenizer, [""])[0]

    def loss_at(step: int) -> torch.Tensor:
        generator = np.random.default_rng((course.seed, 5, step))
        noises = torch.Generator().manual_seed(course.seed * 1_000_003 + step)
        latents, extras, tokens = _batch(examples, course.batch, generator)
        tokens[torch.from_numpy(generator.random(course.batch) < _EMPTY_SHARE)] = empty
        timesteps = torch.from_numpy(generator.integers(0, len(scheduler.alphas_cumprod), course.batch))
        noise = torch.randn(latents.shape, generator=noises)
        sample = torch.cat([scheduler.add_noise(latents, noise, timesteps), extras], dim=1)
        target = scheduler.get_velocity(latents, noise, timesteps)
        with torch.autocast(device().type, torch.bfloat16):
            predicted = painter(sample.to(device()), timesteps.to(device()), tokens.to(device()))
        error = (predicted.float() - target.to(device())) ** 2
        return (_object_weight(latents).to(device()) * error).mean()

    fit(trained, loss_at, course.schedule, cache / f"{course.name}.pt")


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
