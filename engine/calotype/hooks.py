"""What a request wants to happen between two rows: progress, cancellation, its callback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotype.denoiser import Hooks
from calotype.errors import CancelledError, RequestError
from calotype.request import Request
from calotype.schedule import Schedule

Array = NDArray[Any]


def hooks(request: Request, schedule: Schedule, caller: Any) -> Hooks:
    """The request's hooks; `caller` is what its callback gets as its first argument, the pipeline."""
    callback, cancel, progress = request.callback_on_step_end, request.cancel, request.progress

    def before(row: int) -> None:
        if progress is not None:
            progress(row, len(schedule))
        if cancel is not None and cancel.is_set():
            raise CancelledError(f"the request was cancelled before row {row} of {len(schedule)}")

    if callback is None:
        return Hooks(before)

    def after(row: int, latents: Array) -> Array | None:
        return _replaced(callback(caller, row, float(schedule.timesteps[row]), {"latents": latents}), latents)

    return Hooks(before, after)


def _replaced(found: Mapping[str, Array] | None, latents: Array) -> Array | None:
    """What a callback returned in place of `latents`; None where it left them alone."""
    if not found or found.get("latents") is latents:
        return None
    unknown = [name for name in found if name != "latents"]
    replaced = np.asarray(found.get("latents", latents), np.float32)
    if unknown or replaced.shape != latents.shape:
        raise RequestError(
            f"`callback_on_step_end`: expected {{'latents': array of {latents.shape}}}, found {sorted(found)} "
            f"with latents of {replaced.shape}"
        )
    return replaced
