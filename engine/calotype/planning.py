"""From a request to its schedule: which scheduler, how many steps, from which one on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from calotype import schedulers
from calotype.errors import RequestError
from calotype.request import Request
from calotype.schedule import Schedule, ScheduleOptions


def plan(request: Request, config: Mapping[str, Any], slots: int) -> Schedule:
    """The request's schedule from a scheduler's `config`; `slots` is the number of state slots.

    As in diffusers' `get_timesteps`, `strength` keeps the last int(steps * strength) steps.
    """
    if request.scheduler is not None:
        config = schedulers.select(request.scheduler, config)
    steps = request.num_inference_steps
    if request.timesteps is not None:
        steps = len(request.timesteps)
    elif request.sigmas is not None:
        steps = len(request.sigmas) - 1  # the last one is where the last step ends
    kept = min(int(steps * request.noise_share), steps)
    if kept < 1:
        raise RequestError(
            f"`strength` {request.noise_share} of {steps} steps leaves no step to draw",
            "raise `strength` or the number of steps",
        )
    options = ScheduleOptions(
        num_inference_steps=steps,
        start=steps - kept,
        eta=request.eta,
        timesteps=None if request.timesteps is None else tuple(request.timesteps),
        sigmas=None if request.sigmas is None else tuple(request.sigmas),
    )
    return schedulers.schedule(config, options, slots)
