"""The reader reads renders, whose truth is known, without a mistake worth speaking of."""

from __future__ import annotations

import numpy as np
import pytest

from papercut.reader import Reading, foreground_mask, read
from papercut.rendering import render
from papercut.scenes import Item, Scene, sample_scene
from papercut.scoring import nearest, overlap


@pytest.fixture(scope="module")
def readings() -> list[tuple[Scene, Reading]]:
    generator = np.random.default_rng(3)
    scenes = [sample_scene(generator, "held-out") for _ in range(60)]
    return [(scene, read(render(scene, 256).picture)) for scene in scenes]


def _share(readings: list[tuple[Scene, Reading]], attribute: str) -> float:
    answers: list[bool] = []
    for scene, reading in readings:
        for item in scene.items:
            seen = nearest(reading, item.centre)
            answers.append(seen is not None and getattr(seen, attribute) == getattr(item, attribute))
    return sum(answers) / len(answers)


@pytest.mark.parametrize("attribute", ["shape", "colour", "texture", "size"])
def test_renders_are_read_right(readings: list[tuple[Scene, Reading]], attribute: str) -> None:
    assert _share(readings, attribute) >= 0.97


def test_backgrounds_are_read_right(readings: list[tuple[Scene, Reading]]) -> None:
    assert all(reading.background == scene.background for scene, reading in readings)


def test_every_object_is_found_and_no_other(readings: list[tuple[Scene, Reading]]) -> None:
    right = [len(reading.objects) == len(scene.items) for scene, reading in readings]
    assert sum(right) / len(right) >= 0.97


def test_the_foreground_is_the_mask_of_the_render() -> None:
    drawn = render(Scene("navy", "centre", (Item("star", "yellow", "plain", "large", (0.5, 0.5), 0.2),)), 512)
    assert overlap(foreground_mask(drawn.picture), drawn.masks.max(0) > 127) > 0.95


def test_an_empty_background_holds_no_object() -> None:
    grey = np.full((256, 256, 3), (74, 76, 82), dtype=np.uint8)
    assert read(grey).objects == ()


def test_a_red_picture_is_not_read_as_a_blue_one() -> None:
    item = Item("circle", "red", "plain", "large", (0.5, 0.5), 0.2)
    picture = render(Scene("cream", "centre", (item,)), 256).picture
    swapped = np.ascontiguousarray(picture[:, :, ::-1])
    assert [read(each).objects[0].colour for each in (picture, swapped)] == ["red", "blue"]
