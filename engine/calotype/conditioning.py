"""From a request's pictures to the latents that denoising starts from and the extra inputs of the step.

Text-to-image, image-to-image, inpainting and depth-to-image differ here and nowhere else. Draws are taken
in diffusers' order: the picture's posterior, the noise, the masked picture's posterior.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calotype import images
from calotype.draws import Draws
from calotype.errors import RequestError
from calotype.manifest import Manifest
from calotype.request import Request, described
from calotype.schedule import Schedule
from calotype.vision import DepthEstimator, Segmenter, Vae

Array = NDArray[Any]
Crop = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Senses:
    """What a bundle can look at pictures with; None where it has no such program."""

    vae: Vae
    depth_estimator: DepthEstimator | None
    segmenter: Segmenter | None


@dataclass(frozen=True, slots=True)
class Start:
    """Latents (n, C, H, W) at the schedule's first row, and the extra inputs of the step, a row a picture.

    `mask` and `crop` are set where the drawn part is to be laid over the given picture in the end.
    """

    latents: Array
    extras: Mapping[str, Array]
    mask: Image.Image | None = None
    crop: Crop | None = None


def check(request: Request, manifest: Manifest) -> None:
    """RequestError where the bundle cannot do what the request asks for."""
    for name, expected in (("height", manifest.height), ("width", manifest.width)):
        found = getattr(request, name)
        if found not in (None, expected):
            raise RequestError(
                f"`{name}`: this bundle draws {manifest.width}x{manifest.height} pictures, found {found}",
                f"export another with `calotype-export build --size {request.width or manifest.width}x"
                f"{request.height or manifest.height}`",
            )
    wanted = ", ".join(manifest.conditioning) or "none"
    if request.has_mask and "depth" in manifest.conditioning:
        raise RequestError(
            f"a mask was given, but this bundle can use none; its conditioning is: {wanted}",
            "export an inpainting or a plain checkpoint, or drop the mask",
        )
    if request.padding_mask_crop is not None:
        images.check_overlay(request.mask_image, request.image)
    if "mask" in manifest.conditioning and not request.has_mask:
        raise RequestError(
            f"this bundle needs `image` and `mask_image`; its conditioning is: {wanted}",
            "give both, or use a bundle of a plain checkpoint",
        )
    if "depth" in manifest.conditioning:
        if request.image is None and request.depth_map is None:
            raise RequestError(f"this bundle needs `image` or `depth_map`; its conditioning is: {wanted}")
    elif request.depth_map is not None:
        raise RequestError(
            f"`depth_map` was given, but this bundle can use none; its conditioning is: {wanted}",
            "export a depth checkpoint, or drop `depth_map`",
        )


def begin(request: Request, manifest: Manifest, senses: Senses, schedule: Schedule, draws: Draws) -> Start:
    """Where the request's denoising starts. RequestError where the numbers of pictures do not go together."""
    count = request.image_count
    shape = (count, *manifest.latent_shape)
    if request.has_mask:
        return _inpainting(request, manifest, senses, schedule, draws)
    extras: dict[str, Array] = {}
    if "depth" in manifest.conditioning:
        extras["depth"] = _tiled(_depth(request, senses, shape[2:]), count, "depth_map")
    if request.image is None:
        noise = _given_or_drawn(request, draws, shape)
        return Start(noise * np.float32(schedule.init_noise_sigma), extras)
    pixels = _picture(request, manifest)
    _check_count(pixels, count, "image")
    if draws.listed:  # one generator a picture: each draws a posterior of its own
        pixels = _tiled(pixels, count, "image")
    original = _tiled(_encoded(pixels, senses.vae, manifest, draws), count, "image")
    return Start(_noised(schedule, original, draws.normal(shape)), extras)


def pasted(pictures: list[Image.Image], request: Request, start: Start) -> list[Image.Image]:
    """The pictures, put back into the original where a part of it was cut out around the mask."""
    if start.mask is None or start.crop is None:
        return pictures
    original = images.load_image(request.image)
    return [images.apply_overlay(start.mask, original, picture, start.crop) for picture in pictures]


def _inpainting(
    request: Request, manifest: Manifest, senses: Senses, schedule: Schedule, draws: Draws
) -> Start:
    count, blends = request.image_count, not manifest.conditioning
    shape = (count, *manifest.latent_shape)
    mask_image = _mask_image(request, senses)
    crop = None
    if request.padding_mask_crop is not None:
        if isinstance(mask_image, np.ndarray):
            mask_image = images.mask_picture(mask_image)
        crop = images.crop_region(mask_image, manifest.width, manifest.height, request.padding_mask_crop)
    pixels = _picture(request, manifest, crop)
    mask = images.mask_to_model(mask_image, manifest.height, manifest.width, crop=crop)
    visible = _visible(request, manifest, pixels, mask)
    for rows, name in ((pixels, "image"), (mask, "mask_image"), (visible, "masked_image_latents")):
        _check_count(rows, count, name)
    from_noise = request.noise_share == 1.0 or request.latents is not None

    original = None
    if blends or not from_noise:
        original = _tiled(_encoded(pixels, senses.vae, manifest, draws), count, "image")
    noise = _given_or_drawn(request, draws, shape)
    if from_noise or original is None:
        latents = noise * np.float32(schedule.init_noise_sigma)
    else:
        latents = _noised(schedule, original, noise)

    small = _tiled(images.mask_to_latents(mask, *shape[2:]), count, "mask_image")
    if blends and original is not None:
        if request.masked_image_latents is None:  # not looked at, but diffusers draws for it all the same
            draws.normal((len(visible), *shape[1:]))
        extras = {"keep": 1.0 - small, "original": original, "original_noise": noise}
    else:
        masked = _encoded(visible, senses.vae, manifest, draws)
        extras = {"mask": small, "masked_latents": _tiled(masked, count, "masked_image_latents")}
    return Start(latents, extras, mask_image if crop else None, crop)


