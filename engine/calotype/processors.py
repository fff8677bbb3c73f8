"""From PIL images to what depth estimators, safety checkers and segmenters see, as in transformers.

The settings of one processor are JSON with these fields, `null` for a step that is left out:

    height, width            whole numbers: resize to this size
    shortest_edge            whole number: resize so that the shorter side has this length, instead
    keep_aspect_ratio        DPT: scale both sides by whichever factor is nearer to 1
    ensure_multiple_of       DPT: round both sides to a multiple of this, 1 otherwise
    resample                 PIL's number of the filter: 0 nearest, 1 Lanczos, 2 bilinear, 3 bicubic
    crop                     [height, width] cut from the middle after resizing, zeros around smaller pictures
    rescale_factor           pixels are multiplied by this, 1/255
    image_mean, image_std    three numbers each: (pixel - mean) / std

`ImageProcessor.from_config` makes them from a checkpoint's `preprocessor_config.json`. The pixel values are
those of transformers' PIL processors (`DPTImageProcessorPil`, `CLIPImageProcessorPil`,
`ViTImageProcessorPil`), bit for bit. The torchvision processors, which transformers prefers where torchvision
is installed, resize with torch's antialiased filters, which round otherwise.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from calotype.errors import BundleError, CheckpointError

Array = NDArray[Any]

_CLIP = {
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_DPT = {"size": {"height": 384, "width": 384}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_VIT = {"size": {"height": 224, "width": 224}, "resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_STEPS = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {"CLIP": _CLIP, "DPT": _DPT, "ViT": _VIT}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageProcessor:
    """What is done to a picture before a program sees it; the fields are described above."""

    height: int | None = None
    width: int | None = None
    shortest_edge: int | None = None
    keep_aspect_ratio: bool = False
    ensure_multiple_of: int = 1
    resample: int = 3
    crop: tuple[int, int] | None = None
    rescale_factor: float | None = 1 / 255
    image_mean: tuple[float, ...] | None = None
    image_std: tuple[float, ...] | None = None

    @classmethod
    def load(cls, path: Path) -> ImageProcessor:
        """Read the settings at `path`, which may hold other keys too. BundleError when some are missing."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(
                f"{path}: the image processor could not be read: {error}", "export again"
            ) from error
        names = [field.name for field in dataclasses.fields(cls)]
        missing = [name for name in names if not isinstance(found, dict) or name not in found]
        if missing:
            raise BundleError(
                f"{path}: this image processor has no {', '.join(missing)}", "export the bundle again"
            )
        for name in ("crop", "image_mean", "image_std"):
            found[name] = found[name] and tuple(found[name])
        return cls(**{name: found[name] for name in names})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ImageProcessor:
        """The processor that transformers makes of a `preprocessor_config.json`, older forms included.

        CheckpointError for a class or a step that is not imitated.
        """
        settings = _defaults(config) | dict(config)
        if settings.get("do_pad"):
            raise CheckpointError("image processor: expected `do_pad` false, found true")
        resized = _size(settings["size"], settings["name"] == "CLIP") if settings["do_resize"] else {}
        crop = _size(settings["crop_size"], False) if settings.get("do_center_crop") else {}
        if "shortest_edge" in crop:
            raise CheckpointError(f"image processor: expected a crop of height and width, found {crop}")
        normalised = settings["do_normalize"]
        return cls(
            **resized,
            keep_aspect_ratio=bool(settings.get("keep_aspect_ratio", False)),
            ensure_multiple_of=int(settings.get("ensure_multiple_of", 1)),
            resample=int(settings["resample"]),
            crop=(crop["height"], crop["width"]) if crop else None,
            rescale_factor=float(settings["rescale_factor"]) if settings["do_rescale"] else None,
            image_mean=tuple(settings["image_mean"]) if normalised else None,
            image_std=tuple(settings["image_std"]) if normalised else None,
        )

    def to_json(self) -> dict[str, Any]:
        """What `load` reads, as plain values."""
        return dataclasses.asdict(self)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the pixel values that a picture of `height` x `width` becomes."""
        return self.crop or self._resized_size(height, width)

    def __call__(self, picture: Image.Image) -> Array:
        """Pixel values (1, 3, h, w) float32 of an RGB picture."""
        height, width = self._resized_size(picture.height, picture.width)
        resampling = Image.Resampling(self.resample)
        pixels = np.asarray(picture.convert("RGB").resize((width, height), resampling))  # (h, w, 3)
        if self.crop:
            pixels = center_crop(pixels, *self.crop)
        values = pixels.astype(np.float32)
        if self.rescale_factor is not None:
            values = (pixels.astype(np.float64) * self.rescale_factor).astype(np.float32)
        if self.image_mean is not None and self.image_std is not None:
            values = (values - np.array(self.image_mean, np.float32)) / np.array(self.image_std, np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1))[None]

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        if self.shortest_edge is not None:
            longest = int(self.shortest_edge * max(height, width) / min(height, width))
            return (longest, self.shortest_edge) if width <= height else (self.shortest_edge, longest)
        if self.height is None or self.width is None:
            return height, width
        vertical, horizontal = self.height / height, self.width / width
        if self.keep_aspect_ratio:
            vertical = horizontal = horizontal if abs(1 - horizontal) < abs(1 - vertical) else vertical
        multiple = self.ensure_multiple_of
        return round(vertical * height / multiple) * multiple, round(horizontal * width / multiple) * multiple


def center_crop(pixels: Array, height: int, width: int) -> Array:
    """The middle (height, width, C) of (h, w, C), zeros where there is none (transformers' `center_crop`)."""
    cropped = np.zeros((height, width, *pixels.shape[2:]), pixels.dtype)
    rows, kept_rows = _overlap(pixels.shape[0], height)
    columns, kept_columns = _overlap(pixels.shape[1], width)
    cropped[rows, columns] = pixels[kept_rows, kept_columns]
    return cropped


def _overlap(size: int, wanted: int) -> tuple[slice, slice]:
    """Where the middle of `wanted` pixels gets its pixels from `size` of them: (target, source)."""
    if size >= wanted:
        first = (size - wanted) // 2
        return slice(0, wanted), slice(first, first + wanted)
    first = math.ceil((wanted - size) / 2)
    return slice(first, first + size), slice(0, size)


def _defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults of the transformers class that `config` names, and which it is."""
    named = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    for name, defaults in _DEFAULTS.items():
        if named.startswith(name) and named[len(name) :].startswith(("ImageProcessor", "FeatureExtractor")):
            return {**_STEPS, **defaults, "name": name}
    raise CheckpointError(
        f"image processor: expected the class of {', '.join(_DEFAULTS)}, found {named or 'no class name'}",
        "calotype.processors imitates these and no other",
    )


def _size(size: Any, shortest: bool) -> dict[str, int]:
    """`size` of a config as fields of the record; older configs give one number for a side or for both."""
    if isinstance(size, int):
        return {"shortest_edge": size} if shortest else {"height": size, "width": size}
    if isinstance(size, Mapping) and set(size) in ({"shortest_edge"}, {"height", "width"}):
        return {name: int(value) for name, value in size.items()}
    raise CheckpointError(
        f"image processor: expected a size of height and width or shortest_edge, found {size!r}"
    )


def flagged(
    special_scores: Array, concept_scores: Array, special_thresholds: Array, concept_thresholds: Array
) -> Array:
    """Which pictures (n,) the safety checker blackens, from cosine distances (n, s) and (n, m).

    Scores over their thresholds, rounded to three decimals; a special concept that is found lowers the
    other thresholds by 0.01. Source: diffusers' `StableDiffusionSafetyChecker.forward`.
    """
    special = np.round(special_scores.astype(np.float32) - special_thresholds.astype(np.float32), 3)
    found = (special > 0).any(axis=1, keepdims=True)
    adjustment = np.where(found, np.float32(0.01), np.float32(0.0))
    concepts = concept_scores.astype(np.float32) - concept_thresholds.astype(np.float32) + adjustment
    return np.asarray((np.round(concepts, 3) > 0).any(axis=1))
