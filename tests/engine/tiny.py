"""Pipelines over the tiny bundles, loaded once, for the tests that draw."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from calotype import Pipeline
from calotype.backends import Array
from tests.bundles import bundle

PROMPT = "a red circle on a blue wall"


@cache
def pipeline_of(name: str) -> Pipeline:
    return Pipeline.load(bundle(name), "onnxruntime", threads=1)


def latents_of(name: str, **arguments: Any) -> Array:
    request: dict[str, Any] = {"prompt": PROMPT, "num_inference_steps": 4, "output_type": "latent"}
    return pipeline_of(name)(**request | arguments).images


def picture(name: str = "plain") -> Image.Image:
    """A picture of the bundle's size, darkest above and lightest below."""
    manifest = pipeline_of(name).manifest
    values = np.linspace(0, 255, manifest.height * manifest.width * 3)
    return Image.fromarray(values.reshape(manifest.height, manifest.width, 3).astype(np.uint8))


def mask(name: str = "plain") -> Image.Image:
    """A mask of the bundle's size that has the lower half drawn."""
    drawn = np.zeros(picture(name).size[::-1], np.uint8)
    drawn[len(drawn) // 2 :] = 255
    return Image.fromarray(drawn)
