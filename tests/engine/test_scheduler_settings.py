"""Settings that every class refuses for itself, and the limits of what a request may say of its steps."""

from __future__ import annotations

from typing import Any

import pytest

from calotype import schedulers
from calotype.errors import RequestError
from calotype.schedule import ScheduleOptions
from tests.engine.scheduler_configs import CONFIG, named

THRESHOLDING = ("DDIM", "DDPM", "DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep", "DEISMultistep",
                "LCM", "TCD")  # fmt: skip
FLOW = ("DPMSolverMultistep", "DPMSolverSinglestep", "UniPCMultistep", "DEISMultistep")
CLIPPING = ("DDIM", "DDPM", "HeunDiscrete", "LCM", "TCD")


def refused(name: str, said: str, **changes: Any) -> None:
    with pytest.raises(RequestError, match=said):
        schedulers.schedule(named(f"{name}Scheduler", **changes), ScheduleOptions(4), slots=5)


@pytest.mark.parametrize("name", THRESHOLDING)
def test_dynamic_thresholding_is_refused_by_every_class_that_has_it(name: str) -> None:
    refused(name, "thresholding = true is not offered", thresholding=True)


@pytest.mark.parametrize("key", ["use_flow_sigmas", "use_dynamic_shifting"])
@pytest.mark.parametrize("name", FLOW)
def test_flow_matching_is_refused_by_every_class_that_has_it(name: str, key: str) -> None:
    refused(name, f"{key} = true is not offered", **{key: True})


@pytest.mark.parametrize("name", CLIPPING)
def test_clipped_samples_are_refused_by_every_class_that_has_them(name: str) -> None:
    refused(name, "clip_sample = true is not offered", clip_sample=True)


@pytest.mark.parametrize(("name", "clips"), [("DDIM", True), ("DDPM", True), ("HeunDiscrete", False),
                                             ("LCM", False), ("TCD", False)])  # fmt: skip
def test_a_configuration_that_is_silent_on_clipping_means_what_its_class_assumes(
    name: str, clips: bool
) -> None:
    config = {key: value for key, value in CONFIG.items() if key != "clip_sample"}
    config = {**config, "_class_name": f"{name}Scheduler"}
    if clips:
        with pytest.raises(RequestError, match="clip_sample = true is not offered"):
            schedulers.schedule(config, ScheduleOptions(4), slots=5)
    else:
        assert len(schedulers.schedule(config, ScheduleOptions(4), slots=5)) >= 4


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("EulerDiscrete", {"steps_offset": True}, "steps_offset = True is not an integer"),
        ("EulerDiscrete", {"beta_start": True}, "beta_start = True is not a number"),
        ("EulerDiscrete", {"sigma_min": True}, "sigma_min = True is not a number"),
        ("DDPM", {"variance_type": "learned"}, "variance_type = 'learned' is not one of fixed_small"),
        ("LCM", {"original_inference_steps": 1001}, "is not between 1 and 1000"),
        ("DEISMultistep", {"solver_order": True}, "solver_order = True is not an integer"),
    ],
)
def test_what_is_no_value_of_a_setting_is_refused(name: str, changes: dict[str, Any], said: str) -> None:
    refused(name, said, **changes)


def test_as_many_steps_as_were_trained_are_a_schedule_and_one_more_is_not() -> None:
    config = named("DDIMScheduler", num_train_timesteps=20, steps_offset=0)
    assert len(schedulers.schedule(config, ScheduleOptions(20), slots=5)) == 20
    with pytest.raises(RequestError, match="expected between 1 and 20 steps, found 21"):
        schedulers.schedule(config, ScheduleOptions(21), slots=5)


def test_a_start_below_zero_is_refused() -> None:
    with pytest.raises(RequestError, match="expected a start between 0 and 4, found -1"):
        schedulers.schedule(named("DDIMScheduler"), ScheduleOptions(5, start=-1), slots=5)


@pytest.mark.parametrize("name", ["DDPMScheduler", "LCMScheduler", "TCDScheduler"])
def test_the_highest_of_given_timesteps_is_the_last_one_trained(name: str) -> None:
    found = schedulers.schedule(named(name), ScheduleOptions(timesteps=(999, 500)), slots=5)
    assert found.timesteps.tolist() == [999, 500]
    with pytest.raises(RequestError, match="timesteps must fall and stay below 1000"):
        schedulers.schedule(named(name), ScheduleOptions(timesteps=(1000, 500)), slots=5)


def test_an_offset_below_all_training_levels_is_refused() -> None:
    with pytest.raises(RequestError, match=r"timestep -.* is beyond the 1000"):
        schedulers.schedule(named("PNDMScheduler", steps_offset=-3000), ScheduleOptions(4), slots=5)
