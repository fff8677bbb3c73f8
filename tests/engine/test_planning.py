"""From a request to its schedule: at which step it starts."""

from __future__ import annotations

from typing import Any

import pytest

from calotype import RequestError
from calotype.planning import plan
from calotype.request import Request
from tests.engine.scheduler_configs import named

GIVEN = [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]


def first(scheduler: str, strength: float, **arguments: Any) -> float:
    request = Request(prompt="", image="x", scheduler=scheduler, strength=strength, **arguments)
    return float(plan(request, named("DDIMScheduler"), 5).timesteps[0])


@pytest.mark.parametrize(("strength", "timestep"), [(1.0, 900), (0.8, 700), (0.55, 400), (0.1, 0)])
def test_strength_keeps_the_last_steps(strength: float, timestep: float) -> None:
    assert first("ddpm", strength, timesteps=GIVEN) == timestep


@pytest.mark.parametrize(("strength", "timestep"), [(1.0, 900), (0.95, 800), (0.8, 500), (0.55, 0)])
def test_strength_counts_heuns_rows_where_timesteps_are_given_as_diffusers_does(
    strength: float, timestep: float
) -> None:
    assert first("heun", strength, timesteps=GIVEN) == timestep


def test_strength_counts_heuns_steps_where_none_are_given() -> None:
    assert first("heun", 0.8, num_inference_steps=10) == first("euler", 0.8, num_inference_steps=10)


@pytest.mark.parametrize(("scheduler", "strength"), [("heun", 0.5), ("ddpm", 0.05)])
def test_a_strength_that_leaves_no_step_is_refused(scheduler: str, strength: float) -> None:
    with pytest.raises(RequestError, match=f"`strength` {strength} of 10 steps leaves no step to draw"):
        first(scheduler, strength, timesteps=GIVEN)
