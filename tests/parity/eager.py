"""Eager diffusers and a pipeline of Calotype side by side: the same request to both, the difference back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import torch
from numpy.typing import NDArray

from calotype import Pipeline

Array = NDArray[Any]

WAYS = {
    "text-to-image": "StableDiffusionPipeline",
    "image-to-image": "StableDiffusionImg2ImgPipeline",
    "inpainting": "StableDiffusionInpaintPipeline",
    "depth-to-image": "StableDiffusionDepth2ImgPipeline",
}

KARRAS = {"use_karras_sigmas": True}
EXPONENTIAL = {"use_exponential_sigmas": True}
BETA = {"use_beta_sigmas": True}
RULES: dict[str, dict[str, Any]] = {"": {}, "_karras": KARRAS, "_exponential": EXPONENTIAL, "_beta": BETA}


def _with_rules(
    name: str, kind: str, changes: Mapping[str, Any] | None = None
) -> dict[str, tuple[str, dict[str, Any]]]:
    return {name + rule: (kind, {**(changes or {}), **extra}) for rule, extra in RULES.items()}


# Calotype's short name: the diffusers class and what its config is changed by
SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("DDPMScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    **_with_rules("lms", "LMSDiscreteScheduler"),
    **_with_rules("euler", "EulerDiscreteScheduler"),
    **_with_rules("heun", "HeunDiscreteScheduler"),
    **_with_rules("dpm2", "KDPM2DiscreteScheduler"),
    **_with_rules("dpm2_a", "KDPM2AncestralDiscreteScheduler"),
    **_with_rules("dpmpp_2m", "DPMSolverMultistepScheduler"),
    **_with_rules("dpmpp_2m_sde", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    **_with_rules("dpmpp_2s", "DPMSolverSinglestepScheduler"),
    **_with_rules("unipc", "UniPCMultistepScheduler"),
    **_with_rules("deis", "DEISMultistepScheduler"),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """How far two results of one request are apart."""

    latents: float  # relative L2
    pixels: float  # share of pixel values that differ by more than 1 of 255

    def check(self) -> None:
        """The project's gate for fp32."""
        assert self.latents <= 1e-4
        assert self.pixels <= 1e-3


class Eager:
    """A checkpoint in eager diffusers, with a fresh scheduler for each request; noise is float32's in float64 too."""

    def __init__(self, checkpoint: Path, way: str, dtype: torch.dtype = torch.float32) -> None:
        kind: Any = getattr(diffusers, WAYS[way])
        options = (
            {} if way == "depth-to-image" else {"safety_checker": None, "requires_safety_checker": False}
        )
        self.pipeline: Any = kind.from_pretrained(checkpoint, torch_dtype=dtype, **options)
        self.pipeline.set_progress_bar_config(disable=True)
        self._config = dict(self.pipeline.scheduler.config)

    def schedule_with(self, scheduler: str) -> None:
        """Give the pipeline a new scheduler, by Calotype's short name for it."""
        class_name, changes = SCHEDULERS[scheduler]
        self.pipeline.scheduler = getattr(diffusers, class_name).from_config(self._config, **changes)

    def draw(self, scheduler: str, request: Mapping[str, Any]) -> tuple[Array, Array]:
        """Final latents (n, C, H, W) and pictures (n, h, w, 3) in [0, 1]."""
        self.schedule_with(scheduler)
        arguments = dict(request)
        seed: Any = arguments.pop("seed")
        seeds: list[int] = list(seed) if isinstance(seed, list) else [int(seed)]
        generators = [torch.Generator().manual_seed(each) for each in seeds]
        generator: Any = generators if isinstance(seed, list) else generators[0]
        with torch.no_grad(), mock.patch("torch.randn", _float32_draws):
            latents = self.pipeline(**arguments, generator=generator, output_type="latent").images
            decoded = self.pipeline.vae.decode(latents / self.pipeline.vae.config.scaling_factor).sample
        pictures = (decoded / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
        return latents.numpy(), pictures.numpy()


def compare(eager: Eager, pipeline: Pipeline, scheduler: str, request: Mapping[str, Any]) -> Difference:
    """The same `request` through both."""
    expected, expected_pictures = eager.draw(scheduler, request)
    found = draw_latents(pipeline, scheduler, request)
    pictures = pipeline.decode_latents(found)
    apart = np.abs(np.round(pictures * 255) - np.round(expected_pictures * 255)) > 1
    return Difference(distance(found, expected), float(apart.mean()))


def draw_latents(pipeline: Pipeline, scheduler: str, request: Mapping[str, Any]) -> Array:
    """Final latents (n, C, H, W) of a request that may hold tensors."""
    arguments = {name: _numpy(value) for name, value in request.items()}
    return pipeline(**arguments, scheduler=scheduler, output_type="latent").images


def distance(found: Array, expected: Array) -> float:
    """Relative L2, in float64."""
    exact = expected.astype(np.float64)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


_randn = torch.randn


def _float32_draws(*shape: Any, dtype: torch.dtype | None = None, **options: Any) -> torch.Tensor:
    return _randn(*shape, dtype=torch.float32, **options).to(dtype or torch.float32)


def _numpy(value: Any) -> Any:
    return value.numpy() if isinstance(value, torch.Tensor) else value
