"""What the command line's texts mean: each function is an argparse type, and raises ArgumentTypeError."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from calotype.errors import RequestError
from calotype.lora import LoraFile


def size(text: str) -> tuple[int, int]:
    """`WxH` in pixels to (height, width), multiples of 8."""
    try:
        width, height = (int(part) for part in text.lower().split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected WIDTHxHEIGHT in pixels, such as 512x512, found {text!r}"
        ) from None
    if min(width, height) < 8 or width % 8 or height % 8:
        near = "x".join(str(max(8, round(side / 8) * 8)) for side in (width, height))
        raise argparse.ArgumentTypeError(f"expected multiples of 8, found {text}; {near} would do")
    return height, width


def batches(text: str) -> tuple[int, ...]:
    """`1,2,4`, ascending."""
    try:
        sizes = tuple(int(part) for part in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"expected positive numbers such as 1,2,4, found {text!r}")
    return tuple(sorted(set(sizes)))


def positive(text: str) -> int:
    """A whole number of 1 at least."""
    return _at_least(1, text)


def count(text: str) -> int:
    """A whole number of 0 at least."""
    return _at_least(0, text)


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a number of at least {least}, found {text!r}")
    return int(text)


def gpu(text: str) -> int:
    """`cuda` or `cuda:1`: which of several GPUs."""
    found = re.fullmatch(r"cuda(?::(\d+))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"expected cuda or cuda:<number>, found {text!r}")
    return int(found[1] or 0)


def capabilities(text: str) -> tuple[str, ...]:
    """`8.9,12.0`: compute capabilities, ascending."""
    found = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(r"\d+\.\d", part) for part in found):
        raise argparse.ArgumentTypeError(f"expected numbers such as 8.9,12.0, found {text!r}")
    return tuple(sorted(set(found), key=lambda part: tuple(map(int, part.split(".")))))


def scheduler(text: str) -> str:
    """A name that a scheduler goes by."""
    from calotype import schedulers

    try:
        schedulers.select(text, {})
    except RequestError as error:
        raise argparse.ArgumentTypeError(f"{error.message}; {error.hint}") from None
    return text


def lora(text: str) -> LoraFile:
    """`FILE[:WEIGHT]`, 1 by default."""
    try:
        return LoraFile.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def embedding(text: str) -> tuple[Path, str | None]:
    """`FILE[:TOKEN]`."""
    path, found, token = text.partition(".safetensors:")
    return (Path(path + ".safetensors"), token) if found and token else (Path(text), None)
