"""From a request's prompts to embeddings, and how strongly they guide: what the bundle's guidance allows."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from calotype.errors import RequestError
from calotype.manifest import Manifest
from calotype.request import Request, described
from calotype.text import Encoded, TextEncoder

Array = NDArray[Any]
T = TypeVar("T")


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


def embeddings(request: Request, manifest: Manifest, text: TextEncoder) -> Encoded:
    """Embeddings (T, D) of a settled request's prompts, each repeated `num_images_per_prompt` times in a row.

    Prompts and negative prompts go to the text encoder together. RequestError where given embeddings are not what the
    step takes.
    """
    prompt, texts = _half("prompt", request.prompt, request.prompt_embeds, manifest)
    wanted = [(words, request.clip_skip or 0) for words in texts]
    count, repeats = request.prompt_count, request.num_images_per_prompt
    if not manifest.guided or request.guidance <= 1:
        return Encoded(_repeated(prompt + text.encode(wanted), repeats))
    negative, unwanted = _half(
        "negative_prompt", request.negative_prompt, request.negative_prompt_embeds, manifest, count
    )
    # one for all prompts, or one for each; without clip_skip, as in diffusers' encode_prompt
    wanted += [(words, 0) for words in unwanted for _ in range(count // len(unwanted))]
    encoded = text.encode(wanted)
    prompt, negative = prompt + encoded[: len(texts)], negative + encoded[len(texts) :]
    return Encoded(_repeated(prompt, repeats), _repeated(negative, repeats))


def _half(
    name: str, texts: str | Sequence[str] | None, given: Any, manifest: Manifest, count: int | None = None
) -> tuple[list[Any], list[str]]:
    """Of one half of guidance, embeddings (T, D) that came with a request, or what is to be encoded."""
    if given is not None:
        return [*_given(f"{name}_embeds", given, manifest, count)], []
    return [], listed(texts or "")


def _given(name: str, value: Any, manifest: Manifest, count: int | None = None) -> Array:
    """Embeddings (n, T, D) that came with a request, `count` of them where that is known."""
    found = np.asarray(value, np.float32)
    step = next(spec for spec in manifest.programs if spec.name == "unet_step")
    shape = (count or len(found) if found.ndim else 0, *step.input("embeddings").shape[1:])
    if found.shape != shape or not np.isfinite(found).all():
        sides = ", ".join(map(str, (count or "n", *shape[1:])))
        raise RequestError(f"`{name}`: expected finite numbers of shape ({sides}), found {described(found)}")
    return found


def _repeated(rows: Sequence[T], times: int) -> list[T]:
    """Each of `rows` so many times in a row."""
    return [row for row in rows for _ in range(times)]
