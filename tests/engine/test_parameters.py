"""What is kept of a request: plain values, whatever kinds of numbers it was made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calotype.images import read_parameters, save_png
from tests.engine.tiny import PROMPT, mask, picture, pipeline_of

NUMPY: dict[str, Any] = {
    "num_inference_steps": np.int64(2), "guidance_scale": np.float32(5.5), "guidance_rescale": np.float64(0.5),
    "eta": np.float32(0.5), "clip_skip": np.int32(1), "strength": np.float32(0.5), "height": np.int64(picture().height),
}  # fmt: skip


@pytest.mark.parametrize("seed", [np.int64(3), [np.int64(3), np.uint32(4)]], ids=["one", "listed"])
def test_numpys_numbers_are_written_into_the_picture_as_plain_ones(tmp_path: Path, seed: Any) -> None:
    count = np.int64(len(seed)) if isinstance(seed, list) else 1
    result = pipeline_of("plain")(
        PROMPT, image=picture(), seed=seed, scheduler="ddim", num_images_per_prompt=count, **NUMPY
    )
    save_png(result.images[0], tmp_path / "out.png", result.parameters)
    found = read_parameters(tmp_path / "out.png")

    assert found == json.loads(json.dumps(result.parameters))
    assert (found["guidance_scale"], found["strength"], found["clip_skip"]) == (5.5, 0.5, 1)
    assert found["seed"] == ([3, 4] if isinstance(seed, list) else 3)
    assert {type(each) for each in result.seeds} == {int}


@pytest.mark.parametrize(
    ("given", "steps"), [({"timesteps": [900, 600, 300]}, 3), ({"sigmas": [14.0, 5.0, 1.0, 0.3, 0.0]}, 4)]
)
def test_steps_of_the_requests_own_are_counted(tmp_path: Path, given: dict[str, Any], steps: int) -> None:
    result = pipeline_of("plain")(PROMPT, seed=1, scheduler="euler" if "sigmas" in given else "ddpm", **given)
    assert result.parameters["num_inference_steps"] == steps
    assert result.parameters.get("sigmas") == given.get("sigmas")
    save_png(result.images[0], tmp_path / "out.png", result.parameters)
    with Image.open(tmp_path / "out.png") as picture:
        assert f"Steps: {steps}," in picture.info["parameters"]


def test_what_a_request_was_given_is_kept_by_name() -> None:
    arguments: dict[str, Any] = {"negative_prompt": "blurry", "eta": 0.5, "scheduler": "ddim"}
    pictures: dict[str, Any] = {"image": picture(), "mask_image": mask()}
    found = pipeline_of("plain")(
        PROMPT, num_inference_steps=1, seed=1, output_type="latent", **arguments, **pictures
    ).parameters

    expected = arguments | {"image": "given", "mask_image": "given", "noise_source": "cpu", "strength": 1.0}
    assert found.items() >= expected.items()
