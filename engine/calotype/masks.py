"""The masked part of a picture, cut out to be drawn larger, and laid back: diffusers' `padding_mask_crop`."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from calotype.errors import RequestError
from calotype.pictures import Source, load_image, open_picture

Crop = tuple[int, int, int, int]  # left, top, right, bottom in pixels


def crop_region(mask_image: Source, width: int, height: int, pad: int = 0) -> Crop:
    """The part to draw at `width` x `height`: all of the mask that is not black and `pad` pixels around it.

    It is extended to the aspect ratio of what is drawn, as far as the mask goes.

    Source: diffusers' `VaeImageProcessor.get_crop_region`. RequestError when the mask is black everywhere.
    """
    mask = np.asarray(open_picture(mask_image).convert("L"))  # (h, w)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise RequestError("mask: expected white where something is to be drawn, found black everywhere")
    limit_y, limit_x = mask.shape
    top, bottom = max(int(rows[0]) - pad, 0), min(int(rows[-1]) + 1 + pad, limit_y)
    left, right = max(int(columns[0]) - pad, 0), min(int(columns[-1]) + 1 + pad, limit_x)
    ratio = width / height
    if (right - left) / (bottom - top) > ratio:
        top, bottom = _extended(top, bottom, (right - left) / ratio, limit_y)
    else:
        left, right = _extended(left, right, (bottom - top) * ratio, limit_x)
    return left, top, right, bottom


def _extended(first: int, last: int, wanted: float, limit: int) -> tuple[int, int]:
    """The stretch from `first` to `last` made `wanted` long around its middle, moved and cut to `limit`."""
    missing = int(wanted - (last - first))
    first -= missing // 2
    last += missing - missing // 2
    if last >= limit:
        first, last = first - (last - limit), limit
    if first < 0:
        first, last = 0, last - first
    return first, min(last, limit)


def check_overlay(mask: Any, init_image: Any) -> None:
    """RequestError unless `mask` and `init_image` are one picture each and of one size, as `apply_overlay` needs."""
    for name, given in (("image", init_image), ("mask_image", mask)):
        if isinstance(given, (list, tuple)) or (isinstance(given, np.ndarray) and given.ndim > 3):
            raise RequestError(
                f"`padding_mask_crop`: expected one picture as `{name}`, found several", "call once a picture"
            )
    found, expected = open_picture(mask).size, open_picture(init_image).size
    if found != expected:
        raise RequestError(
            f"`padding_mask_crop`: expected a mask of the picture's size, {expected[0]}x{expected[1]}, "
            f"found {found[0]}x{found[1]}",
            "resize the mask to the picture",
        )


def apply_overlay(
    mask: Source, init_image: Source, image: Image.Image, crop: Crop | None = None
) -> Image.Image:
    """`image` where `mask` is white, `init_image` where it is black; `crop` is where `image` lies in it.

    Source: diffusers' `VaeImageProcessor.apply_overlay`. RequestError when mask and picture differ in size.
    """
    original = load_image(init_image)
    hidden = ImageOps.invert(open_picture(mask).convert("L"))
    if hidden.size != original.size:
        raise RequestError(
            f"mask: expected the size of the picture, {original.width}x{original.height}, "
            f"found {hidden.width}x{hidden.height}"
        )
    kept = Image.new("RGBa", original.size)
    kept.paste(original.convert("RGBA").convert("RGBa"), mask=hidden)
    if crop is not None:
        base = Image.new("RGBA", original.size)
        base.paste(resize_and_crop(image, crop[2] - crop[0], crop[3] - crop[1]), (crop[0], crop[1]))
        image = base.convert("RGB")
    drawn = image.convert("RGBA")
    drawn.alpha_composite(kept.convert("RGBA"))
    return drawn.convert("RGB")


def resize_and_crop(image: Image.Image, width: int, height: int) -> Image.Image:
    """`image` scaled until it covers `width` x `height`, what hangs over cut off (diffusers' mode "crop")."""
    wider = width / height > image.width / image.height
    size = (
        width if wider else image.width * height // image.height,
        height if not wider else image.height * width // image.width,
    )
    return _centred(image.resize(size, Image.Resampling.LANCZOS), width, height)


def resize_and_fill(image: Image.Image, width: int, height: int) -> Image.Image:
    """`image` scaled until it fits into `width` x `height`, its edges drawn out (diffusers' mode "fill")."""
    ratio, found = width / height, image.width / image.height
    size = (
        width if ratio < found else image.width * height // image.height,
        height if ratio >= found else image.height * width // image.width,
    )
    resized = image.resize(size, Image.Resampling.LANCZOS)
    filled = _centred(resized, width, height)
    above, beside = height // 2 - size[1] // 2, width // 2 - size[0] // 2
    if ratio < found and above > 0:
        filled.paste(resized.resize((width, above), box=(0, 0, width, 0)), (0, 0))
        last = (0, resized.height, width, resized.height)
        filled.paste(resized.resize((width, above), box=last), (0, above + size[1]))
    elif ratio > found and beside > 0:
        filled.paste(resized.resize((beside, height), box=(0, 0, 0, height)), (0, 0))
        last = (resized.width, 0, resized.width, height)
        filled.paste(resized.resize((beside, height), box=last), (beside + size[0], 0))
    return filled


def _centred(image: Image.Image, width: int, height: int) -> Image.Image:
    canvas = Image.new("RGB", (width, height))
    canvas.paste(image, (width // 2 - image.width // 2, height // 2 - image.height // 2))
    return canvas
