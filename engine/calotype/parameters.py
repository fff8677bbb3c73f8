"""How a picture was made, as plain values: what goes into its metadata and into `Result.parameters`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from calotype.bundle import Bundle
from calotype.lora import LoraFile
from calotype.planning import options_of
from calotype.request import Request
from calotype.schedule import Schedule

_ARRAYS = (
    "image", "mask_image", "masked_image_latents", "depth_map", "latents", "prompt_embeds", "negative_prompt_embeds",
)  # fmt: skip
_PLAIN = (
    "prompt", "negative_prompt", "mask_prompt", "padding_mask_crop", "guidance_rescale", "num_images_per_prompt",
    "eta", "clip_skip", "scheduler", "noise_source",
)  # fmt: skip


def describe(
    request: Request,
    bundle: Bundle,
    schedule: Schedule,
    seeds: tuple[int, ...],
    backend: str,
    loras: Sequence[LoraFile] = (),
) -> dict[str, Any]:
    """The request's plain arguments with what was filled in, the bundle's digest, LoRA files and the backend.

    Pictures and arrays are named as given, not kept.
    """
    described: dict[str, Any] = {}
    for name in _PLAIN:
        value = getattr(request, name)
        if value is not None:
            described[name] = _plain(value)
    # those of `timesteps` or `sigmas`, where given
    described["num_inference_steps"] = _plain(options_of(request).steps)
    if request.sigmas is not None:
        described["sigmas"] = [float(sigma) for sigma in request.sigmas]
    described["guidance_scale"] = _plain(request.guidance)
    for name in _ARRAYS:
        if getattr(request, name) is not None:
            described[name] = "given"
    if request.image is not None:
        described["strength"] = _plain(request.noise_share)
    described["timesteps"] = [float(timestep) for timestep in schedule.timesteps]
    described["seed"] = seeds[0] if len(seeds) == 1 else list(seeds)
    described["scheduler"] = request.scheduler or schedule.name
    described["width"], described["height"] = bundle.manifest.width, bundle.manifest.height
    if loras:
        described["lora"] = [f"{file.path.name}:{file.weight:g}" for file in loras]
    return described | {"bundle": bundle.digest, "backend": backend}


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: Python's own numbers, and lists."""
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value