def _picture(request: Request, manifest: Manifest, crop: Crop | None = None) -> Array:
    """The request's picture: pixels (n, 3, height, width) in [-1, 1], or the latents (n, C, H, W) that it came as."""
    image = request.image
    if isinstance(image, np.ndarray) and image.ndim == 4:
        found: tuple[int, ...] = image.shape
        if found[1:] == manifest.latent_shape or found[-1] not in (1, 3, 4):
            return _latents(image, "image", manifest)
    return images.to_model(image, manifest.height, manifest.width, crop=crop)


def _latents(value: Any, name: str, manifest: Manifest) -> Array:
    latents = np.asarray(value, np.float32)
    if latents.ndim != 4 or latents.shape[1:] != manifest.latent_shape or not np.isfinite(latents).all():
        channels, height, width = manifest.latent_shape
        raise RequestError(
            f"`{name}`: expected latents, finite numbers of shape (n, {channels}, {height}, {width}); "
            f"found {described(latents)}",
            "pictures have their channels last, (n, h, w, 3)",
        )
    return latents


def _visible(request: Request, manifest: Manifest, pixels: Array, mask: Array) -> Array:
    """What the mask leaves of the picture: pixels (n, 3, height, width), or latents (n, C, H, W) that were given."""
    if request.masked_image_latents is not None:
        return _latents(request.masked_image_latents, "masked_image_latents", manifest)
    if pixels.shape[1:] == manifest.latent_shape:
        raise RequestError(
            "`image` holds latents, which a mask of pixels cannot be laid over",
            "give the picture itself, or `masked_image_latents` too",
        )
    if len(pixels) > 1 and len(mask) not in (1, len(pixels)):
        raise RequestError(
            f"`mask_image`: expected one mask, or one for each of the {len(pixels)} pictures in `image`; "
            f"found {len(mask)}"
        )
    return pixels * (mask < 0.5)


def _mask_image(request: Request, senses: Senses) -> Any:
    if request.mask_prompt is None:
        return request.mask_image
    if senses.segmenter is None:
        raise RequestError(
            "`mask_prompt` was given, but this bundle has no segmenter",
            "export with `--segmenter CHECKPOINT`, or give `mask_image`",
        )
    return senses.segmenter(images.load_image(request.image), request.mask_prompt)


def _depth(request: Request, senses: Senses, size: tuple[int, ...]) -> Array:
    """Depth (n, 1, H, W) in [-1, 1], from the map that was given or from the estimator."""
    if request.depth_map is not None:
        depth = np.asarray(request.depth_map, np.float32)
        if depth.ndim not in (2, 3) or not depth.size or not np.isfinite(depth).all():
            raise RequestError(f"`depth_map`: expected finite numbers (n, h, w), found {described(depth)}")
        depth = depth if depth.ndim == 3 else depth[None]
    elif senses.depth_estimator is None:
        raise RequestError("this bundle has no depth_estimator", "give `depth_map`")
    else:
        depth = senses.depth_estimator(images.load_images(request.image))
    return images.normalise_depth(images.resize_bicubic(depth, size[0], size[1]))


def _encoded(pixels: Array, vae: Vae, manifest: Manifest, draws: Draws) -> Array:
    """Latents of pictures: a sample of the VAE's posterior. Arrays that are latents already pass as they are."""
    if pixels.shape[1:] == manifest.latent_shape:
        return pixels
    moments = vae.encode(pixels)
    return moments.sample(draws.normal(moments.mean.shape))


def _given_or_drawn(request: Request, draws: Draws, shape: tuple[int, ...]) -> Array:
    if request.latents is None:
        return draws.normal(shape)
    latents = np.asarray(request.latents, np.float32)
    if latents.shape != shape or not np.isfinite(latents).all():
        raise RequestError(f"`latents`: expected finite numbers of shape {shape}, found {described(latents)}")
    return latents


def _noised(schedule: Schedule, original: Array, noise: Array) -> Array:
    kept, added = (np.float32(weight) for weight in schedule.add_noise)
    return kept * original + added * noise


def _check_count(rows: Array, count: int, name: str) -> None:
    if not len(rows) or count % len(rows):
        raise RequestError(
            f"`{name}`: expected a number of pictures that divides {count}, the pictures of the request; "
            f"found {len(rows)}"
        )


def _tiled(rows: Array, count: int, name: str) -> Array:
    """`rows` repeated as a whole until there are `count`, as diffusers repeats pictures."""
    _check_count(rows, count, name)
    return np.tile(rows, (count // len(rows), *(1 for _ in rows.shape[1:])))
