"""Scheduler configurations for the tests: Stable Diffusion's, under any class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]
CONFIG: Config = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def named(scheduler: str, **changes: Any) -> Config:
    return {**CONFIG, "_class_name": scheduler, **changes}
