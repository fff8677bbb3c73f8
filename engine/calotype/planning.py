"""From a request to its schedule: which scheduler, how many steps, from which one on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from calotype import schedulers
from calotype.errors import RequestError
from calotype.request import Request
from calotype.schedule import Schedule, ScheduleOptions


def plan(request: Request, config: Mapping[str, Any], slots: int) -> Schedule:
    """The request's schedule from a scheduler's `config`; `slots` is the number of state slots.

    As in diffusers' `get_timesteps`, `strength` keeps the last int(steps * strength) steps. RequestError where that is
    none; with PNDM, which has one evaluation more than steps, diffusers' image-to-image would make that one.
    """
    if request.scheduler is not None:
        config = schedulers.select(request.scheduler, config)
    options = options_of(request)
    counted = steps = options.steps
    if (
        request.timesteps is not None and request.noise_share < 1.0
    ):  # where diffusers counts Heun's two rows a step
        counted = len(schedulers.schedule(config, options, slots))
    kept = min(int(counted * request.noise_share), counted)
    if kept < 1 or counted - kept >= steps:
        raise RequestError(
            f"`strength` {request.noise_share} of {steps} steps leaves no step to draw",
            "raise `strength` or the number of steps",
        )
    return schedulers.schedule(config, replace(options, start=counted - kept), slots)


def options_of(request: Request) -> ScheduleOptions:
    """What the request says about its schedule, but for `strength`."""
    return ScheduleOptions(
        num_inference_steps=request.num_inference_steps,
        eta=request.eta,
        timesteps=None if request.timesteps is None else tuple(request.timesteps),
        sigmas=None if request.sigmas is None else tuple(request.sigmas),
    )
