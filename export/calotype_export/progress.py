"""How long stages say how far they are: a callback takes the stage's name and two counts; nobody prints."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as `progress(stage, done, total)`; `done == total` ends the stage."""


def silent(stage: str, done: int, total: int) -> None:
    """Drop every report."""
    del stage, done, total
