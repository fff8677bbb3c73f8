"""Pictures, masks and depth against diffusers' image processors and torch's interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from calotype import images

torch = pytest.importorskip("torch")
VaeImageProcessor: Any = pytest.importorskip("diffusers.image_processor").VaeImageProcessor

SIZES = [(64, 64), (63, 97), (200, 41), (300, 500), (512, 512)]
TARGETS = [(64, 64), (128, 96)]


@pytest.fixture(scope="module")
def processor() -> Any:
    return VaeImageProcessor(vae_scale_factor=8)


@pytest.fixture(scope="module")
def mask_processor() -> Any:
    """As the inpainting pipeline makes it."""
    return VaeImageProcessor(
        vae_scale_factor=8, do_normalize=False, do_binarize=True, do_convert_grayscale=True
    )


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def blob(height: int, width: int, seed: int, mode: str = "L") -> Image.Image:
    """A mask with a soft-edged ellipse somewhere."""
    chance = np.random.default_rng(seed)
    left, top = chance.integers(0, width // 2), chance.integers(0, height // 2)
    box = (left, top, left + chance.integers(4, width // 2), top + chance.integers(4, height // 2))
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).ellipse([int(each) for each in box], fill=int(chance.integers(90, 256)))
    return mask.convert(mode)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", TARGETS)
def test_pictures_are_preprocessed_as_in_diffusers(
    processor: Any, size: tuple[int, int], target: tuple[int, int]
) -> None:
    listed = [picture(*size), picture(*size).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    expected = processor.preprocess(listed, *target).numpy()
    np.testing.assert_array_equal(images.to_model(listed, *target), expected)
    np.testing.assert_array_equal(images.to_model(listed[0], *target), expected[:1])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lowest", [0.0, -1.0])
def test_float_arrays_are_preprocessed_as_in_diffusers(
    processor: Any, size: tuple[int, int], lowest: float
) -> None:
    array = np.random.default_rng(1).uniform(lowest, 1, (2, *size, 3)).astype(np.float32)
    for given in (array, array[0], list(array)):
        expected = processor.preprocess(given, 64, 96).numpy()
        np.testing.assert_array_equal(images.to_model(given, 64, 96), expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P", "LA"])
@pytest.mark.parametrize("size", SIZES)
def test_masks_are_preprocessed_as_in_diffusers(
    mask_processor: Any, size: tuple[int, int], mode: str
) -> None:
    listed = [blob(*size, seed, mode) for seed in range(3)]
    for target in TARGETS:
        expected = mask_processor.preprocess(listed, *target).numpy()
        np.testing.assert_array_equal(images.mask_to_model(listed, *target), expected)


@pytest.mark.parametrize("layout", [(63, 97), (1, 63, 97), (63, 97, 1), (2, 63, 97, 1)])
def test_mask_arrays_are_preprocessed_as_in_diffusers(mask_processor: Any, layout: tuple[int, ...]) -> None:
    array = np.random.default_rng(2).uniform(0, 1, layout).astype(np.float32)
    for given in (array, [*array]) if len(layout) == 4 else (array,):
        expected = mask_processor.preprocess(np.copy(given), 128, 96).numpy()
        np.testing.assert_array_equal(images.mask_to_model(given, 128, 96), expected)


def test_listed_mask_arrays_are_preprocessed_as_in_diffusers(mask_processor: Any) -> None:
    listed = [*np.random.default_rng(2).uniform(0, 1, (2, 63, 97)).astype(np.float32)]
    expected = mask_processor.preprocess([each.copy() for each in listed], 128, 96).numpy()
    np.testing.assert_array_equal(images.mask_to_model(listed, 128, 96), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pad", [0, 7, 64])
def test_the_cropped_part_is_diffusers(mask_processor: Any, size: tuple[int, int], pad: int) -> None:
    for seed in range(20):
        mask = blob(*size, seed)
        for target in TARGETS:
            expected = mask_processor.get_crop_region(mask, target[1], target[0], pad=pad)
            assert images.crop_region(mask, target[1], target[0], pad) == expected


@pytest.mark.parametrize("size", SIZES)
def test_a_cropped_part_is_drawn_and_laid_back_as_in_diffusers(
    processor: Any, mask_processor: Any, size: tuple[int, int]
) -> None:
    original = picture(*size)
    for seed in range(6):
        mask = blob(*size, seed)
        crop = images.crop_region(mask, 96, 128, 4)
        options = {"crops_coords": crop, "resize_mode": "fill"}
        expected = processor.preprocess(original, 128, 96, **options).numpy()
        np.testing.assert_array_equal(images.to_model(original, 128, 96, crop), expected)
        expected = mask_processor.preprocess(mask, 128, 96, **options).numpy()
        np.testing.assert_array_equal(images.mask_to_model(mask, 128, 96, crop), expected)
        drawn = picture(128, 96)
        laid = processor.apply_overlay(mask, original, drawn, crop)
        np.testing.assert_array_equal(images.apply_overlay(mask, original, drawn, crop), np.asarray(laid))


def test_a_picture_is_laid_back_whole_as_in_diffusers(processor: Any) -> None:
    mask, original, drawn = blob(64, 96, 3), picture(64, 96), picture(64, 96).rotate(180)
    laid = processor.apply_overlay(mask, original, drawn)
    np.testing.assert_array_equal(images.apply_overlay(mask, original, drawn), np.asarray(laid))


def test_a_file_is_loaded_as_diffusers_loads_it(tmp_path: Any) -> None:
    load_image: Any = pytest.importorskip("diffusers.utils").load_image
    exif = Image.Exif()
    exif[0x0112] = 8
    for mode in ("RGB", "RGBA", "L", "P"):
        picture(20, 30, mode).save(tmp_path / f"{mode}.png", exif=exif)
        loaded = images.load_image(tmp_path / f"{mode}.png")
        np.testing.assert_array_equal(loaded, np.asarray(load_image(str(tmp_path / f"{mode}.png"))))


def test_decoded_pictures_become_the_same_levels(processor: Any) -> None:
    decoded = np.random.default_rng(3).uniform(-1.2, 1.2, (2, 3, 32, 40)).astype(np.float32)
    expected = processor.postprocess(torch.from_numpy(decoded))
    made = images.to_pil(decoded.transpose(0, 2, 3, 1) / 2 + np.float32(0.5))
    for ours, theirs in zip(made, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def interpolated(planes: NDArray[Any], target: tuple[int, int], **options: Any) -> NDArray[Any]:
    return torch.nn.functional.interpolate(torch.from_numpy(planes)[:, None], target, **options)[:, 0].numpy()


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (24, 24), (384, 384), (63, 200)])
@pytest.mark.parametrize("target", [(8, 8), (64, 96), (1, 3), (100, 37)])
def test_planes_are_resized_as_torch_does(size: tuple[int, int], target: tuple[int, int]) -> None:
    planes = np.random.default_rng(4).uniform(0, 1, (2, *size)).astype(np.float32)
    bicubic = interpolated(planes, target, mode="bicubic", align_corners=False)
    np.testing.assert_allclose(images.resize_bicubic(planes, *target), bicubic, rtol=0, atol=2e-6)
    bilinear = interpolated(planes, target, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(images.resize_bilinear(planes, *target), bilinear, rtol=0, atol=1e-6)
    nearest = interpolated(planes, target)
    np.testing.assert_array_equal(images.mask_to_latents(planes[:, None], *target)[:, 0], nearest)


def test_nearest_pixels_are_torchs_at_every_size() -> None:
    for size in range(1, 60):
        line = np.arange(size, dtype=np.float32)[None, None]
        for target in range(1, 60):
            expected = interpolated(line, (1, target))
            np.testing.assert_array_equal(
                images.mask_to_latents(line, 1, target), expected, f"{size} {target}"
            )


def test_depth_becomes_the_extra_channel_as_in_diffusers() -> None:
    depth = np.random.default_rng(5).uniform(0, 900, (2, 384, 384)).astype(np.float32)
    resized = interpolated(depth, (64, 96), mode="bicubic", align_corners=False)
    least, most = resized.min(axis=(1, 2), keepdims=True), resized.max(axis=(1, 2), keepdims=True)
    expected = 2.0 * (resized - least) / (most - least) - 1.0
    made = images.normalise_depth(images.resize_bicubic(depth, 64, 96))
    np.testing.assert_allclose(made[:, 0], expected, rtol=0, atol=2e-6)
