"""Schedulers as tables: a checkpoint's scheduler configuration and a request in, a Schedule out.

Each solver is one module that writes its formulas in the algebra of `algebra`; adding one means adding a module and
its line in `catalogue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from calotype.errors import RequestError
from calotype.schedule import Schedule, ScheduleOptions
from calotype.schedulers.catalogue import Solver, names, select, solver
from calotype.schedulers.levels import train_steps
from calotype.schedulers.rows import assemble
from calotype.schedulers.settings import Settings

__all__ = ["names", "schedule", "select"]


def schedule(config: Mapping[str, Any], options: ScheduleOptions, slots: int) -> Schedule:
    """The table of one request, for programs with `slots` state slots.

    `config` is a diffusers scheduler configuration whose "_class_name" names the solver. Raises RequestError for a
    solver or setting that is not offered, for options that do not fit the solver, and when it needs more slots.
    """
    settings = Settings(str(config.get("_class_name", "")), config)
    chosen = solver(settings.scheduler)
    options = _checked(settings, chosen, options)
    with np.errstate(all="ignore"):  # sigma may be zero at the end; what comes of it is checked in assemble
        solution = chosen.solve(settings, options)
    return assemble(settings.scheduler, solution, slots)


def _checked(settings: Settings, chosen: Solver, options: ScheduleOptions) -> ScheduleOptions:
    """The options with the number of steps that they amount to."""
    steps = options.steps
    if options.timesteps is not None and options.sigmas is not None:
        raise RequestError("expected timesteps or sigmas, found both", "leave one of them out")
    for name, given, offered in (
        ("timesteps", options.timesteps, chosen.timesteps),
        ("sigmas", options.sigmas, chosen.sigmas),
    ):
        if given is not None and not offered:
            raise RequestError(
                f"{settings.scheduler} takes no {name} of the request's own", f"leave out {name}"
            )
    train = train_steps(settings)
    if not 1 <= steps <= train:
        raise RequestError(
            f"{settings.scheduler}: expected between 1 and {train} steps, found {steps}",
            "set num_inference_steps to about 20 to 50",
        )
    if not 0 <= options.start < steps:
        raise RequestError(
            f"{settings.scheduler}: expected a start between 0 and {steps - 1}, found {options.start}",
            "use more steps or a higher strength: at least one step has to be left",
        )
    if not 0.0 <= options.eta <= 1.0:
        raise RequestError(
            f"expected eta between 0 and 1, found {options.eta}", "leave eta out, it is 0 then"
        )
    return replace(options, num_inference_steps=steps)
