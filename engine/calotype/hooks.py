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
        return Hooks(None if progress is None and cancel is None else before)

    def after(row: int, latents: Array, first: int) -> Array | None:
        given = latents.copy()  # a callback may change it in place
        values = {"latents": given, "pictures": np.arange(first, first + len(latents))}
        found = callback(caller, row, float(schedule.timesteps[row]), values)
        replaced = _replaced(found, given)
        return None if np.array_equal(replaced, latents) else replaced

    return Hooks(before, after)


def _replaced(found: Any, given: Array) -> Array:
    """The latents that a callback leaves: those it returned, or those it was given, changed in place or not."""
    returned: Any = {} if found is None else found
    if isinstance(returned, Mapping) and set(returned) <= {"latents", "pictures"}:
        replaced = np.asarray(returned.get("latents", given), np.float32)
        if replaced.shape == given.shape:
            return replaced
        seen = f"latents of {replaced.shape}"
    else:
        seen = str(list(returned)) if isinstance(returned, Mapping) else type(returned).__name__
    raise RequestError(
        f"`callback_on_step_end`: expected {{'latents': array of {given.shape}}} or None, found {seen}",
        "return the dictionary that the callback was given, or None",
    )
