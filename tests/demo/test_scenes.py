"""Scenes, captions and renders say the same thing, exactly."""

from __future__ import annotations

import numpy as np
import pytest

from papercut.captions import sample_caption
from papercut.rendering import render, render_picture, unit_path
from papercut.scenes import BACKGROUNDS, COLOURS, SHAPES, Item, Scene, is_held_out, sample_scene, split_of


def _scenes(split: str, count: int) -> list[Scene]:
    generator = np.random.default_rng(0)
    return [sample_scene(generator, "train" if split == "train" else "held-out") for _ in range(count)]


def test_no_training_scene_holds_a_combination_that_is_held_out() -> None:
    scenes = _scenes("train", 300)
    assert not any(is_held_out(item, scene.background) for scene in scenes for item in scene.items)


def test_every_held_out_scene_holds_one() -> None:
    assert {split_of(scene) for scene in _scenes("held-out", 50)} == {"held-out"}


def test_every_shape_colour_and_background_is_trained_on() -> None:
    scenes = _scenes("train", 600)
    seen = {
        word
        for scene in scenes
        for item in scene.items
        for word in (scene.background, item.shape, item.colour)
    }
    assert seen == {*SHAPES, *COLOURS, *BACKGROUNDS}


def test_the_same_generator_draws_the_same_scene_and_caption() -> None:
    first, second = np.random.default_rng(7), np.random.default_rng(7)
    one, other = sample_scene(first, "train"), sample_scene(second, "train")
    assert (one, sample_caption(one, first)) == (other, sample_caption(other, second))


def test_a_caption_names_every_colour_and_the_background() -> None:
    generator = np.random.default_rng(1)
    for scene in _scenes("train", 100):
        caption = sample_caption(scene, generator)
        assert all(word in caption for word in (scene.background, *(item.colour for item in scene.items)))


def test_a_mask_covers_what_differs_from_the_empty_background() -> None:
    item = Item("square", "red", "plain", "large", (0.5, 0.5), 0.2)
    drawn = render(Scene("cream", "centre", (item,)), 128)
    red = drawn.picture[:, :, 1] < 120
    assert (red == (drawn.masks[0] > 127)).mean() > 0.99


def test_an_item_is_nearer_than_the_background_and_a_large_one_nearer_than_a_small_one() -> None:
    small = Item("circle", "red", "plain", "small", (0.25, 0.5), 0.13)
    large = Item("circle", "blue", "plain", "large", (0.75, 0.5), 0.2)
    drawn = render(Scene("mint", "beside", (small, large)), 128)
    inside = [drawn.depth[mask == 255] for mask in drawn.masks]
    assert (
        drawn.depth[drawn.masks.max(0) == 0].max()
        < inside[0].min()
        < inside[0].max()
        <= inside[1].min() + 1e-6
    )


def test_a_picture_is_the_same_scene_at_every_size() -> None:
    scene = _scenes("train", 1)[0]
    large, small = render_picture(scene, 512), render_picture(scene, 256)
    averaged = large.reshape(256, 2, 256, 2, 3).mean((1, 3))
    assert np.abs(averaged - small).mean() < 2


def test_an_unknown_shape_is_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match=r"found 'hexagon'\nhint: check the spelling"):
        unit_path("hexagon")
