"""The named input tensors of every program, and examples of them: for tracing, and to compare programs on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.models.embeddings import get_timestep_embedding
from numpy.random import Generator
from numpy.typing import NDArray

from calotype.manifest import Manifest, TensorSpec

FIRST_TOKENS = 256  # CLIP's vocabularies begin with the bytes
TRAINING_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of the components that the manifest does not state."""

    embedding_width: int  # of the text encoder
    pixels: Mapping[str, tuple[int, int]]  # height and width of `pixel_values`, by program


def inputs(program: str, batch: int, manifest: Manifest, sizes: Sizes) -> tuple[TensorSpec, ...]:
    """The inputs of `program`; of the manifest only the decisions are read, not the programs."""
    H, W = manifest.height // manifest.vae_scale_factor, manifest.width // manifest.vae_scale_factor
    if program == "text_encoder":  # the prompt and the negative one at once read its weights once
        return (TensorSpec("input_ids", "int64", (1 + manifest.guided, manifest.max_length)),)
    if program == "vae_encoder":
        return (TensorSpec("image", "float32", (1, 3, manifest.height, manifest.width)),)
    if program == "vae_decoder":
        return (TensorSpec("latents", "float32", (1, manifest.latent_channels, H, W)),)
    if program == "unet_step":
        return _step_inputs(batch, manifest, sizes.embedding_width)
    pixels = TensorSpec("pixel_values", "float32", (1, 3, *sizes.pixels[program]))
    if program == "segmenter":
        names = "input_ids", "attention_mask"
        return pixels, *(TensorSpec(name, "int64", (1, manifest.max_length)) for name in names)
    return (pixels,)


def _step_inputs(batch: int, manifest: Manifest, embedding_width: int) -> tuple[TensorSpec, ...]:
    B, S, C, F = batch, manifest.state_slots, manifest.latent_channels, manifest.time_embedding.width
    H, W = manifest.height // manifest.vae_scale_factor, manifest.width // manifest.vae_scale_factor
    shapes = {
        "state": (B, S, C, H, W),
        "read": (B, S),
        "write": (B, S, S + 2),
        "time_features": (B, F),
        "noise": (B, C, H, W),
        "embeddings": (2 * B if manifest.guided else B, manifest.max_length, embedding_width),
        "guidance": (B,),
        "guidance_rescale": (B,),
        "timestep_cond": (B, manifest.timestep_cond),
        "mask": (B, 1, H, W),
        "masked_latents": (B, C, H, W),
        "depth": (B, 1, H, W),
        "keep": (B, 1, H, W),
        "original": (B, C, H, W),
        "original_noise": (B, C, H, W),
        "blend": (B, 2),
    }
    names = ["state", "read", "write", "time_features", "noise", "embeddings"]
    names += ["guidance", "guidance_rescale"] if manifest.guided else []
    names += ["timestep_cond"] if manifest.timestep_cond else []
    names += manifest.conditioning or ["keep", "original", "original_noise", "blend"]
    return tuple(TensorSpec(name, "float32", shapes[name]) for name in names)


def example(wanted: Iterable[TensorSpec], seed: int) -> dict[str, NDArray[Any]]:
    """Plausible values of the tensors `wanted`, the same for the same seed.

    With an odd seed a row of `write` keeps the prediction alone and nothing is blended over it, so that a
    comparison sees the UNet; with an even one every slot is a mixture of everything.
    """
    values = {
        spec.name: _example(spec, np.random.default_rng([seed, *spec.name.encode()])) for spec in wanted
    }
    if seed % 2:
        for name in {"write", "keep", "guidance_rescale"} & values.keys():
            values[name][...] = 0
        if "write" in values:
            values["write"][:, :, -2] = 1
    return values


def example_tensors(wanted: Iterable[TensorSpec], seed: int) -> dict[str, torch.Tensor]:
    """`example` for torch."""
    return {name: torch.from_numpy(value) for name, value in example(wanted, seed).items()}


def _example(spec: TensorSpec, random: Generator) -> NDArray[Any]:
    shape = spec.shape
    match spec.name:
        case "input_ids":
            value = random.integers(0, FIRST_TOKENS, shape)
        case "attention_mask":
            value = np.ones(shape)
        case "image" | "pixel_values" | "depth":
            value = _picture(shape, random)
        case "mask" | "keep":
            value = random.uniform(size=shape) < 0.5
        case "guidance":
            value = np.where(np.arange(shape[0]) % 2 == 0, 7.5, 1.0)  # every second row without guidance
        case "guidance_rescale":
            value = np.full(shape, 0.7)
        case "time_features":
            timesteps = torch.from_numpy(random.uniform(0, TRAINING_STEPS, shape[0]))
            value = get_timestep_embedding(
                timesteps, shape[1], flip_sin_to_cos=True, downscale_freq_shift=0
            ).numpy()
        case "read":
            value = random.standard_normal(shape) / np.sqrt(shape[-1])  # the sample keeps the variance 1
        case _:
            value = random.standard_normal(shape)
    return np.ascontiguousarray(value, dtype=spec.dtype)


def _picture(shape: tuple[int, ...], random: Generator) -> NDArray[Any]:
    """Patches of 16 by 16 pixels in [-1, 1]."""
    patches = random.uniform(-1, 1, (*shape[:-2], -(-shape[-2] // 16), -(-shape[-1] // 16)))
    return patches.repeat(16, axis=-2).repeat(16, axis=-1)[..., : shape[-2], : shape[-1]]
