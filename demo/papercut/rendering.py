"""Rendering: a scene becomes a picture (H, W, 3), one mask per item (N, H, W) and a depth map (H, W).

Paper-cut style, drawn with Skia: soft light on the background, cut-outs with a drop shadow and a bright rim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import skia
from numpy.typing import NDArray

from papercut.scenes import BACKGROUNDS, COLOURS, Colour, Item, Scene

# skia-python ships no types.
Canvas: TypeAlias = Any
Outline: TypeAlias = Any
Shader: TypeAlias = Any

# The second paper of striped and dotted items.
ACCENTS: Final[dict[str, Colour]] = {
    "red": (250, 176, 160),
    "orange": (255, 216, 160),
    "yellow": (255, 250, 206),
    "green": (170, 222, 160),
    "blue": (164, 204, 250),
    "purple": (214, 176, 240),
    "pink": (255, 222, 234),
    "white": (176, 190, 210),
}
STRIPE_PERIOD: Final = 0.092
DOT_PITCH: Final = 0.098
DOT_RADIUS: Final = 0.0285


@dataclass(frozen=True, slots=True)
class Render:
    """Picture (H, W, 3) uint8, item masks (N, H, W) uint8 coverage, and disparity (H, W) float32, 1 nearest."""

    picture: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    depth: NDArray[np.float32]


def render(scene: Scene, side: int) -> Render:
    """Draw `scene` as a square of `side` pixels."""
    masks = np.stack([render_mask(item, side) for item in scene.items])
    return Render(render_picture(scene, side), masks, _depth(scene, masks))


def render_picture(scene: Scene, side: int) -> NDArray[np.uint8]:
    """The picture alone: (side, side, 3) uint8, RGB."""
    surface = skia.Surface(side, side)
    canvas = surface.getCanvas()
    canvas.scale(side, side)
    _draw_background(canvas, BACKGROUNDS[scene.background])
    for item in scene.items:
        _draw_item(canvas, item)
    return np.ascontiguousarray(surface.toarray(colorType=skia.kRGBA_8888_ColorType)[:, :, :3])


def render_mask(item: Item, side: int) -> NDArray[np.uint8]:
    """The item's coverage: (side, side) uint8, 255 inside."""
    surface = skia.Surface(side, side)
    canvas = surface.getCanvas()
    canvas.clear(skia.ColorBLACK)
    canvas.scale(side, side)
    canvas.drawPath(item_path(item), skia.Paint(AntiAlias=True, Color=skia.ColorWHITE))
    return np.ascontiguousarray(surface.toarray(colorType=skia.kRGBA_8888_ColorType)[:, :, 0])


def item_path(item: Item) -> Outline:
    """The outline of an item, in fractions of the picture's side."""
    placement = skia.Matrix()
    placement.setTranslate(*item.centre)
    placement.preScale(item.radius, item.radius)
    path = skia.Path()
    unit_path(item.shape).transform(placement, path)
    return path


