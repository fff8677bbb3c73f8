"""Requests: defaults, derived facts, and the message of everything that contradicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from calotype import Request, RequestError


def test_defaults_are_those_of_diffusers() -> None:
    request = Request(prompt="a cat")

    assert (request.num_inference_steps, request.guidance, request.eta) == (50, 7.5, 0.0)
    assert (request.num_images_per_prompt, request.output_type, request.strength) == (1, "pil", None)


@pytest.mark.parametrize(
    ("arguments", "share"),
    [
        ({}, 1.0),
        ({"image": "x.png"}, 0.8),
        ({"image": "x.png", "mask_image": "y.png"}, 1.0),
        ({"image": "x.png", "mask_prompt": "the sky"}, 1.0),
        ({"image": "x.png", "strength": 0.3}, 0.3),
    ],
)
def test_strength_defaults_to_that_of_the_pipeline_that_would_draw_it(
    arguments: dict[str, Any], share: float
) -> None:
    assert Request(prompt="", **arguments).noise_share == share


def test_prompts_times_pictures_each_is_the_number_of_pictures() -> None:
    assert Request(prompt=["a", "b"], num_images_per_prompt=3).image_count == 6
    assert Request(prompt_embeds=np.zeros((2, 77, 8))).image_count == 2


def test_an_unknown_argument_suggests_the_nearest_name() -> None:
    with pytest.raises(RequestError, match="takes no argument `num_inference_step`") as caught:
        Request.build({"prompt": "", "num_inference_step": 3})

    assert "did you mean `num_inference_steps`?" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("generator", "give `seed`"),
        ("steps", "`num_inference_steps`"),
        ("cross_attention_kwargs", "set_lora"),
    ],
)
def test_what_only_diffusers_takes_has_advice(name: str, advice: str) -> None:
    with pytest.raises(RequestError, match=f"takes no argument `{name}`") as caught:
        Request.build({"prompt": "", name: 3})
    assert advice in str(caught.value.hint)


def test_an_unknown_argument_near_nothing_lists_the_names() -> None:
    with pytest.raises(RequestError, match="the arguments are prompt, negative_prompt"):
        Request.build({"prompt": "", "zzzzzz": 3})


EMBEDS = np.zeros((1, 77, 8), np.float32)
WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "expected either `prompt` or `prompt_embeds`, found neither"),
    ({"prompt": "a", "prompt_embeds": EMBEDS}, "found both"),
    ({"prompt": 3}, "`prompt`: expected a string or a list of strings, found 3"),
    ({"prompt": []}, "`prompt`: expected a string or a list of strings"),
    ({"prompt": ["a", "b"], "negative_prompt": ["c"]}, "expected 2 strings, one a prompt, found 1"),
    ({"prompt": "a", "negative_prompt": "b", "negative_prompt_embeds": EMBEDS}, "exclude each other"),
    (
        {"prompt": "a", "num_inference_steps": 0},
        "`num_inference_steps`: expected a whole number of at least 1, found 0",
    ),
    ({"prompt": "a", "num_inference_steps": 2.5}, "found 2.5"),
    ({"prompt": "a", "num_images_per_prompt": 0}, "`num_images_per_prompt`"),
    ({"prompt": "a", "clip_skip": -1}, "`clip_skip`: expected a whole number of at least 0"),
    ({"prompt": "a", "guidance_scale": float("nan")}, "`guidance_scale`: expected a finite number"),
    ({"prompt": "a", "image": "x", "strength": 1.5}, "`strength`: expected a number from 0 to 1, found 1.5"),
    ({"prompt": "a", "image": "x", "strength": -0.1}, "`strength`: expected a number from 0 to 1"),
    ({"prompt": "a", "eta": 2}, "`eta`: expected a number from 0 to 1"),
    ({"prompt": "a", "height": 100}, "`height`: expected a positive multiple of 8, found 100"),
    ({"prompt": "a", "height": 0}, "`height`: expected a positive multiple of 8, found 0"),
    ({"prompt": "a", "width": 0}, "`width`: expected a positive multiple of 8, found 0"),
    ({"prompt": "a", "width": 100}, "`width`: expected a positive multiple of 8, found 100"),
    ({"prompt": "a", "num_inference_steps": True}, "`num_inference_steps`: expected a whole number"),
    ({"prompt": "a", "guidance_scale": True}, "`guidance_scale`: expected a finite number, found True"),
    ({"prompt": "a", "guidance_scale": 10**400}, "`guidance_scale`: expected a finite number, found 1000"),
    ({"prompt": "a", "guidance_scale": 5j}, "`guidance_scale`: expected a finite number, found 5j"),
    ({"prompt": "a", "eta": np.complex64(1)}, "`eta`: expected a finite number"),
    (
        {"prompt": "a", "guidance_rescale": 1.5},
        "`guidance_rescale`: expected a number from 0 to 1, found 1.5",
    ),
    ({"prompt": "a", "guidance_rescale": -0.5}, "`guidance_rescale`: expected a number from 0 to 1"),
    ({"prompt": "a", "output_type": "pt"}, "expected one of pil, np, latent, found 'pt'"),
    ({"prompt": "a", "seed": [1, 2]}, "`seed`: expected one int, or a list of 1"),
    ({"prompt": "a", "seed": "x"}, "`seed`"),
    ({"prompt": "a", "seed": True}, "`seed`: expected an int or a list of ints, found True"),
    ({"prompt": "a", "seed": [False]}, "`seed`: expected an int or a list of ints, found False"),
    ({"prompt": "a", "seed": 1.5}, "`seed`: expected an int or a list of ints, found 1.5"),
    ({"prompt": "a", "timesteps": [1], "sigmas": [1.0, 0.5]}, "`timesteps` and `sigmas` exclude"),
    ({"prompt": "a", "timesteps": ["900", "1"]}, "`timesteps`: expected an array of numbers, found list"),
    ({"prompt": "a", "timesteps": []}, "`timesteps`: expected an array of numbers, found list of shape (0,)"),
    ({"prompt": "a", "timesteps": [[3, 2]]}, "`timesteps`: expected 1 or more numbers from 0 on"),
    ({"prompt": "a", "timesteps": [3, -1]}, "`timesteps`: expected 1 or more numbers from 0 on"),
    ({"prompt": "a", "sigmas": "few"}, "`sigmas`: expected an array of numbers, found str"),
    ({"prompt": "a", "sigmas": [float("nan"), 1.0]}, "`sigmas`: expected 2 or more numbers from 0 on"),
    ({"prompt": "a", "sigmas": [1.0]}, "`sigmas`: expected 2 or more numbers from 0 on, found [1.0]"),
    ({"prompt_embeds": "words"}, "`prompt_embeds`: expected an array of numbers, found str"),
    ({"prompt_embeds": 3.0}, "`prompt_embeds`: expected an array of numbers, found float of shape ()"),
    ({"prompt_embeds": np.zeros((0, 77, 8))}, "found ndarray of shape (0, 77, 8) and type float64"),
    ({"prompt_embeds": [[1.0], [1.0, 2.0]]}, "`prompt_embeds`: expected an array of numbers: "),
    (
        {"prompt": "a", "negative_prompt_embeds": [None]},
        "`negative_prompt_embeds`: expected an array of numbers",
    ),
    ({"prompt": "a", "latents": object()}, "`latents`: expected an array of numbers, found object"),
    ({"prompt": "a", "latents": EMBEDS.astype(complex)}, "`latents`: expected an array of numbers"),
    ({"prompt": "a", "depth_map": np.zeros((0, 4))}, "`depth_map`: expected an array of numbers"),
    ({"prompt": "a", "image": "x", "mask_image": "y", "mask_prompt": "z"}, "`mask_image` and `mask_prompt`"),
    ({"prompt": "a", "mask_image": "y"}, "a mask was given, but no `image`"),
    ({"prompt": "a", "strength": 0.5}, "`strength` was given, but no `image`"),
    ({"prompt": "a", "image": "x", "masked_image_latents": EMBEDS}, "but no mask"),
    ({"prompt": "a", "image": "x", "padding_mask_crop": 8}, "`padding_mask_crop` needs `mask_image`"),
    (
        {"prompt": "a", "image": "x", "mask_image": "y", "padding_mask_crop": 8, "output_type": "np"},
        '`padding_mask_crop` needs `mask_image` and `output_type="pil"`',
    ),
    (
        {"prompt": "a", "image": "x", "mask_prompt": "y", "padding_mask_crop": 8},
        "`padding_mask_crop` needs `mask_image`",
    ),
    ({"prompt": "a", "image": "x", "latents": EMBEDS}, "`image` and `latents` exclude"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_a_contradiction_says_what_was_expected_and_found(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        Request(**arguments)

    assert message in str(caught.value)


def test_a_mask_may_come_with_latents_and_be_cropped_without_a_margin() -> None:
    masked = Request(prompt="a", image="x", mask_image="y", latents=EMBEDS, padding_mask_crop=0)
    assert masked.latents is EMBEDS and masked.padding_mask_crop == 0
    assert Request(prompt="a", image="x", mask_prompt="the sky", latents=EMBEDS).latents is EMBEDS
