"""Scores: what drawn pictures show, against what was asked. In: ways to draw; out: measures beside their bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from papercut.captions import sample_caption
from papercut.drawing import Draw, Order, Picture
from papercut.masks import box_around
from papercut.reader import Reading, Seen, foreground_mask, read
from papercut.rendering import Render, render
from papercut.scenes import CENTRES, COLOURS, SHAPES, Item, Scene, is_held_out, sample_scene

_SIDE: Final = 512
# Half the way from one place to the next, as a fraction of the side.
_NEAR: Final = 0.125
# Mean absolute difference of 255: objects that are drawn a little differently, on backgrounds that are the same.
_VISIBLE: Final = 1.0
_STRENGTHS: Final = (0.3, 0.5, 0.7, 0.9)
_MARGIN: Final = 28


@dataclass(frozen=True, slots=True)
class Measure:
    """A measured figure beside the least that it should be, and how many samples it rests on."""

    task: str
    name: str
    value: float
    bound: float
    samples: int

    @property
    def met(self) -> bool:
        """Whether the bound is reached."""
        return self.value >= self.bound


class Tally:
    """Shares of right answers, by name."""

    def __init__(self, task: str, bounds: dict[str, float]) -> None:
        self.task, self.bounds = task, bounds
        self.answers: dict[str, list[float]] = {name: [] for name in bounds}

    def note(self, name: str, answer: float) -> None:
        """Note one answer: 1 or 0, or a figure to be averaged."""
        self.answers[name].append(float(answer))

    def measures(self) -> list[Measure]:
        """The averages."""
        return [
            Measure(self.task, name, float(np.mean(answers)), self.bounds[name], len(answers))
            for name, answers in self.answers.items()
        ]


def held_out_scenes(seed: int) -> Iterator[tuple[int, Scene, str]]:
    """Endless (seed, scene, caption) whose scenes were kept out of training."""
    generator = np.random.default_rng((seed, 8))
    while True:
        scene = sample_scene(generator, "held-out")
        yield int(generator.integers(2**31)), scene, sample_caption(scene, generator)


def score_text_to_image(draw: Draw, pictures: int, seed: int) -> list[Measure]:
    """Objects are matched by place; colour, shape and position are shares of the objects asked for."""
    bounds = {"colour": 0.95, "background": 0.95, "shape": 0.85, "position": 0.90, "seeds differ": 1.0}
    tally = Tally("text-to-image", bounds)
    for index, (noise, scene, caption) in zip(range(pictures), held_out_scenes(seed), strict=False):
        picture = draw(Order(caption, noise))
        reading = read(picture)
        tally.note("background", reading.background == scene.background)
        for item, place in zip(scene.items, CENTRES[scene.arrangement], strict=True):
            seen = nearest(reading, place)
            tally.note("colour", seen is not None and seen.colour == item.colour)
            tally.note("shape", seen is not None and seen.shape == item.shape)
            tally.note("position", seen is not None and distance(seen, place) < _NEAR)
        if index % 20 == 0:
            other = draw(Order(caption, noise + 1))
            tally.note("seeds differ", difference(picture, other) > _VISIBLE)
    return tally.measures()


def score_inpainting(
    draw: Draw, round_trip: Callable[[Picture], Picture], pictures: int, seed: int
) -> list[Measure]:
    """One object of a render is masked and another asked for in its place."""
    tally = Tally("inpainting", {"PSNR outside (dB)": 28.0, "inside right": 0.90})
    for _, (noise, scene, _) in zip(range(pictures), held_out_scenes(seed + 1), strict=False):
        drawn, wanted, caption = _replacement(scene, noise)
        mask = box_around(drawn.masks[0], _MARGIN)
        painted = draw(Order(caption, noise, image=drawn.picture, mask=mask))
        outside = ~_grown(mask, 8)
        tally.note("PSNR outside (dB)", psnr(painted[outside], round_trip(drawn.picture)[outside]))
        seen = nearest(read(painted), wanted.centre)
        tally.note(
            "inside right", seen is not None and (seen.colour, seen.shape) == (wanted.colour, wanted.shape)
        )
    return tally.measures()


def score_depth(draw: Draw, pictures: int, seed: int) -> list[Measure]:
    """The depth map of a render is given with a neutral picture; colours and textures come from the caption."""
    tally = Tally("depth", {"silhouette IoU": 0.85, "colour": 0.90, "texture": 0.90})
    for _, (noise, scene, caption) in zip(range(pictures), held_out_scenes(seed + 2), strict=False):
        drawn = render(scene, _SIDE)
        picture = draw(Order(caption, noise, image=np.full_like(drawn.picture, 127), depth=drawn.depth))
        reading = read(picture)
        tally.note("silhouette IoU", overlap(foreground_mask(picture), drawn.masks.max(0) > 127))
        for item in scene.items:
            seen = nearest(reading, item.centre)
            tally.note("colour", seen is not None and seen.colour == item.colour)
            tally.note("texture", seen is not None and seen.texture == item.texture)
    return tally.measures()


def score_image_to_image(draw: Draw, pictures: int, seed: int) -> list[Measure]:
    """Renders are redrawn under a caption with other colours, more and more freely."""
    tally = Tally("image-to-image", {"distance grows with strength": 1.0, "layout kept at 0.5": 0.90})
    distances: list[list[float]] = []
    for _, (noise, scene, _) in zip(range(pictures), held_out_scenes(seed + 3), strict=False):
        drawn, _, caption = _replacement(scene, noise)
        orders = [Order(caption, noise, image=drawn.picture, strength=strength) for strength in _STRENGTHS]
        redrawn = [draw(order) for order in orders]
        distances.append([difference(picture, drawn.picture) for picture in redrawn])
        reading = read(redrawn[_STRENGTHS.index(0.5)])
        for item in scene.items:
            seen = nearest(reading, item.centre)
            tally.note("layout kept at 0.5", seen is not None and distance(seen, item.centre) < _NEAR)
    means = np.mean(distances, axis=0)
    tally.note("distance grows with strength", bool(np.all(np.diff(means) > 0)))
    return tally.measures()


def nearest(reading: Reading, place: tuple[float, float]) -> Seen | None:
    """The object nearest to `place`, if there is any."""
    return min(reading.objects, key=lambda seen: distance(seen, place), default=None)


def distance(seen: Seen, place: tuple[float, float]) -> float:
    """How far an object is from `place`, as a fraction of the picture's side."""
    return float(np.hypot(seen.centre[0] - place[0], seen.centre[1] - place[1]))


