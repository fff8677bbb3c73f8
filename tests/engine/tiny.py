"""Pipelines over the tiny bundles, loaded once, for the tests that draw."""

from __future__ import annotations

from functools import cache
from typing import Any

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
