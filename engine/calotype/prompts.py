"""From a request's prompts to embeddings, and how strongly they guide: what the bundle's guidance allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotype.errors import RequestError
from calotype.manifest import Manifest
from calotype.request import Request, described
from calotype.text import Embeddings, TextEncoder

Array = NDArray[Any]


def settle(request: Request, manifest: Manifest) -> Request:
    """The request with the guidance that the bundle gives it: a `guidance_scale` of 1 where it is unguided.

    RequestError where an unguided bundle is asked for guidance by name. A UNet that takes `guidance_scale` beside the
    timestep (LCM) has no use for the rest.
    """
    if manifest.guided:
        return request
    distilled = manifest.timestep_cond > 0
    asked = {
        "guidance_scale": not distilled and request.guidance_scale is not None and request.guidance_scale > 1,
        "guidance_rescale": request.guidance_rescale > 0,
        "negative_prompt": request.negative_prompt is not None,
        "negative_prompt_embeds": request.negative_prompt_embeds is not None,
    }
    for name, given in asked.items():
        if given:
            raise RequestError(
                f"`{name}` was given, but this bundle is unguided: its step has no classifier-free guidance",
                f"drop `{name}`" + ("" if distilled else ", or export without `--unguided`"),
            )
    return request if distilled else dataclasses.replace(request, guidance_scale=1.0)


def listed(prompt: str | Sequence[str]) -> list[str]:
    """One string a prompt. RequestError for anything else."""
    given: Any = prompt
    prompts = [given] if isinstance(given, str) else given
    if not isinstance(prompts, list | tuple) or not all(isinstance(one, str) for one in prompts):
        raise RequestError(f"`prompt`: expected a string or a list of them, found {given!r}")
    return list(prompts)


def embeddings(request: Request, manifest: Manifest, text: TextEncoder) -> Embeddings:
    """Embeddings (n, T, D) of a settled request's prompts, each repeated `num_images_per_prompt` times in a row.

    RequestError where given embeddings are not what the step takes.
    """
    if request.prompt_embeds is not None:
        prompt = np.asarray(request.prompt_embeds, np.float32)
    else:
        prompt = text.encode(listed(request.prompt or ""), request.clip_skip)
    _check(prompt, manifest)
    repeats = request.num_images_per_prompt
    if not manifest.guided or request.guidance <= 1:
        return Embeddings(np.repeat(prompt, repeats, axis=0))
    if request.negative_prompt_embeds is not None:
        negative = np.asarray(request.negative_prompt_embeds, np.float32)
    else:  # without clip_skip, as in diffusers' encode_prompt
        unwanted = listed(request.negative_prompt or "")
        negative = text.encode(unwanted * (len(prompt) // len(unwanted)))
    if negative.shape != prompt.shape or not np.isfinite(negative).all():
        raise RequestError(
            f"`negative_prompt_embeds`: expected the prompt's shape, {prompt.shape}, and finite numbers, "
            f"found shape {negative.shape}"
        )
    return Embeddings(np.repeat(prompt, repeats, axis=0), np.repeat(negative, repeats, axis=0))


def _check(prompt: Array, manifest: Manifest) -> None:
    step = next(spec for spec in manifest.programs if spec.name == "unet_step")
    expected = step.input("embeddings").shape[1:]
    if prompt.ndim != 3 or prompt.shape[1:] != expected or not np.isfinite(prompt).all():
        sides = ", ".join(map(str, expected))
        raise RequestError(
            f"`prompt_embeds`: expected finite numbers of shape (n, {sides}), found {described(prompt)}"
        )
