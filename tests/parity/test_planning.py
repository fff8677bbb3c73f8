"""At which step a request starts, against the `get_timesteps` of diffusers' pipelines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from calotype import RequestError
from calotype.planning import plan
from calotype.request import Request
from tests.engine.scheduler_configs import named

diffusers = pytest.importorskip("diffusers")

GIVEN = {"timesteps": [900, 800, 700, 600, 500, 400, 300, 200, 100, 10]}
COUNTED = {"num_inference_steps": 10}


@pytest.mark.parametrize("strength", [0.05, 0.1, 0.5, 0.55, 0.8, 0.95, 1.0])
@pytest.mark.parametrize("arguments", [GIVEN, COUNTED], ids=["given", "counted"])
@pytest.mark.parametrize(
    "scheduler", ["DDPMScheduler", "HeunDiscreteScheduler", "DPMSolverMultistepScheduler"]
)
def test_strength_starts_where_diffusers_starts(
    scheduler: str, arguments: dict[str, Any], strength: float
) -> None:
    config = named(scheduler)
    eager = getattr(diffusers, scheduler).from_config(config)
    eager.set_timesteps(**arguments)
    steps = len(eager.timesteps) if arguments is GIVEN else 10  # as `retrieve_timesteps` counts them
    pipeline: Any = diffusers.StableDiffusionImg2ImgPipeline
    expected, _ = pipeline.get_timesteps(SimpleNamespace(scheduler=eager), steps, strength, "cpu")
    request = Request(prompt="", image="x", strength=strength, **arguments)

    if not len(expected):
        with pytest.raises(RequestError, match="leaves no step to draw"):
            plan(request, config, 5)
    else:
        assert plan(request, config, 5).timesteps == pytest.approx(expected.numpy(), abs=1e-3)