def unit_path(shape: str) -> Outline:  # noqa: PLR0911
    """The outline of a shape about the origin, within a radius of about 1 (y points down)."""
    match shape:
        case "circle":
            return skia.Path.Circle(0, 0, 0.95)
        case "square":
            return skia.Path.RRect(skia.RRect.MakeRectXY(skia.Rect(-0.83, -0.83, 0.83, 0.83), 0.06, 0.06))
        case "triangle":
            return _polygon([(0, -0.98), (1.02, 0.8), (-1.02, 0.8)])
        case "star":
            radii = [1.1 if corner % 2 == 0 else 0.46 for corner in range(10)]
            angles = [corner * math.pi / 5 for corner in range(10)]
            return _polygon(
                [(r * math.sin(a), 0.05 - r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]
            )
        case "heart":
            return _heart()
        case "ring":
            return skia.Op(skia.Path.Circle(0, 0, 1), skia.Path.Circle(0, 0, 0.52), skia.kDifference_PathOp)
        case "cross":
            upright = skia.Path.Rect(skia.Rect(-0.34, -1, 0.34, 1))
            return skia.Op(upright, skia.Path.Rect(skia.Rect(-1, -0.34, 1, 0.34)), skia.kUnion_PathOp)
        case "crescent":
            return skia.Op(
                skia.Path.Circle(0, 0, 1), skia.Path.Circle(0.5, -0.12, 0.76), skia.kDifference_PathOp
            )
        case _:
            raise ValueError(
                f"shape: expected one of papercut.scenes.SHAPES, found {shape!r}\nhint: check the spelling"
            )


def _polygon(corners: list[tuple[float, float]]) -> Outline:
    path = skia.Path()
    path.addPoly([skia.Point(*corner) for corner in corners], True)
    return path


def _heart() -> Outline:
    path = skia.Path()
    path.moveTo(0, -0.5)
    path.cubicTo(0.35, -1.15, 1.2, -0.95, 1.05, -0.2)
    path.cubicTo(0.95, 0.3, 0.4, 0.6, 0, 1.0)
    path.cubicTo(-0.4, 0.6, -0.95, 0.3, -1.05, -0.2)
    path.cubicTo(-1.2, -0.95, -0.35, -1.15, 0, -0.5)
    path.close()
    return path


def _draw_background(canvas: Canvas, colour: Colour) -> None:
    light = skia.GradientShader.MakeRadial(
        center=skia.Point(0.4, 0.32),
        radius=0.95,
        colors=[_toned(colour, 0.10), _toned(colour, 0.0), _toned(colour, -0.14)],
        positions=[0.0, 0.5, 1.0],
    )
    canvas.drawPaint(skia.Paint(Shader=light, Dither=True))


def _draw_item(canvas: Canvas, item: Item) -> None:
    path = item_path(item)
    blur = skia.MaskFilter.MakeBlur(skia.kNormal_BlurStyle, 0.018)
    canvas.save()
    canvas.translate(0.012, 0.02)
    canvas.drawPath(path, skia.Paint(AntiAlias=True, Color=skia.Color(10, 12, 30, 110), MaskFilter=blur))
    canvas.restore()
    canvas.drawPath(path, skia.Paint(AntiAlias=True, Shader=_paper(item, COLOURS[item.colour])))
    canvas.save()
    canvas.clipPath(path, doAntiAlias=True)
    _draw_texture(canvas, item)
    canvas.restore()


def _draw_texture(canvas: Canvas, item: Item) -> None:
    paint = skia.Paint(AntiAlias=True, Shader=_paper(item, ACCENTS[item.colour]))
    x, y = item.centre
    if item.texture == "striped":
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(STRIPE_PERIOD * 0.42)
        for stripe in range(-4, 5):
            shift = stripe * STRIPE_PERIOD * math.sqrt(2)
            canvas.drawLine(x + shift - 0.4, y + 0.4, x + shift + 0.4, y - 0.4, paint)
    elif item.texture == "dotted":
        for row in range(-4, 5):
            for column in range(-4, 5):
                shift = column + 0.5 * (row % 2)
                canvas.drawCircle(x + shift * DOT_PITCH, y + row * DOT_PITCH * 0.87, DOT_RADIUS, paint)


def _paper(item: Item, colour: Colour) -> Shader:
    """Paper lit from the upper left."""
    (x, y), reach = item.centre, item.radius
    ends = [skia.Point(x - 0.7 * reach, y - 0.9 * reach), skia.Point(x + 0.7 * reach, y + 0.9 * reach)]
    return skia.GradientShader.MakeLinear(points=ends, colors=[_toned(colour, 0.10), _toned(colour, -0.08)])


def _toned(colour: Colour, amount: float) -> int:
    """The colour mixed with white (`amount` above 0) or with black (below 0)."""
    target = 255.0 if amount > 0 else 0.0
    red, green, blue = (round(channel + (target - channel) * abs(amount)) for channel in colour)
    return skia.Color(red, green, blue)


def _depth(scene: Scene, masks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Disparity: a floor that rises towards the viewer, and domes on it, the large ones nearer."""
    side = masks.shape[-1]
    grid = (np.arange(side, dtype=np.float32) + 0.5) / side
    depth = np.broadcast_to(0.05 + 0.2 * grid[:, None], (side, side)).astype(np.float32)
    for item, mask in zip(scene.items, masks, strict=True):
        x, y = item.centre
        squared = ((grid[None, :] - x) ** 2 + (grid[:, None] - y) ** 2) / item.radius**2
        dome = (0.8 if item.size == "large" else 0.6) + 0.2 * np.clip(1 - squared / 1.2, 0, 1)
        coverage = mask.astype(np.float32) / 255
        depth = depth * (1 - coverage) + dome * coverage
    return depth.astype(np.float32)
