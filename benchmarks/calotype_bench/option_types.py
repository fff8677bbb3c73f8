"""What options of `calotype-bench` take, read from text; argparse.ArgumentTypeError where it is something else."""

from __future__ import annotations

import argparse
import math
import threading

from calotype.backends import BackendOptions
from calotype.errors import CalotypeError
from calotype_bench import peers
from calotype_export import arguments


def names(text: str) -> tuple[str, ...]:
    """Some, separated by commas, one at least."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"expected at least one, found {text!r}")
    return found


def device(text: str) -> str:
    """`cpu`, `cuda` or `cuda:1`."""
    try:
        return BackendOptions(text).device
    except CalotypeError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def precisions(text: str) -> tuple[str, ...]:
    """Some of `peers.OF_NOISE`."""
    found = names(text)
    unknown = [name for name in found if name not in peers.OF_NOISE]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"expected some of {', '.join(peers.OF_NOISE)}, found {unknown[0]!r}"
        )
    return found


def numbers(text: str) -> tuple[int, ...]:
    """Some of at least 1."""
    return tuple(arguments.positive(part) for part in names(text))


def seconds(text: str) -> float:
    """A time limit that a thread can wait for."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(
            f"expected seconds above 0, at most {threading.TIMEOUT_MAX:g}, found {text!r}"
        )
    return found


def seeds(text: str) -> tuple[int, ...]:
    """Some of at least 0."""
    return tuple(arguments.count(part) for part in names(text))
