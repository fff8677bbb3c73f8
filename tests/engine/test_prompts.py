"""Guidance: its default, what is recorded, and that a bundle without it refuses what asks for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from calotype import RequestError
from calotype.prompts import settle
from calotype.request import Request
from tests.engine.tiny import PROMPT, latents_of, pipeline_of


def recorded(name: str, **arguments: Any) -> Any:
    request: dict[str, Any] = {"num_inference_steps": 1, "seed": 1, "output_type": "latent"}
    return pipeline_of(name)(PROMPT, **request | arguments).parameters["guidance_scale"]


def test_the_default_guidance_is_that_of_diffusers() -> None:
    np.testing.assert_array_equal(
        latents_of("plain", seed=1), latents_of("plain", seed=1, guidance_scale=7.5)
    )
    assert recorded("plain") == 7.5


@pytest.mark.parametrize("given", [{}, {"guidance_scale": 1.0}, {"guidance_scale": 0.0}])
def test_an_unguided_bundle_draws_and_records_no_guidance(given: dict[str, Any]) -> None:
    assert recorded("unguided", **given) == 1.0
    np.testing.assert_array_equal(latents_of("unguided", seed=1, **given), latents_of("unguided", seed=1))


@pytest.mark.parametrize(
    "given",
    [
        {"guidance_scale": 7.5},
        {"guidance_rescale": 0.5},
        {"negative_prompt": "blurry"},
        {"negative_prompt_embeds": np.zeros((1, 77, 8), np.float32)},
    ],
    ids=str,
)
def test_an_unguided_bundle_refuses_guidance_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=f"`{next(iter(given))}` was given, but this bundle is unguided"):
        latents_of("unguided", **given)


def test_encoding_for_an_unguided_bundle_refuses_a_negative_prompt() -> None:
    assert pipeline_of("unguided").encode_prompt(PROMPT).negative is None
    with pytest.raises(RequestError, match="`negative_prompt` was given, but this bundle is unguided"):
        pipeline_of("unguided").encode_prompt(PROMPT, "blurry")


def test_a_step_that_takes_its_guidance_beside_the_timestep_refuses_a_negative_prompt() -> None:
    manifest = dataclasses.replace(pipeline_of("unguided").manifest, timestep_cond=8)
    assert settle(Request(prompt=PROMPT, guidance_scale=8.0), manifest).guidance_scale == 8.0
    with pytest.raises(RequestError, match="`negative_prompt` was given, but this bundle is unguided"):
        settle(Request(prompt=PROMPT, negative_prompt="blurry"), manifest)
