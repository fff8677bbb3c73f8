"""Every way of drawing, every scheduler and every sigma rule against eager diffusers, on the tiny checkpoints."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from PIL import Image

from calotype import Pipeline, schedulers
from tests.bundles import bundle, checkpoint
from tests.parity.eager import SCHEDULERS, Eager, compare

STEPS = 7


@cache
def pipeline_of(name: str) -> Pipeline:
    return Pipeline.load(bundle(name), "onnxruntime", threads=1)


@cache
def eager_of(name: str, way: str) -> Eager:
    return Eager(checkpoint(name), way)


def picture(name: str) -> Image.Image:
    manifest = pipeline_of(name).manifest
    noise = np.random.default_rng(7).uniform(0, 255, (manifest.height // 16, manifest.width // 16, 3))
    return Image.fromarray(noise.astype(np.uint8)).resize(
        (manifest.width, manifest.height), Image.Resampling.BICUBIC
    )


def mask(name: str) -> Image.Image:
    size = picture(name).size
    drawn = np.zeros((size[1], size[0]), np.uint8)
    drawn[size[1] // 4 : size[1] // 2 + 3, size[0] // 3 :] = 255
    return Image.fromarray(drawn)


def request(way: str, name: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "prompt": "a red circle on a blue wall",
        "negative_prompt": "blurry",
        "num_inference_steps": STEPS,
        "guidance_scale": 5.0,
        "seed": 42,
    }
    if way != "text-to-image":
        arguments |= {"image": picture(name), "strength": 0.6}
    if way == "inpainting":
        size = picture(name).size
        arguments |= {"mask_image": mask(name), "width": size[0], "height": size[1]}
    return arguments


CASES = {
    "text-to-image": ("text-to-image", "plain", {}),
    "text-to-image, v-prediction": ("text-to-image", "v-prediction", {}),
    "image-to-image": ("image-to-image", "plain", {}),
    "inpainting, 4 channels": ("inpainting", "plain", {"strength": 1.0}),
    "inpainting, 4 channels, strength 0.6": ("inpainting", "plain", {}),
    "inpainting, 9 channels": ("inpainting", "inpainting", {"strength": 1.0}),
    "inpainting, 9 channels, strength 0.6": ("inpainting", "inpainting", {}),
    "depth-to-image": ("depth-to-image", "depth", {}),
}


@pytest.mark.parametrize("scheduler", sorted(SCHEDULERS))
@pytest.mark.parametrize("case", CASES)
def test_the_picture_is_that_of_eager_diffusers(case: str, scheduler: str) -> None:
    way, name, changes = CASES[case]
    arguments = request(way, name) | changes

    compare(eager_of(name, way), pipeline_of(name), scheduler, arguments).check()


def test_no_scheduler_is_left_out() -> None:
    assert set(SCHEDULERS) == set(schedulers.names())


TWO: dict[str, Any] = {"prompt": ["a cat", "a dog"], "negative_prompt": ["", "blue"], "image": "two"}

MORE: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "several prompts, several pictures each": (
        "text-to-image", "plain", "euler_a",
        {"prompt": ["a cat", "a dog"], "negative_prompt": ["", "blue"], "num_images_per_prompt": 2},
    ),
    "a seed a picture": ("text-to-image", "plain", "euler_a", {"num_images_per_prompt": 3, "seed": [1, 2, 2**33]}),
    "a seed a picture from an image": (
        "image-to-image", "plain", "ddpm", {"num_images_per_prompt": 3, "seed": [1, 2, 3]},
    ),
    "eta": ("text-to-image", "plain", "ddim", {"eta": 0.7}),
    "guidance rescale": ("text-to-image", "plain", "ddim", {"guidance_rescale": 0.7}),
    "no guidance": ("text-to-image", "plain", "dpmpp_2m", {"guidance_scale": 1.0}),
    "guidance below one": ("text-to-image", "plain", "dpmpp_2m", {"guidance_scale": 0.0}),
    "an unguided bundle": ("text-to-image", "unguided", "euler", {"guidance_scale": 1.0, "negative_prompt": None}),
    "timesteps": ("text-to-image", "plain", "ddpm", {"timesteps": [900, 600, 300, 100]}),
    "sigmas": ("text-to-image", "plain", "euler", {"sigmas": [14.0, 7.0, 3.0, 1.0, 0.2]}),
    "given latents": ("text-to-image", "plain", "unipc", {"latents": "draw"}),
    "given embeddings": (
        "text-to-image", "plain", "unipc",
        {"prompt": None, "negative_prompt": None, "prompt_embeds": "draw", "negative_prompt_embeds": "draw"},
    ),
    "several pictures from one image": ("image-to-image", "plain", "dpmpp_2m_sde", {"num_images_per_prompt": 3}),
    "image-to-image at full strength": ("image-to-image", "plain", "heun", {"strength": 1.0}),
    "inpainting several": ("inpainting", "inpainting", "euler_a", {"num_images_per_prompt": 2}),
    "inpainting several with a plain UNet": ("inpainting", "plain", "euler_a", {"num_images_per_prompt": 3}),
    "inpainting from given latents": ("inpainting", "plain", "ddim", {"latents": "draw"}),
    "inpainting from latents": (
        "inpainting", "inpainting", "ddim", {"image": "draw", "masked_image_latents": "draw"},
    ),
    "inpainting from latents with a plain UNet": (
        "inpainting", "plain", "ddim", {"image": "draw", "masked_image_latents": "draw"},
    ),
    "depth-to-image, several": ("depth-to-image", "depth", "ddpm", {"num_images_per_prompt": 2}),
    "depth-to-image from a map": ("depth-to-image", "depth", "pndm", {"depth_map": "draw"}),
    "two pictures": ("image-to-image", "plain", "ddim", TWO),
    "two pictures, inpainting": ("inpainting", "inpainting", "euler_a", TWO),
    "two pictures, inpainting with a plain UNet": ("inpainting", "plain", "ddim", TWO),
    "two pictures, depth-to-image": ("depth-to-image", "depth", "ddim", TWO),
}  # fmt: skip


@pytest.mark.parametrize("case", MORE)
def test_every_argument_means_what_it_means_in_diffusers(case: str) -> None:
    way, name, scheduler, changes = MORE[case]
    arguments = request(way, name) | changes
    for key, value in changes.items():
        if isinstance(value, str) and value == "draw":
            arguments[key] = drawn(key, name)
        if isinstance(value, str) and value == "two":
            arguments[key] = [picture(name), picture(name).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]

    compare(eager_of(name, way), pipeline_of(name), scheduler, arguments).check()


def drawn(key: str, name: str) -> torch.Tensor:
    manifest = pipeline_of(name).manifest
    step = manifest.program("unet_step")
    assert step is not None
    shapes = {
        **dict.fromkeys(("latents", "image", "masked_image_latents"), (1, *manifest.latent_shape)),
        "depth_map": (1, 50, 70),
        "prompt_embeds": (1, *step.input("embeddings").shape[1:]),
        "negative_prompt_embeds": (1, *step.input("embeddings").shape[1:]),
    }
    return torch.randn(shapes[key], generator=torch.Generator().manual_seed(len(key)))


@pytest.mark.parametrize("scheduler", ["ddim", "euler_a", "dpmpp_2m_karras"])
@pytest.mark.parametrize("name", ["inpainting", "plain"])
def test_an_inpainting_around_the_mask_is_that_of_eager_diffusers(name: str, scheduler: str) -> None:
    eager, pipeline = eager_of(name, "inpainting"), pipeline_of(name)
    arguments = request("inpainting", name) | {"padding_mask_crop": 8}
    seed = arguments.pop("seed")
    eager.schedule_with(scheduler)
    expected = eager.pipeline(**arguments, generator=torch.Generator().manual_seed(seed)).images[0]
    found = pipeline(**dict[str, Any](arguments, seed=seed, scheduler=scheduler)).images[0]
    apart = np.abs(np.asarray(found, np.int16) - np.asarray(expected, np.int16)) > 1

    assert found.size == expected.size
    assert apart.mean() <= 1e-3
