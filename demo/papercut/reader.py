"""Reading a picture with classical image analysis: (H, W, 3) uint8 becomes the background's name and its objects.

No learned part: a quadratic surface is fitted to the background, what differs from it is cut into connected
components, and each is compared with the outlines, colours and textures that captions can name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from papercut.rendering import ACCENTS, render_mask
from papercut.scenes import BACKGROUNDS, CENTRES, COLOURS, SHAPES, Arrangement, Item

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float32]

_SIDE: Final = 256
# RGB distances of 255: from the background, and from its darker self where the shadow falls.
_FOREGROUND: Final = 24.0
_SHADOW: Final = 20.0
_SMALLEST_AREA: Final = 0.006
_LARGEST_DOT: Final = 0.008
_TEMPLATE: Final = 48
_LARGE_RADIUS: Final = 0.163
_PLAIN_SHARE: Final = 0.12
_STRIPED_COHERENCE: Final = 0.45
_PLACES: Final[tuple[Arrangement, ...]] = ("left", "right", "top", "bottom", "centre")


@dataclass(frozen=True, slots=True)
class Seen:
    """One object as read; `centre` is that of its bounding box, as fractions of the side; `mask` (256, 256)."""

    shape: str
    colour: str
    texture: str
    size: str
    centre: tuple[float, float]
    mask: Mask

    @property
    def place(self) -> Arrangement:
        """The nearest of the five places."""
        return min(_PLACES, key=lambda place: float(np.hypot(*np.subtract(self.centre, CENTRES[place][0]))))


@dataclass(frozen=True, slots=True)
class Reading:
    """What a picture shows, the largest object first."""

    background: str
    objects: tuple[Seen, ...]


def read(picture: NDArray[np.uint8]) -> Reading:
    """Read a square picture of any size."""
    pixels = np.asarray(
        Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BOX), dtype=np.float32
    )
    ground, foreground = _split(pixels)
    labels, count = _components(foreground)
    masks = [_fill_dots(labels == label) for label in range(1, count + 1)]
    masks = sorted((mask for mask in masks if mask.mean() >= _SMALLEST_AREA), key=lambda mask: -mask.sum())
    centre = np.median(ground.reshape(-1, 3), axis=0)
    return Reading(_nearest(centre, BACKGROUNDS), tuple(_read_object(pixels, mask) for mask in masks))


def foreground_mask(picture: NDArray[np.uint8]) -> Mask:
    """Everything that is an object, (256, 256)."""
    masks = [seen.mask for seen in read(picture).objects]
    return np.any(masks, axis=0) if masks else np.zeros((_SIDE, _SIDE), dtype=np.bool_)


def _split(pixels: Pixels) -> tuple[Pixels, Mask]:
    """The background alone (H, W, 3), and what stands before it."""
    grid = np.linspace(-1, 1, _SIDE, dtype=np.float32)
    y, x = (axis.ravel() for axis in np.meshgrid(grid, grid, indexing="ij"))
    basis = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)
    colours = pixels.reshape(-1, 3)
    background = np.linalg.norm(colours - _mode(colours), axis=1) < 3 * _FOREGROUND
    ground = colours
    for _ in range(5):
        fit = np.linalg.lstsq(basis[background][::7], colours[background][::7], rcond=None)[0]
        ground = basis @ fit
        background = np.linalg.norm(colours - ground, axis=1) < 0.7 * _FOREGROUND
    shade = np.clip((colours * ground).sum(1) / (ground * ground).sum(1), 0.4, 1.0)
    shadow = np.linalg.norm(colours - shade[:, None] * ground, axis=1) < _SHADOW
    foreground = (np.linalg.norm(colours - ground, axis=1) > _FOREGROUND) & ~shadow
    opened = ndimage.binary_opening(foreground.reshape(_SIDE, _SIDE), iterations=1)
    return ground.reshape(pixels.shape).astype(np.float32), np.asarray(opened, dtype=np.bool_)


def _components(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """Labels (H, W) from 1 on, and how many there are."""
    labelled: Any = ndimage.label(mask)
    return labelled


def _mode(colours: Pixels) -> Pixels:
    """The most frequent colour, to 16 levels a channel, averaged over the pixels that have it."""
    coarse = (colours // 24).astype(np.int64) @ np.array([256, 16, 1])
    values, counts = np.unique(coarse, return_counts=True)
    return colours[coarse == values[counts.argmax()]].mean(0)


def _fill_dots(mask: Mask) -> Mask:
    """Fill holes no larger than a dot; a ring keeps its hole, unless it was drawn too small."""
    labels, count = _components(~mask)
    for label in range(1, count + 1):
        hole = labels == label
        if hole.mean() < _LARGEST_DOT:
            mask = mask | hole
    return mask


def _read_object(pixels: Pixels, mask: Mask) -> Seen:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    height, width = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    crop = mask[rows[0] : rows[0] + height, columns[0] : columns[0] + width]
    inner: Mask = np.asarray(ndimage.binary_erosion(mask, iterations=3), dtype=np.bool_)
    inner = inner if inner.sum() > 30 else mask
    colour = _read_colour(pixels[inner])
    return Seen(
        shape=_read_shape(crop),
        colour=colour,
        texture=_read_texture(pixels, inner, colour),
        size="large" if max(height, width) / 2 / _SIDE > _LARGE_RADIUS else "small",
        centre=(float(columns[0] + width / 2) / _SIDE, float(rows[0] + height / 2) / _SIDE),
        mask=mask,
    )


def _read_colour(pixels: Pixels) -> str:
    """The colour whose two papers, plain and accent, are nearest to the object's pixels on average."""

    def distance(name: str) -> float:
        to_base = np.linalg.norm(pixels - np.asarray(COLOURS[name]), axis=1)
        to_accent = np.linalg.norm(pixels - np.asarray(ACCENTS[name]), axis=1)
        share = float(np.mean(to_accent < to_base))
        return float(np.minimum(to_base, to_accent).mean()) + 100 * max(0.0, share - 0.6)

    return min(COLOURS, key=distance)


