"""Pictures, masks and depth between what people give, what the programs take, and what people get.

A picture is a path, a file's bytes, a PIL image, an array, or a list of those. Arrays are (h, w, 3) or
(n, h, w, 3), uint8 or floats in [0, 1]; floats in [-1, 1] are taken as they are, as diffusers does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calotype.errors import RequestError
from calotype.masks import Crop, apply_overlay, check_overlay, crop_region, resize_and_fill
from calotype.pictures import Source, check_range, load_image, open_picture, read_parameters, save_png
from calotype.resize import resize_bicubic, resize_bilinear, resize_nearest

__all__ = [
    "apply_overlay", "check_overlay", "crop_region", "load_depth", "load_image", "load_images", "mask_picture",
    "mask_to_latents", "mask_to_model", "normalise_depth", "read_parameters", "resize_bicubic", "resize_bilinear",
    "save_png", "to_model", "to_pil",
]  # fmt: skip

Array = NDArray[Any]


def load_images(pictures: Any) -> list[Image.Image]:
    """The picture or pictures as RGB; see `load_image`. RequestError when there is none."""
    return [load_image(picture) for picture in _listed(pictures)]


def load_depth(source: Any) -> Array:
    """Depth (h, w) float32 from a grey picture, in the picture's own unit: 16 bits and floats are kept whole."""
    image = open_picture(source)
    if image.mode != "F" and not image.mode.startswith("I"):
        image = image.convert("L")
    return np.asarray(image, np.float32)


def to_model(pictures: Any, height: int, width: int, crop: Crop | None = None) -> Array:
    """Pixels (n, 3, height, width) float32 in [-1, 1], as diffusers' `VaeImageProcessor.preprocess`.

    Files, PIL images and uint8 arrays are resized with Lanczos, float arrays to the nearest pixel; `crop` is
    cut out first and then scaled with its edges drawn out. RequestError for what is no picture.
    """
    listed = _listed(pictures)
    if crop is None and all(isinstance(each, np.ndarray) and each.dtype != np.uint8 for each in listed):
        return _floats_to_model(listed, height, width)
    resized = [np.asarray(_resized(load_image(each), height, width, crop)) for each in listed]
    scaled = np.stack(resized).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    return np.float32(2) * scaled - np.float32(1)


def mask_to_model(masks: Any, height: int, width: int, crop: Crop | None = None) -> Array:
    """Masks (n, 1, height, width) float32 of zeros and ones, ones where something is to be drawn.

    Resized as pictures are, then made grey and cut at a half, as diffusers' `mask_processor` does. An array, by itself
    or in a list, is (h, w), (n, h, w) or either with a last axis of 1: floats in [0, 1], booleans, or uint8, in which
    any number above zero counts.
    """
    listed = [masks] if isinstance(masks, np.ndarray) else _listed(masks)
    return np.concatenate([_mask_planes(each, height, width, crop) for each in listed])


def mask_picture(mask: Array) -> Image.Image:
    """The one mask in an array, black and white, by the rule of `mask_to_model`. RequestError for several."""
    planes = _planes(mask)
    if len(planes) != 1:
        raise RequestError(f"mask array: expected one mask, found {len(planes)}", "call once a picture")
    return Image.fromarray(np.where(planes[0] >= 0.5, 255, 0).astype(np.uint8))


def mask_to_latents(mask: Array, height: int, width: int) -> Array:
    """Masks (n, 1, 8H, 8W) at the size of the latents, (n, 1, H, W), nearest pixel."""
    return resize_nearest(mask, height, width)


def to_pil(pictures: Array) -> list[Image.Image]:
    """PIL images from (n, h, w, 3) floats; what lies outside [0, 1] is clipped."""
    return [Image.fromarray(each) for each in np.rint(np.clip(pictures, 0.0, 1.0) * 255.0).astype(np.uint8)]


def normalise_depth(depth: Array) -> Array:
    """Depth (n, H, W) of any unit as (n, 1, H, W) in [-1, 1], picture by picture.

    Source: diffusers' `StableDiffusionDepth2ImgPipeline.prepare_depth_map`. RequestError where a picture's
    depth is the same everywhere, by which diffusers would divide by zero.
    """
    least, most = depth.min(axis=(1, 2), keepdims=True), depth.max(axis=(1, 2), keepdims=True)
    flat = np.flatnonzero(~(most > least))
    if len(flat):
        value = float(least.reshape(-1)[flat[0]])
        raise RequestError(
            f"depth of picture {flat[0]}: expected near and far parts, found {value:g} everywhere",
            "give a `depth_map` with more than one value",
        )
    return (np.float32(2) * (depth - least) / (most - least) - np.float32(1)).astype(np.float32)[:, None]


def _listed(pictures: Any) -> list[Source]:
    """One source a picture."""
    listed: list[Source] = (
        list(pictures)
        if isinstance(pictures, (list, tuple)) or (isinstance(pictures, np.ndarray) and pictures.ndim == 4)
        else [pictures]
    )
    if not listed:
        raise RequestError("picture: expected at least one, found none")
    return listed


def _floats_to_model(listed: list[Any], height: int, width: int) -> Array:
    for each in listed:
        if each.ndim != 3 or each.shape[-1] != 3 or each.shape != listed[0].shape or not each.size:
            raise RequestError(
                f"picture array: expected shape (h, w, 3), the same for all, found {each.shape}",
                "channels come last; give uint8 or a PIL image for grey pictures and for transparency",
            )
        check_range(each, -1.0)
    planes = resize_nearest(np.stack(listed).transpose(0, 3, 1, 2), height, width).astype(np.float32)
    return planes if planes.min() < 0 else np.float32(2) * planes - np.float32(1)


def _mask_planes(mask: Source, height: int, width: int, crop: Crop | None) -> Array:
    """(n, 1, height, width) float32: of a picture, or of an array of one or more."""
    if isinstance(mask, np.ndarray) and crop is None:
        return (resize_nearest(_planes(mask), height, width) >= 0.5)[:, None].astype(np.float32)
    picture = mask_picture(mask) if isinstance(mask, np.ndarray) else open_picture(mask)
    grey = np.asarray(_resized(picture, height, width, crop).convert("L"))
    return (grey[None, None] / np.float32(255) >= 0.5).astype(np.float32)


def _planes(mask: Array) -> Array:
    """(n, h, w) from the layouts in which diffusers takes a mask array."""
    planes = mask[..., 0] if mask.ndim > 2 and mask.shape[-1] == 1 else mask
    planes = planes[None] if planes.ndim == 2 else planes
    coloured = mask.ndim == 3 and mask.shape[-1] in (3, 4)
    if planes.ndim != 3 or not planes.size or coloured:
        raise RequestError(
            f"mask array: expected shape (h, w), (n, h, w) or (n, h, w, 1), found {mask.shape}",
            "a mask has one channel",
        )
    if planes.dtype not in (np.dtype(np.bool_), np.dtype(np.uint8)):
        check_range(planes, 0.0)
    return planes


def _resized(image: Image.Image, height: int, width: int, crop: Crop | None) -> Image.Image:
    if crop is not None:
        return resize_and_fill(image.crop(crop), width, height)
    return image.resize((width, height), Image.Resampling.LANCZOS)
