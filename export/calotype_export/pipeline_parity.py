"""The whole pipeline against eager diffusers: the same prompt and seeds through both, latents and pictures compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from calotype.bundle import Bundle
from calotype.errors import ParityError
from calotype.manifest import Manifest
from calotype.pipeline import Pipeline
from calotype_export import eager
from calotype_export.checkpoint import Checkpoint
from calotype_export.gates import PIXELS_WITHIN, Array, check_picture, distance, gate, pixels_within
from calotype_export.one_at_a_time import OneAtATime
from calotype_export.programs import COMPONENTS
from calotype_export.progress import Progress
from calotype_export.sources import DTYPES, Sources

PROMPT = "a painting of a lighthouse in a storm"
STEPS = 4
SEEDS = (0, 1)


def compare(bundle: Bundle, sources: Sources, backend: str, progress: Progress) -> Mapping[str, Any]:
    """The record of final latents and pictures. ParityError where they miss their gate."""
    manifest, stage = bundle.manifest, "compare pipeline"
    progress(stage, 0, 3)
    precisions = {COMPONENTS[spec.name]: spec.precision for spec in manifest.programs}
    latents, pictures = _eager(bundle, sources, dict.fromkeys(precisions, "fp32"))
    progress(stage, 1, 3)
    exact = set(precisions.values()) == {"fp32"}
    rounding = None if exact else distance(_eager(bundle, sources, precisions)[0], latents)
    progress(stage, 2, 3)
    found, drawn = _compiled(bundle, backend)
    # where only the VAE is rounded, latents that are drawn from noise alone are float32's
    rounded = rounding if rounding is not None and rounding.relative_l2 != 0 else None
    figures, bound = distance(found, latents), gate("the whole pipeline", "pipeline", rounded)
    bound.check(figures, backend)
    within = min(pixels_within(one, other) for one, other in zip(drawn, pictures, strict=True))
    if exact and within < PIXELS_WITHIN:
        raise ParityError(
            f"the whole pipeline misses its gate in {backend}: expected at least {PIXELS_WITHIN:.1%} of the pixels "
            f"within 1/255 of eager diffusers, found {within:.2%}",
            "the VAE decoder's own figure is the place to look",
        )
    for picture in drawn:
        check_picture("the whole pipeline", picture)
    progress(stage, 3, 3)
    return {
        "prompt": PROMPT,
        "scheduler": bundle.json("scheduler.json")["_class_name"],
        "num_inference_steps": STEPS,
        "seeds": list(SEEDS),
        "latents": {**dataclasses.asdict(figures), "bound": bound.bound, "reason": bound.reason},
        "pixels_within_1_255": within,
    }


def request(manifest: Manifest) -> dict[str, Any]:
    """Arguments that diffusers' pipeline of this family and `calotype.Pipeline` both take."""
    arguments: dict[str, Any] = {
        "prompt": PROMPT,
        "num_inference_steps": STEPS,
        "guidance_scale": 7.5 if manifest.guided or manifest.timestep_cond else 1.0,
        "output_type": "latent",
    }
    if manifest.conditioning:
        arguments["image"] = _picture(manifest.height, manifest.width)
    if "mask" in manifest.conditioning:
        mask = Image.new("L", (manifest.width, manifest.height))
        mask.paste(255, (0, 0, manifest.width // 2, manifest.height // 2))
        arguments["mask_image"] = mask
    return arguments


def _picture(height: int, width: int) -> Image.Image:
    patches = np.random.default_rng(0).integers(
        0, 256, (-(-height // 16), -(-width // 16), 3), dtype=np.uint8
    )
    return Image.fromarray(patches.repeat(16, axis=0).repeat(16, axis=1)[:height, :width])


def _eager(
    bundle: Bundle, sources: Sources, precisions: Mapping[str, str]
) -> tuple[list[Array], list[Array]]:
    """Final latents and pictures of diffusers, one of each a seed.

    One model is in memory at a time; the safety checker, which changes no latents, is never loaded.
    """
    checkpoint = sources.checkpoint
    models = OneAtATime(checkpoint, {name: DTYPES[precision] for name, precision in precisions.items()})
    with torch.inference_mode():
        embeddings = _embeddings(checkpoint, models, bundle.manifest.guided)
        drawing = set(checkpoint.components) - {"text_encoder", "safety_checker"}
        pipeline = eager.pipeline(checkpoint, {name: models.stand_in(name) for name in drawing})
        latents = _drawn(bundle, pipeline, embeddings)
        vae = models.get("vae")
        decoded = [
            vae.decode(one.to(vae.dtype) / vae.config.scaling_factor).sample.float() for one in latents
        ]
    pictures = [(one / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy() for one in decoded]
    return [one.float().numpy() for one in latents], pictures


def _embeddings(checkpoint: Checkpoint, models: OneAtATime, guided: bool) -> Mapping[str, Tensor | None]:
    """Arguments that stand for the prompt, and where there is guidance for the empty one: (1, T, D) each."""
    pipeline = eager.pipeline(checkpoint, {"text_encoder": models.get("text_encoder")})
    prompt, negative = pipeline.encode_prompt(PROMPT, "cpu", 1, guided)
    return {"prompt_embeds": prompt, "negative_prompt_embeds": negative}


def _drawn(bundle: Bundle, pipeline: Any, embeddings: Mapping[str, Tensor | None]) -> list[Tensor]:
    """Final latents (1, C, H, W) of each seed, drawn from `embeddings` with the bundle's scheduler."""
    import diffusers

    manifest, config = bundle.manifest, bundle.json("scheduler.json")
    if type(pipeline.scheduler).__name__ != config["_class_name"] or manifest.source.get("scheduler"):
        pipeline.scheduler = getattr(diffusers, config["_class_name"]).from_config(dict(config))
    arguments = {**request(manifest), **embeddings, "prompt": None}
    if "depth" not in manifest.conditioning:  # which takes its size from the picture
        arguments |= {"height": manifest.height, "width": manifest.width}
    return [
        pipeline(**arguments, generator=torch.Generator("cpu").manual_seed(seed)).images for seed in SEEDS
    ]


def _compiled(bundle: Bundle, backend: str) -> tuple[list[Array], Sequence[Array]]:
    """The same of the bundle's own programs, with the smallest batch."""
    pipeline = Pipeline.load(bundle, backend, batches=bundle.manifest.batches[:1])
    latents = [
        np.asarray(pipeline(**request(bundle.manifest), seed=seed).images, dtype=np.float32) for seed in SEEDS
    ]
    pictures = [np.asarray(pipeline.decode_latents(one)) for one in latents]
    pipeline.close()
    return latents, pictures