def _read_texture(pixels: Pixels, inner: Mask, colour: str) -> str:
    base, accent = (np.asarray(palette[colour], dtype=np.float32) for palette in (COLOURS, ACCENTS))
    accentness = (pixels - base) @ (accent - base) / float((accent - base) @ (accent - base))
    if float(np.mean(accentness[inner] > 0.5)) < _PLAIN_SHARE:
        return "plain"
    smooth = ndimage.gaussian_filter(np.clip(accentness, 0, 1), 1.0)
    down, across = (np.gradient(smooth, axis=axis)[inner] for axis in (0, 1))
    energy, difference, cross = (
        (down**2 + across**2).sum(),
        (down**2 - across**2).sum(),
        2 * (down * across).sum(),
    )
    return "striped" if np.hypot(difference, cross) > _STRIPED_COHERENCE * energy else "dotted"


def _read_shape(crop: Mask) -> str:
    """The outline with the largest intersection over union, after scaling both to their bounding boxes."""
    stretched = _stretch(crop)
    aspect = crop.shape[1] / crop.shape[0]

    def likeness(shape: str) -> float:
        template, template_aspect = _template(shape)
        overlap = float((stretched & template).sum() / (stretched | template).sum())
        return overlap - 0.5 * abs(float(np.log(aspect / template_aspect)))

    return max(SHAPES, key=likeness)


@cache
def _template(shape: str) -> tuple[Mask, float]:
    mask = render_mask(Item(shape, "red", "plain", "large", (0.5, 0.5), 0.4), _SIDE) > 127
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return _stretch(crop), crop.shape[1] / crop.shape[0]


def _stretch(crop: Mask) -> Mask:
    image = Image.fromarray(crop.astype(np.uint8) * 255)
    return np.asarray(image.resize((_TEMPLATE, _TEMPLATE), Image.Resampling.BILINEAR)) > 127


def _nearest(colour: NDArray[np.floating], names: dict[str, tuple[int, int, int]]) -> str:
    return min(names, key=lambda name: float(np.linalg.norm(colour - np.asarray(names[name]))))
