"""Pictures, masks and depth: layouts and ranges, and what is refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from calotype import images
from calotype.errors import RequestError
from tests.engine.random_pictures import picture

Array = NDArray[Any]


class TestToModel:
    def test_black_is_minus_one_and_white_is_one(self) -> None:
        halves = np.zeros((16, 16, 3), np.uint8)
        halves[8:] = 255
        pixels = images.to_model(halves, 16, 16)
        assert (pixels.shape, pixels.dtype) == ((1, 3, 16, 16), np.float32)
        assert np.all(pixels[:, :, :8] == -1) and np.all(pixels[:, :, 8:] == 1)

    @pytest.mark.parametrize("dtype", ["uint8", "float32"])
    @pytest.mark.parametrize("shape", [(3, 8, 8), (2, 3, 8, 8), (1, 4, 8, 8)])
    def test_channels_that_come_first_are_refused(self, shape: tuple[int, ...], dtype: str) -> None:
        with pytest.raises(RequestError, match=r"(?s)expected shape \(h, w.*channels come last"):
            images.to_model(np.zeros(shape, dtype), 8, 8)

    @pytest.mark.parametrize("shape", [(0, 8, 8, 3), (0, 8, 3), (1, 8, 0, 3)])
    @pytest.mark.parametrize("dtype", ["uint8", "float32"])
    def test_an_empty_array_is_refused(self, shape: tuple[int, ...], dtype: str) -> None:
        with pytest.raises(RequestError, match="picture"):
            images.to_model(np.zeros(shape, dtype), 8, 8)

    def test_float_arrays_with_negative_numbers_are_scaled_already(self) -> None:
        scaled = np.linspace(-1, 1, 8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3)
        assert np.array_equal(images.to_model(scaled, 8, 8)[0], scaled.transpose(2, 0, 1))

    def test_float_arrays_without_a_negative_number_are_scaled(self) -> None:
        halves = np.zeros((8, 8, 3), np.float32)
        halves[4:] = 0.5
        pixels = images.to_model(halves, 8, 8)
        assert np.all(pixels[:, :, :4] == -1) and np.all(pixels[:, :, 4:] == 0)

    @pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4)])
    def test_a_float_array_without_three_channels_is_named(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(RequestError, match=r"expected shape \(h, w, 3\), the same for all, found \(8, 8"):
            images.to_model(np.zeros(shape, np.float32), 8, 8)

    def test_a_float_array_beyond_one_is_named(self) -> None:
        with pytest.raises(RequestError, match="expected floats from -1 to 1, found 2 to 2"):
            images.to_model(np.full((8, 8, 3), 2.0), 8, 8)


class TestMasks:
    @pytest.mark.parametrize("dtype", ["bool", "uint8", "float32", "float64"])
    @pytest.mark.parametrize("layout", [(8, 8), (1, 8, 8), (8, 8, 1), (1, 8, 8, 1)])
    def test_arrays_of_every_layout_give_the_same_mask(self, dtype: str, layout: tuple[int, ...]) -> None:
        mask = np.zeros((8, 8))
        mask[2:5, 3:] = 1
        made = images.mask_to_model(mask.astype(dtype).reshape(layout), 8, 8)
        assert made.dtype == np.float32
        assert np.array_equal(made, mask[None, None])

    @pytest.mark.parametrize("dtype", ["bool", "uint8", "float32"])
    def test_arrays_in_a_list_and_cropped_ones_are_read_alike(self, dtype: str) -> None:
        mask = np.zeros((8, 8))
        mask[2:5, 3:] = 1
        listed = images.mask_to_model([mask.astype(dtype), (1 - mask).astype(dtype)], 8, 8)
        assert np.array_equal(listed[:, 0], [mask, 1 - mask])
        assert np.array_equal(np.asarray(images.mask_picture(mask.astype(dtype))), 255 * mask)
        cropped = images.mask_to_model(mask.astype(dtype), 8, 8, (0, 0, 8, 8))
        assert np.array_equal(cropped[0, 0], mask)

    def test_several_masks_are_no_picture(self) -> None:
        with pytest.raises(RequestError, match="expected one mask, found 2"):
            images.mask_picture(np.zeros((2, 8, 8)))

    def test_a_half_counts_as_white(self) -> None:
        mask = np.array([[0.5, 0.499]])
        assert images.mask_to_model(mask, 1, 2).tolist() == [[[[1.0, 0.0]]]]
        assert np.asarray(images.mask_picture(mask)).tolist() == [[255, 0]]

    def test_every_byte_above_zero_counts_as_white(self) -> None:
        mask = np.array([[1, 200, 0]], np.uint8)
        assert images.mask_to_model(mask, 1, 3).tolist() == [[[[1.0, 1.0, 0.0]]]]

    def test_latents_take_the_first_pixel_of_each_eight(self) -> None:
        mask = np.arange(16 * 24, dtype=np.float32).reshape(1, 1, 16, 24)
        assert np.array_equal(images.mask_to_latents(mask, 2, 3), mask[:, :, ::8, ::8])

    @pytest.mark.parametrize("shape", [(8,), (8, 8, 2, 2), (0, 8, 8), (8, 8, 3), (8, 8, 4)])
    def test_an_array_of_another_layout_is_named(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(
            RequestError, match=r"mask array: expected shape \(h, w\), \(n, h, w\) or \(n, h, w, 1\)"
        ):
            images.mask_to_model(np.zeros(shape, np.float32), 8, 8)

    def test_a_mask_of_other_numbers_is_named(self) -> None:
        with pytest.raises(RequestError, match="expected floats from 0 to 1, found 0 to 255"):
            images.mask_to_model(np.array([[0.0, 255.0]]), 1, 2)

    def test_a_black_mask_has_no_region_to_crop(self) -> None:
        with pytest.raises(RequestError, match="expected white where something is to be drawn, found black"):
            images.crop_region(Image.new("L", (32, 32)), 64, 64, 8)

    def test_an_overlay_of_another_size_is_refused(self) -> None:
        with pytest.raises(RequestError, match="mask: expected the size of the picture, 40x24, found 8x8"):
            images.apply_overlay(Image.new("L", (8, 8)), picture(), picture())

    def test_an_overlay_keeps_what_the_mask_leaves_black(self) -> None:
        mask = Image.new("L", (40, 24))
        mask.paste(255, (0, 0, 20, 24))
        laid = np.asarray(images.apply_overlay(mask, picture(seed=1), picture(seed=2)))
        assert np.array_equal(laid[:, 20:], np.asarray(picture(seed=1))[:, 20:])
        assert np.array_equal(laid[:, :20], np.asarray(picture(seed=2))[:, :20])


class TestDepth:
    def test_every_picture_has_its_own_range(self) -> None:
        depth = (
            np.stack([np.linspace(0, 5, 16), np.linspace(900, 100, 16)]).reshape(2, 4, 4).astype(np.float32)
        )
        made = images.normalise_depth(depth)
        assert (made.shape, made.dtype) == ((2, 1, 4, 4), np.float32)
        assert made.min(axis=(1, 2, 3)).tolist() == [-1, -1] and made.max(axis=(1, 2, 3)).tolist() == [1, 1]

    def test_sixteen_bits_and_floats_are_read_whole(self, tmp_path: Path) -> None:
        values = np.arange(0, 60000, 1000).reshape(6, 10)
        Image.fromarray(values.astype(np.uint16)).save(tmp_path / "depth.png")
        sources = (
            tmp_path / "depth.png",
            *(Image.fromarray(values.astype(kind)) for kind in (np.int32, np.float32)),
        )
        for source in sources:
            depth = images.load_depth(source)
            assert depth.dtype == np.float32
            assert np.array_equal(depth, values)

    def test_a_coloured_picture_is_read_as_grey(self) -> None:
        assert images.load_depth(picture()).shape == (24, 40)
        assert np.array_equal(images.load_depth(picture()), np.asarray(picture().convert("L")))

    def test_the_same_depth_everywhere_is_refused(self) -> None:
        depth = np.stack([np.linspace(0, 1, 16).reshape(4, 4), np.full((4, 4), 2.5)])
        with pytest.raises(
            RequestError, match=r"depth of picture 1: expected near and far parts, found 2\.5 everywhere"
        ):
            images.normalise_depth(depth)

    def test_a_constant_stays_constant_in_every_filter(self) -> None:
        flat = np.full((1, 5, 7), 3.0, np.float32)
        for resize in (images.resize_bicubic, images.resize_bilinear):
            np.testing.assert_allclose(resize(flat, 11, 4), 3.0, rtol=1e-6)

    def test_no_thread_goes_on_behind_a_resize(self) -> None:
        """Those of numpy's matrix products did for 30 ms, in which the next program had to share the cores."""
        images.resize_bicubic(np.ones((1, 384, 384), np.float32), 64, 64)
        before = time.process_time()
        time.sleep(0.05)
        assert time.process_time() - before < 0.01


def test_floats_become_the_nearest_level_and_are_clipped() -> None:
    made = images.to_pil(np.array([[[[-0.5, 0.5, 1.5]]], [[[0.1, 0.2, 0.3]]]]))
    assert [np.asarray(each).tolist() for each in made] == [[[[0, 128, 255]]], [[[26, 51, 76]]]]
