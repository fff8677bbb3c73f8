"""Pictures that are written: PNG with how they were made, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calotype import images, pictures
from calotype.errors import OutputError, RequestError
from tests.engine.random_pictures import picture


def info_of(path: Path) -> dict[Any, Any]:
    with Image.open(path) as image:
        return image.info


class TestPng:
    PARAMETERS = {  # noqa: RUF012
        "prompt": "a flooble, “oil”\nat night 🦕", "negative_prompt": "blurry", "num_inference_steps": 20,
        "guidance_scale": 7.5, "seed": 42, "scheduler": "euler", "width": 40, "height": 24, "clip_skip": 1,
        "timesteps": [999.0, 1.0], "strength": 0.8,
    }  # fmt: skip

    def test_parameters_are_read_as_they_were_written(self, tmp_path: Path) -> None:
        images.save_png(picture(), tmp_path / "out.png", self.PARAMETERS)
        assert images.read_parameters(tmp_path / "out.png") == self.PARAMETERS
        assert np.array_equal(np.asarray(images.load_image(tmp_path / "out.png")), np.asarray(picture()))

    def test_other_tools_find_their_line(self, tmp_path: Path) -> None:
        images.save_png(picture(), tmp_path / "out.png", self.PARAMETERS)
        assert info_of(tmp_path / "out.png")["parameters"] == (
            "a flooble, “oil”\nat night 🦕\nNegative prompt: blurry\nSteps: 20, Sampler: euler, CFG scale: 7.5, "
            "Seed: 42, Denoising strength: 0.8, Size: 40x24, Clip skip: 2, Version: Calotype"
        )

    @pytest.mark.parametrize(
        ("extra", "kind"),
        [
            ({}, "/trainedAlgorithmicMedia"),
            ({"mask_image": "given"}, "/compositeWithTrainedAlgorithmicMedia"),
            ({"mask_prompt": "sky"}, "/compositeWithTrainedAlgorithmicMedia"),
        ],
    )
    def test_a_picture_says_that_it_was_generated(
        self, tmp_path: Path, extra: dict[str, str], kind: str
    ) -> None:
        images.save_png(picture(), tmp_path / "out.png", {**self.PARAMETERS, **extra})
        info = info_of(tmp_path / "out.png")
        assert info["Software"] == "Calotype"
        assert kind in info["XML:com.adobe.xmp"]

    def test_a_prompt_that_is_no_valid_unicode_can_be_written(self, tmp_path: Path) -> None:
        images.save_png(picture(), tmp_path / "out.png", {"prompt": "odd \ud800 half"})
        assert images.read_parameters(tmp_path / "out.png") == {"prompt": "odd \ud800 half"}

    def test_nothing_but_the_picture_is_left_in_the_folder(self, tmp_path: Path) -> None:
        images.save_png(picture(), tmp_path / "out.png", {})
        assert [path.name for path in tmp_path.iterdir()] == ["out.png"]

    def test_a_failed_write_leaves_nothing_and_keeps_what_was_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "out.png").write_text("older")

        def full(*_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Image.Image, "save", full)
        with pytest.raises(OutputError, match=r"out\.png: the picture could not be written: No space left"):
            images.save_png(picture(), tmp_path / "out.png", {})
        assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="the picture could not be written: No such file or directory"):
            images.save_png(picture(), tmp_path / "absent" / "out.png", {})

    def test_only_png_is_written(self, tmp_path: Path) -> None:
        with pytest.raises(RequestError, match=r"pictures are written as PNG, found the ending '\.jpg'"):
            images.save_png(picture(), tmp_path / "out.jpg", {})

    def test_a_picture_without_parameters_is_named(self, tmp_path: Path) -> None:
        picture().save(tmp_path / "plain.png")
        with pytest.raises(RequestError, match=r"plain\.png: no generation parameters in this picture"):
            images.read_parameters(tmp_path / "plain.png")

    @pytest.mark.parametrize(("text", "message"), [("{", "are no JSON"), ("[1]", "should be a JSON object")])
    def test_damaged_parameters_are_named(self, tmp_path: Path, text: str, message: str) -> None:
        chunks = pictures.PngImagePlugin.PngInfo()
        chunks.add_text("calotype", text)
        picture().save(tmp_path / "odd.png", pnginfo=chunks)
        with pytest.raises(RequestError, match=f"the generation parameters {message}"):
            images.read_parameters(tmp_path / "odd.png")
