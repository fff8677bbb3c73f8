"""Scenes: what a picture shows, as data. In: a random generator; out: a `Scene` of one or two items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

Split = Literal["train", "held-out"]
Arrangement = Literal["left", "right", "top", "bottom", "centre", "beside", "above"]
Colour = tuple[int, int, int]

SHAPES: Final = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "crescent")
TEXTURES: Final = ("plain", "striped", "dotted")
SIZES: Final = ("small", "large")
COLOURS: Final[dict[str, Colour]] = {
    "red": (214, 48, 44),
    "orange": (240, 132, 30),
    "yellow": (250, 208, 50),
    "green": (46, 150, 76),
    "blue": (40, 104, 208),
    "purple": (124, 64, 168),
    "pink": (242, 130, 178),
    "white": (252, 252, 248),
}
BACKGROUNDS: Final[dict[str, Colour]] = {
    "cream": (242, 228, 200),
    "mint": (176, 222, 194),
    "lavender": (200, 188, 230),
    "sky": (152, 206, 236),
    "navy": (32, 46, 82),
    "charcoal": (74, 76, 82),
}
# Item centres (x, y), as fractions of the picture's side; a pair holds its first item's centre first.
CENTRES: Final[dict[Arrangement, tuple[tuple[float, float], ...]]] = {
    "left": ((0.25, 0.5),),
    "right": ((0.75, 0.5),),
    "top": ((0.5, 0.25),),
    "bottom": ((0.5, 0.75),),
    "centre": ((0.5, 0.5),),
    "beside": ((0.26, 0.5), (0.74, 0.5)),
    "above": ((0.5, 0.26), (0.5, 0.74)),
}
ARRANGEMENTS: Final[tuple[Arrangement, ...]] = tuple(CENTRES)
RADII: Final = {"small": 0.13, "large": 0.2}
_CENTRE_JITTER: Final = 0.02
_RADIUS_JITTER: Final = 0.08
_PAIR_SHARE: Final = 0.4


@dataclass(frozen=True, slots=True)
class Item:
    """One object: what it is, and where, with `centre` and `radius` as fractions of the picture's side."""

    shape: str
    colour: str
    texture: str
    size: str
    centre: tuple[float, float]
    radius: float


@dataclass(frozen=True, slots=True)
class Scene:
    """A background with one item, or with two; of a pair the first is on the left or on top."""

    background: str
    arrangement: Arrangement
    items: tuple[Item, ...]


def is_held_out(item: Item, background: str) -> bool:
    """Whether this shape, colour and background together are kept out of training.

    One combination in sixteen is: three with each shape, three with each colour, four with each background, and no two
    that share two of the three.
    """
    shape = SHAPES.index(item.shape)
    colour = tuple(COLOURS).index(item.colour)
    ground = tuple(BACKGROUNDS).index(background)
    return (shape + 6 * colour + 7 * ground) % 16 == 0


def split_of(scene: Scene) -> Split:
    """The split a scene belongs to: one held-out item makes the whole scene held out."""
    held_out = any(is_held_out(item, scene.background) for item in scene.items)
    return "held-out" if held_out else "train"


def sample_scene(generator: np.random.Generator, split: Split) -> Scene:
    """Draw a scene of `split`: attributes are independent, and uniform but for texture, of which half is plain."""
    while True:
        scene = _draw_scene(generator)
        if split_of(scene) == split and _is_legible(scene):
            return scene


def _draw_scene(generator: np.random.Generator) -> Scene:
    pair = generator.random() < _PAIR_SHARE
    arrangement = ARRANGEMENTS[generator.integers(5, 7) if pair else generator.integers(0, 5)]
    items = tuple(_draw_item(generator, centre) for centre in CENTRES[arrangement])
    background = tuple(BACKGROUNDS)[generator.integers(len(BACKGROUNDS))]
    return Scene(background, arrangement, items)


def _draw_item(generator: np.random.Generator, centre: tuple[float, float]) -> Item:
    size = SIZES[generator.integers(len(SIZES))]
    x, y = generator.uniform(-_CENTRE_JITTER, _CENTRE_JITTER, 2) + np.asarray(centre)
    return Item(
        shape=SHAPES[generator.integers(len(SHAPES))],
        colour=tuple(COLOURS)[generator.integers(len(COLOURS))],
        texture=TEXTURES[generator.choice(len(TEXTURES), p=(0.5, 0.25, 0.25))],
        size=size,
        centre=(float(x), float(y)),
        radius=float(RADII[size] * generator.uniform(1 - _RADIUS_JITTER, 1 + _RADIUS_JITTER)),
    )


def _is_legible(scene: Scene) -> bool:
    """White paper on cream has no contrast; two items of one shape and colour cannot be told apart."""
    kinds = {(item.shape, item.colour) for item in scene.items}
    white_on_cream = scene.background == "cream" and any(item.colour == "white" for item in scene.items)
    return len(kinds) == len(scene.items) and not white_on_cream
