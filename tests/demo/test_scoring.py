"""The scores are what they say on pictures whose truth is known: a perfect painter meets every bound."""

from __future__ import annotations

import numpy as np
import pytest

from papercut.drawing import Order, Picture
from papercut.rendering import render_picture
from papercut.scoring import held_out_scenes, overlap, psnr, score_inpainting, score_text_to_image

SEED = 5


def _perfect() -> dict[str, Picture]:
    return {
        caption: render_picture(scene, 256)
        for _, (_, scene, caption) in zip(range(12), held_out_scenes(SEED), strict=False)
    }


@pytest.mark.parametrize("name", ["colour", "background", "shape", "position"])
def test_renders_of_the_captions_meet_the_bound(name: str) -> None:
    pictures = _perfect()
    measures = {one.name: one for one in score_text_to_image(lambda order: pictures[order.prompt], 12, SEED)}
    assert measures[name].met


def test_one_picture_for_every_caption_misses_the_bound_of_colour() -> None:
    picture = next(iter(_perfect().values()))
    measures = {one.name: one for one in score_text_to_image(lambda _: picture, 12, SEED)}
    assert not measures["colour"].met and not measures["seeds differ"].met


def test_a_painter_that_leaves_the_picture_alone_paints_nothing_inside() -> None:
    def leave(order: Order) -> Picture:
        assert order.image is not None
        return order.image

    measures = {one.name: one for one in score_inpainting(leave, lambda picture: picture, 6, SEED)}
    assert measures["PSNR outside (dB)"].met and measures["inside right"].value == 0


def test_psnr_of_one_grey_level_is_48_decibels() -> None:
    grey = np.full((8, 8, 3), 100, dtype=np.uint8)
    assert psnr(grey, grey + 1) == pytest.approx(48.13, abs=0.01)


def test_overlap_of_half_a_square_is_a_half() -> None:
    whole, half = np.ones((8, 8), dtype=np.bool_), np.ones((8, 8), dtype=np.bool_)
    half[:, 4:] = False
    assert overlap(half, whole) == 0.5
