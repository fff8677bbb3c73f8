"""Loops written by hand over the pipeline's parts draw what a call draws, bit for bit, in all four ways."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from calotype import Conditions, Pipeline, Schedule, images, noise
from tests.engine.tiny import PROMPT, latents_of, mask, picture, pipeline_of

Array = NDArray[Any]


def masked(name: str) -> tuple[Array, Array]:
    """The mask at the size of the latents (1, 1, H, W), and the picture without what it covers, (1, h, w, 3)."""
    manifest = pipeline_of(name).manifest
    pixels = images.to_model(picture(name), manifest.height, manifest.width)
    covered = images.mask_to_model(mask(name), manifest.height, manifest.width)
    visible = (pixels * (covered < 0.5)).transpose(0, 2, 3, 1)
    assert visible.min() < 0  # floats without a negative number would be taken for [0, 1]
    return images.mask_to_latents(covered, *manifest.latent_shape[1:]), visible


def denoised(pipeline: Pipeline, schedule: Schedule, latents: Array, extras: Mapping[str, Array]) -> Array:
    conditions = Conditions(pipeline.encode_prompt(PROMPT), extras=extras)
    state = pipeline.initial_state(latents)
    for row in range(len(schedule)):
        state = pipeline.step(schedule, row, state, conditions)
    return state[:, 0]


def noised(schedule: Schedule, original: Array, draw: Array) -> Array:
    kept, added = (np.float32(weight) for weight in schedule.add_noise)
    return kept * original + added * draw


@pytest.mark.parametrize("scheduler", ["dpmpp_2m", "euler_a", "heun"])
def test_a_loop_written_by_hand_draws_the_pipelines_picture_bit_for_bit(scheduler: str) -> None:
    pipeline = pipeline_of("plain")
    schedule = pipeline.schedule(4, scheduler=scheduler)
    generator = noise.generator(42)
    shape = (1, *pipeline.manifest.latent_shape)
    conditions = Conditions(pipeline.encode_prompt(PROMPT, "blurry"), guidance_scale=8)

    state = pipeline.initial_state(generator.normal(shape) * np.float32(schedule.init_noise_sigma))
    draws = {row: generator.normal(shape) for row in range(len(schedule)) if schedule.draws[row]}
    for row in range(len(schedule)):
        state = pipeline.step(schedule, row, state, conditions, draws.get(row))
    by_hand = pipeline.decode_latents(state[:, 0])

    called = pipeline(
        PROMPT, negative_prompt="blurry", num_inference_steps=4, guidance_scale=8, seed=42, scheduler=scheduler,
        output_type="latent",
    )  # fmt: skip
    np.testing.assert_array_equal(state[:, 0], called.images)
    np.testing.assert_array_equal(by_hand, pipeline.decode_latents(called.images))


def test_an_image_to_image_loop_by_hand_draws_the_pipelines_picture_bit_for_bit() -> None:
    pipeline = pipeline_of("plain")
    schedule = pipeline.schedule(5, strength=0.6)
    generator = noise.generator(3)
    original = pipeline.encode_image(picture(), generator)
    kept, added = (np.float32(weight) for weight in schedule.add_noise)
    state = pipeline.initial_state(kept * original + added * generator.normal(original.shape))
    conditions = Conditions(pipeline.encode_prompt(PROMPT))
    for row in range(len(schedule)):
        state = pipeline.step(schedule, row, state, conditions)

    called = latents_of("plain", image=picture(), strength=0.6, num_inference_steps=5, seed=3)
    np.testing.assert_array_equal(state[:, 0], called)


@pytest.mark.parametrize(
    ("scheduler", "given"),
    [("ddpm", {"timesteps": [900, 600, 300, 100]}), ("euler", {"sigmas": [14.0, 7.0, 3.0, 1.0, 0.2]})],
)
def test_a_loop_by_hand_takes_timesteps_and_sigmas_of_its_own(scheduler: str, given: dict[str, Any]) -> None:
    pipeline = pipeline_of("plain")
    schedule = pipeline.schedule(scheduler=scheduler, **given)
    generator = noise.generator(4)
    shape = (1, *pipeline.manifest.latent_shape)
    state = pipeline.initial_state(generator.normal(shape) * np.float32(schedule.init_noise_sigma))
    draws = {row: generator.normal(shape) for row in range(len(schedule)) if schedule.draws[row]}
    for row in range(len(schedule)):
        state = pipeline.step(
            schedule, row, state, Conditions(pipeline.encode_prompt(PROMPT)), draws.get(row)
        )

    assert len(schedule) == 4
    np.testing.assert_array_equal(state[:, 0], latents_of("plain", scheduler=scheduler, seed=4, **given))


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_an_inpainting_loop_by_hand_draws_the_pipelines_picture_bit_for_bit(strength: float) -> None:
    pipeline = pipeline_of("inpainting")
    schedule = pipeline.schedule(5, strength=strength)
    generator = noise.generator(3)
    small, visible = masked("inpainting")
    shape = (1, *pipeline.manifest.latent_shape)
    if strength == 1.0:
        latents = generator.normal(shape) * np.float32(schedule.init_noise_sigma)
    else:
        original = pipeline.encode_image(picture("inpainting"), generator)
        latents = noised(schedule, original, generator.normal(shape))
    extras = {"mask": small, "masked_latents": pipeline.encode_image(visible, generator)}
    by_hand = denoised(pipeline, schedule, latents, extras)

    given: dict[str, Any] = {"image": picture("inpainting"), "mask_image": mask("inpainting")}
    called = latents_of("inpainting", num_inference_steps=5, strength=strength, seed=3, **given)
    np.testing.assert_array_equal(by_hand, called)


@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_an_inpainting_loop_with_a_plain_unet_draws_the_pipelines_picture_bit_for_bit(
    strength: float,
) -> None:
    pipeline = pipeline_of("plain")
    schedule = pipeline.schedule(5, strength=strength)
    generator = noise.generator(3)
    small, _ = masked("plain")
    original = pipeline.encode_image(picture(), generator)
    draw = generator.normal(original.shape)
    latents = (
        draw * np.float32(schedule.init_noise_sigma) if strength == 1.0 else noised(schedule, original, draw)
    )
    extras = {"keep": 1.0 - small, "original": original, "original_noise": draw}
    by_hand = denoised(pipeline, schedule, latents, extras)

    given: dict[str, Any] = {"image": picture(), "mask_image": mask()}
    called = latents_of("plain", num_inference_steps=5, strength=strength, seed=3, **given)
    np.testing.assert_array_equal(by_hand, called)


def test_a_depth_to_image_loop_by_hand_draws_the_pipelines_picture_bit_for_bit() -> None:
    pipeline = pipeline_of("depth")
    schedule = pipeline.schedule(5, strength=0.6)
    generator = noise.generator(3)
    _, height, width = pipeline.manifest.latent_shape
    depth = images.resize_bicubic(pipeline.estimate_depth(picture("depth")), height, width)
    original = pipeline.encode_image(picture("depth"), generator)
    latents = noised(schedule, original, generator.normal(original.shape))
    by_hand = denoised(pipeline, schedule, latents, {"depth": images.normalise_depth(depth)})

    called = latents_of("depth", image=picture("depth"), strength=0.6, num_inference_steps=5, seed=3)
    np.testing.assert_array_equal(by_hand, called)
