"""Captions: a scene becomes a sentence of plain English. In: a scene and a random generator; out: a string."""

from __future__ import annotations

from typing import Final

import numpy as np

from papercut.scenes import Arrangement, Item, Scene

_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "circle": ("circle", "circle", "disc"),
    "square": ("square",),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "ring": ("ring",),
    "cross": ("cross",),
    "crescent": ("crescent", "crescent", "crescent moon"),
    "large": ("large", "large", "big"),
    "small": ("small", "small", "little"),
    "plain": ("", "", "plain"),
    "striped": ("striped",),
    "dotted": ("dotted", "dotted", "spotted"),
}
_PLACES: Final[dict[Arrangement, tuple[str, ...]]] = {
    "left": ("on the left", "at the left", "on the left side"),
    "right": ("on the right", "at the right", "on the right side"),
    "top": ("at the top", "near the top"),
    "bottom": ("at the bottom", "near the bottom"),
    "centre": ("in the centre", "in the middle", "in the center"),
}
# {first} is the left or the upper item, {second} the other.
_RELATIONS: Final[dict[Arrangement, tuple[str, ...]]] = {
    "beside": (
        "{first} to the left of {second}",
        "{second} to the right of {first}",
        "{first} left of {second}",
        "{second} right of {first}",
        "{first} on the left and {second} on the right",
    ),
    "above": (
        "{first} above {second}",
        "{second} below {first}",
        "{first} over {second}",
        "{second} under {first}",
        "{first} at the top and {second} at the bottom",
    ),
}
_FRAMES: Final = (
    "{subject} on a {background} background",
    "{subject}, {background} background",
    "{subject} on {background} paper",
    "a paper cut of {subject} on a {background} background",
    "on a {background} background, {subject}",
    "a picture of {subject} on a {background} background",
)
_SIZE_OMITTED: Final = 0.15


def sample_caption(scene: Scene, generator: np.random.Generator) -> str:
    """One of the ways to say what `scene` shows; size and a plain texture may go unsaid, nothing else."""
    items = [_noun_phrase(item, generator) for item in scene.items]
    if len(items) == 1:
        subject = f"{items[0]} {_pick(_PLACES[scene.arrangement], generator)}"
    else:
        subject = _pick(_RELATIONS[scene.arrangement], generator).format(first=items[0], second=items[1])
    return _pick(_FRAMES, generator).format(subject=subject, background=scene.background)


def _noun_phrase(item: Item, generator: np.random.Generator) -> str:
    words = [_pick(_WORDS[word], generator) for word in (item.size, item.texture)]
    if generator.random() < _SIZE_OMITTED:
        words[0] = ""
    words += [item.colour, _pick(_WORDS[item.shape], generator)]
    phrase = " ".join(word for word in words if word)
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _pick(choices: tuple[str, ...], generator: np.random.Generator) -> str:
    return choices[generator.integers(len(choices))]
