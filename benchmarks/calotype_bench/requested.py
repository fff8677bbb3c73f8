"""From a command's options to the jobs that every engine is given, and the task that they are."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from PIL import Image

from calotype.bundle import Bundle
from calotype.errors import RequestError
from calotype.manifest import Manifest
from calotype.request import Request
from calotype_bench.jobs import (
    DEPTH_TO_IMAGE,
    IMAGE_TO_IMAGE,
    INPAINTING,
    PROMPT,
    TEXT_TO_IMAGE,
    Job,
)


def task(options: argparse.Namespace, bundles: Sequence[Bundle]) -> str:
    """What the bundles do with the pictures that were given. RequestError where they can do nothing with them."""
    found = {_task(options, bundle.manifest) for bundle in bundles}
    if len(found) > 1:
        raise RequestError(f"bundles: expected one task, found {', '.join(sorted(found))}")
    return found.pop()


def _task(options: argparse.Namespace, manifest: Manifest) -> str:
    conditioning = manifest.conditioning
    if options.mask is not None and options.image is None:
        raise RequestError("--mask: there is no picture to paint into", "--image FILE")
    if options.strength is not None and options.image is None:
        raise RequestError("--strength: there is no picture to start from", "--image FILE")
    given = " and ".join(f"--{name}" for name in ("image", "mask") if getattr(options, name) is not None)
    if "mask" in conditioning and options.mask is None:
        raise RequestError(f"an inpainting bundle: expected --image and --mask, found {given or 'neither'}")
    if "depth" in conditioning and given != "--image":
        raise RequestError(f"a depth bundle: expected --image, found {given or 'none'}")
    if "depth" in conditioning:
        return DEPTH_TO_IMAGE
    return {"": TEXT_TO_IMAGE, "--image": IMAGE_TO_IMAGE, "--image and --mask": INPAINTING}[given]


def timed(options: argparse.Namespace, bundle: Bundle) -> list[Job]:
    """One request with every number of steps and every number of pictures. RequestError."""
    return [
        _job(options, bundle.manifest, options.prompt, options.seed, steps, batch)
        for steps, batch in product(options.steps, options.batch)
    ]


def compared(options: argparse.Namespace, bundle: Bundle) -> list[Job]:
    """Every prompt with every seed. RequestError."""
    return [
        _job(options, bundle.manifest, prompt, seed, options.steps)
        for prompt in _prompts(options.prompts)
        for seed in options.seeds
    ]


def _job(
    options: argparse.Namespace, manifest: Manifest, prompt: str, seed: int, steps: int, batch: int = 1
) -> Job:
    """RequestError where a picture cannot be read, or nothing would be drawn."""
    size = manifest.width, manifest.height
    given = {name: _picture(f"--{name}", getattr(options, name), size) for name in ("image", "mask")}
    strength = _strength(options)
    if int(steps * strength) < 1:
        raise RequestError(f"--steps {steps} at --strength {strength:g}: expected at least one that is taken")
    return Job(
        prompt,
        steps,
        seed,
        options.scheduler,
        options.guidance_scale,
        batch,
        *size,
        **given,
        strength=strength,
    )


def _strength(options: argparse.Namespace) -> float:
    """As given, or as the pipeline's requests have it. RequestError."""
    if options.strength is None:
        return Request(prompt="", image=options.image, mask_image=options.mask).noise_share
    if not 0 < options.strength <= 1:  # also where it is no number
        raise RequestError(f"--strength {options.strength}: expected more than 0, and 1 at most")
    return options.strength


def _picture(option: str, path: Path | None, size: tuple[int, int]) -> str:
    """Its name; empty where none was given."""
    if path is None:
        return ""
    try:
        with Image.open(path) as picture:
            found = picture.size
    except OSError as error:
        raise RequestError(f"{option}: {path} is no picture that can be read: {error}") from error
    if found != size:  # or libraries would resize it, each in its own way
        expected, actual = ("x".join(map(str, each)) for each in (size, found))
        raise RequestError(f"{option}: {path}: expected {expected}, found {actual}", "resize it first")
    return str(path)


def _prompts(path: Path | None) -> list[str]:
    if path is None:
        return [PROMPT]
    try:
        found = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeError) as error:
        raise RequestError(f"--prompts: {path} cannot be read: {error}") from error
    if not found:
        raise RequestError(f"--prompts: {path} holds no prompt", "write one a line")
    return found
