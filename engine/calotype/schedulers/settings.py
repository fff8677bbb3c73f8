"""A typed reader of a scheduler's configuration: a key in, a checked value out.

Keys that nothing reads are ignored, as in diffusers; a key with an impossible value is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calotype.errors import RequestError


@dataclass(frozen=True, slots=True)
class Settings:
    """The configuration of one scheduler; `scheduler` is diffusers' class name, for messages."""

    scheduler: str
    values: Mapping[str, Any]

    def number(self, key: str, default: float) -> float:
        """The number under `key`."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, "a number")
        return float(value)

    def optional_number(self, key: str) -> float | None:
        """The number under `key`; None when it is absent or null."""
        return None if self.values.get(key) is None else self.number(key, 0.0)

    def integer(self, key: str, default: int) -> int:
        """The integer under `key`."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, "an integer")
        return value

    def integers(self, key: str) -> tuple[int, ...]:
        """The list of integers under `key`; empty when it is absent or null."""
        values: Any = self.values.get(key) or ()
        if not isinstance(values, (list, tuple)) or not all(isinstance(value, int) for value in values):
            raise self.wrong(key, "a list of integers")
        return tuple(values)

    def flag(self, key: str, default: bool) -> bool:
        """The truth value under `key`; null counts as false."""
        value = self.values.get(key, default)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return bool(value)

    def choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        """The word under `key`, one of `choices`; null counts as absent."""
        value = self.values.get(key)
        if value is None:
            return default
        if value not in choices:
            raise self.wrong(key, "one of " + ", ".join(choices))
        return value

    def refuse(self, key: str, default: bool, reason: str) -> None:
        """Raises RequestError when the flag `key` is set."""
        if self.flag(key, default):
            raise RequestError(
                f"{self.scheduler} with {key} = true is not offered: {reason}",
                f"set {key} to false in the scheduler's configuration",
            )

    def wrong(self, key: str, expected: str) -> RequestError:
        """The error for a value that `key` cannot have."""
        return RequestError(
            f"{self.scheduler}: {key} = {self.values.get(key)!r} is not {expected}",
            "correct the scheduler's configuration (scheduler.json of the bundle)",
        )


def refuse_thresholding(settings: Settings) -> None:
    """Raises RequestError for dynamic thresholding, which depends on the picture itself."""
    settings.refuse("thresholding", False, "dynamic thresholding is not linear in the latents")


def refuse_clipping(settings: Settings, default: bool) -> None:
    """Raises RequestError for clipped samples; `default` is what the diffusers class assumes."""
    settings.refuse("clip_sample", default, "clipping is not linear in the latents")


def refuse_flow(settings: Settings) -> None:
    """Raises RequestError for the flow-matching variants of the exponential integrators."""
    for key in ("use_flow_sigmas", "use_dynamic_shifting"):
        settings.refuse(key, False, "Stable Diffusion checkpoints are not flow-matching models")
