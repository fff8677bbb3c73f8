"""What pictures, masks and latents a request may start from, and what is said of others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from calotype import RequestError, noise
from tests.engine.tiny import latents_of, mask, picture, pipeline_of

Array = NDArray[Any]
HEIGHT, WIDTH = pipeline_of("plain").manifest.height, pipeline_of("plain").manifest.width
SHAPE = pipeline_of("plain").manifest.latent_shape


def test_an_image_may_be_given_as_latents() -> None:
    latents = pipeline_of("plain").encode_image(picture(), noise.generator(1))
    found = latents_of("plain", image=latents, strength=0.5, seed=2)

    assert found.shape == (1, *SHAPE)
    assert np.abs(found - latents_of("plain", image=2 * latents, strength=0.5, seed=2)).max() > 0.1


def test_several_images_are_encoded_each_for_itself() -> None:
    pipeline = pipeline_of("plain")
    images = [picture(), picture().rotate(180)]
    alone = [pipeline.encode_image(image)[0] for image in images]

    assert np.array_equal(pipeline.encode_image(images), np.stack(alone))
    assert np.abs(alone[0] - alone[1]).max() > 0.1


def test_several_images_are_taken_in_turn_by_more_pictures() -> None:
    images = [picture(), picture().rotate(180)]
    found = latents_of("plain", image=images, num_images_per_prompt=4, seed=[1, 2, 3, 4], strength=0.5)

    for index in range(4):
        alone = latents_of("plain", image=images[index % 2], seed=[index + 1], strength=0.5)
        np.testing.assert_allclose(found[index], alone[0], atol=2e-5)


def test_a_depth_map_of_one_picture_needs_no_first_axis() -> None:
    depth = np.arange(1600, dtype=np.float32).reshape(40, 40)
    found = latents_of("depth", depth_map=depth, seed=1)

    np.testing.assert_array_equal(found, latents_of("depth", depth_map=depth[None], seed=1))
    assert np.abs(found - latents_of("depth", depth_map=depth.T, seed=1)).max() > 1e-3


@pytest.mark.parametrize("name", ["plain", "inpainting"])
def test_an_image_and_its_masked_part_may_both_be_given_as_latents(name: str) -> None:
    pipeline = pipeline_of(name)
    visible = np.asarray(picture(name)).copy()
    visible[len(visible) // 2 :] = 0
    given: dict[str, Any] = {
        "image": pipeline.encode_image(picture(name)),
        "masked_image_latents": pipeline.encode_image(visible),
        "mask_image": mask(name),
    }
    found = latents_of(name, strength=0.5, seed=2, **given)
    whole = given | {"mask_image": Image.new("L", mask(name).size, 255)}

    assert np.isfinite(found).all()
    assert np.abs(found - latents_of(name, strength=0.5, seed=2, **whole)).max() > 1e-3


MASKED: dict[str, Any] = {"image": picture(), "mask_image": mask()}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"image": np.zeros((1, 3, HEIGHT, WIDTH), np.float32)}, "`image`: expected latents"),
    ({"image": np.zeros((1, 3, HEIGHT, WIDTH), np.uint8)}, "pictures have their channels last, (n, h, w, 3)"),
    ({"image": np.zeros((1, SHAPE[0], SHAPE[1] + 1, SHAPE[2]))}, "`image`: expected latents"),
    ({"image": np.full((1, *SHAPE), np.nan)}, "`image`: expected latents, finite numbers of shape (n, 4, "),
    ({"image": np.zeros((0, *SHAPE))}, "`image`: expected a number of pictures that divides 1"),
    ({"image": [picture()] * 2}, "`image`: expected a number of pictures that divides 1"),
    (MASKED | {"image": np.zeros((1, *SHAPE))}, "`image` holds latents, which a mask of pixels cannot"),
    (MASKED | {"masked_image_latents": np.zeros((1, 3))}, "`masked_image_latents`: expected latents"),
    (
        MASKED | {"masked_image_latents": np.full((1, *SHAPE), np.inf)},
        "`masked_image_latents`: expected latents",
    ),
    (MASKED | {"masked_image_latents": np.zeros((2, *SHAPE))}, "`masked_image_latents`: expected a number"),
    (
        MASKED | {"image": [picture()] * 3, "mask_image": [mask()] * 2, "num_images_per_prompt": 6},
        "`mask_image`: expected one mask, or one for each of the 3 pictures in `image`; found 2",
    ),
    (MASKED | {"mask_image": [mask()] * 2}, "`mask_image`: expected a number of pictures that divides 1"),
    (MASKED | {"mask_image": np.zeros((0, 8, 8))}, "mask array: expected shape"),
]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mask_image": Image.new("L", (8, 16), 255)},
            f"expected a mask of the picture's size, {WIDTH}x{HEIGHT}, found 8x16",
        ),
        ({"image": [picture()]}, "expected one picture as `image`, found several"),
        ({"mask_image": [mask()] * 2}, "expected one picture as `mask_image`, found several"),
        (
            {"image": np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)},
            "expected one picture as `image`, found several",
        ),
    ],
)
def test_what_cannot_be_laid_back_around_a_crop_is_refused_before_anything_runs(
    changes: dict[str, Any], message: str
) -> None:
    rows: list[int] = []
    with pytest.raises(RequestError, match=f"`padding_mask_crop`: {message}"):
        latents_of(
            "inpainting",
            **MASKED | changes,
            padding_mask_crop=4,
            output_type="pil",
            progress=lambda row, _: rows.append(row),
        )
    assert rows == []


def test_a_crop_of_a_picture_in_an_array_is_that_of_the_picture() -> None:
    asked: dict[str, Any] = {"padding_mask_crop": 4, "output_type": "pil", "seed": 3}
    drawn = [
        latents_of("inpainting", **MASKED | {"image": given}, **asked)
        for given in (picture(), np.asarray(picture()))
    ]

    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_what_cannot_be_started_from_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        latents_of("plain", **arguments)

    assert message in str(caught.value)