def difference(one: Picture, other: Picture) -> float:
    """Mean absolute difference of two pictures, of 255."""
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32)).mean())


def psnr(one: Picture, other: Picture) -> float:
    """Peak signal-to-noise ratio in dB."""
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


def overlap(seen: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> float:
    """Intersection over union, at the reader's resolution."""
    factor = wanted.shape[0] // seen.shape[0]
    small = wanted[factor // 2 :: factor, factor // 2 :: factor]
    return float((seen & small).sum() / max(1, (seen | small).sum()))


def _replacement(scene: Scene, noise: int) -> tuple[Render, Item, str]:
    """The render of `scene`, what its first item becomes, and the caption of that: also one held out."""
    generator = np.random.default_rng((noise, 9))
    item, others = scene.items[0], {(other.shape, other.colour) for other in scene.items[1:]}
    colours = [colour for colour in COLOURS if (colour, scene.background) != ("white", "cream")]
    combinations = [replace(item, shape=shape, colour=colour) for shape in SHAPES for colour in colours]
    unseen = [one for one in combinations if is_held_out(one, scene.background) and one.shape != item.shape]
    choices = [one for one in unseen if (one.shape, one.colour) not in others]
    recoloured = [one for one in choices if one.colour != item.colour]
    wanted = (recoloured or choices)[generator.integers(len(recoloured or choices))]
    altered = replace(scene, items=(wanted, *scene.items[1:]))
    return render(scene, _SIDE), wanted, sample_caption(altered, generator)


def _grown(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """The mask's bounding box and `pixels` more: latents mix a little across the border."""
    return box_around(mask.astype(np.uint8) * 255, pixels)
