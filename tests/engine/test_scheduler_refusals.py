"""Which schedulers and settings there are: what a name means, and what is refused by which message."""

from __future__ import annotations

import pytest

from calotype import schedulers
from calotype.errors import RequestError
from calotype.schedule import ScheduleOptions
from tests.engine.scheduler_configs import CONFIG, Config, named


def test_a_class_keeps_the_checkpoint_s_settings() -> None:
    config = {**CONFIG, "use_karras_sigmas": True}
    assert schedulers.select("EulerDiscreteScheduler", config) == {
        **config,
        "_class_name": "EulerDiscreteScheduler",
    }


def test_a_short_name_without_a_rule_has_none() -> None:
    assert schedulers.select("euler", {**CONFIG, "use_karras_sigmas": True})["use_karras_sigmas"] is False


def test_a_short_name_with_a_rule_sets_it() -> None:
    chosen = schedulers.select("dpmpp_2m_karras", CONFIG)
    assert chosen["_class_name"] == "DPMSolverMultistepScheduler" and chosen["use_karras_sigmas"] is True


def test_settings_that_a_class_assumed_are_not_carried_over() -> None:
    config = {**CONFIG, "solver_order": 3, "_use_default_values": ["solver_order"]}
    assert "solver_order" not in schedulers.select("unipc", config)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("dpmpp_2m_karas", "did you mean 'dpmpp_2m_karras'"),
        ("EulerScheduler", "did you mean 'EulerDiscreteScheduler'"),
        ("ddim_karras", "unknown scheduler 'ddim_karras'"),
        ("dpmpp_sde", "Brownian tree"),
        ("DPMSolverSDEScheduler", "Brownian tree"),
        ("dpm_adaptive", "chooses its steps while it runs"),
        ("EDMEulerScheduler", "not Stable Diffusion"),
    ],
)
def test_a_scheduler_that_is_not_offered_is_refused_by_name(name: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        schedulers.select(name, CONFIG)


def test_a_configuration_without_a_class_is_refused() -> None:
    with pytest.raises(RequestError, match="unknown scheduler ''"):
        schedulers.schedule({}, ScheduleOptions(), slots=5)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            named("DDIMScheduler", clip_sample=True),
            "clip_sample = true is not offered: clipping is not linear",
        ),
        (named("DDPMScheduler", thresholding=True), "dynamic thresholding is not linear"),
        (named("UniPCMultistepScheduler", use_flow_sigmas=True), "not flow-matching models"),
        (named("DEISMultistepScheduler", use_dynamic_shifting=True), "not flow-matching models"),
        (named("PNDMScheduler", skip_prk_steps=False), "Runge-Kutta steps need 6 state slots"),
        (named("PNDMScheduler", prediction_type="sample"), "'sample' is not one of epsilon, v_prediction"),
        (
            named("EulerDiscreteScheduler", timestep_spacing="foo"),
            "timestep_spacing = 'foo' is not one of linspace",
        ),
        (
            named("EulerDiscreteScheduler", beta_schedule="cubic"),
            "beta_schedule = 'cubic' is not one of linear",
        ),
        (named("EulerDiscreteScheduler", beta_start="low"), "beta_start = 'low' is not a number"),
        (named("EulerDiscreteScheduler", steps_offset=0.5), "steps_offset = 0.5 is not an integer"),
        (
            named("EulerDiscreteScheduler", use_karras_sigmas="yes"),
            "use_karras_sigmas = 'yes' is not true or false",
        ),
        (named("EulerDiscreteScheduler", num_train_timesteps=0), "num_train_timesteps = 0 is not at least 1"),
        (
            named("EulerDiscreteScheduler", use_karras_sigmas=True, use_beta_sigmas=True),
            "expected at most one sigma rule, found karras and beta",
        ),
        (named("UniPCMultistepScheduler", disable_corrector=["a"]), "is not a list of integers"),
        (named("UniPCMultistepScheduler", solver_p={}), "another scheduler as predictor is not offered"),
        (named("UniPCMultistepScheduler", solver_order=4), "solver_order = 4 is not 1, 2 or 3"),
        (
            named("DPMSolverMultistepScheduler", algorithm_type="dpmsolver"),
            "dpmsolver cannot end at sigma zero",
        ),
        (
            named(
                "DPMSolverMultistepScheduler",
                algorithm_type="sde-dpmsolver",
                solver_order=3,
                final_sigmas_type="sigma_min",
            ),
            "there is no sde-dpmsolver of solver_order 3",
        ),
        (
            named("DPMSolverMultistepScheduler", variance_type="learned"),
            "predicts its variance is not offered",
        ),
        (
            named("LCMScheduler", original_inference_steps=0),
            "original_inference_steps = 0 is not between 1 and 1000",
        ),
        (named("LCMScheduler", original_inference_steps=5), "expected at most 5 steps"),
        (
            named("DDIMScheduler", rescale_betas_zero_snr=True, timestep_spacing="trailing"),
            "divides by zero in row 0",
        ),
        (named("DDIMScheduler", steps_offset=500), "timestep 1400 is beyond the 1000 of the training"),
        (named("UniPCMultistepScheduler", lower_order_final=False), "divides by zero in row 9"),
        (named("UniPCMultistepScheduler", solver_type="bh1"), "divides by zero in row 9"),
        (named("DPMSolverSinglestepScheduler", algorithm_type="deis"), "deis cannot end at sigma zero"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_is_not_offered_is_refused_by_name(config: Config, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        schedulers.schedule(config, ScheduleOptions(10), slots=5)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ddim", ScheduleOptions(0), "expected between 1 and 1000 steps, found 0"),
        ("ddim", ScheduleOptions(5, start=5), "expected a start between 0 and 4, found 5"),
        ("ddim", ScheduleOptions(5, eta=1.5), "expected eta between 0 and 1, found 1.5"),
        ("ddim", ScheduleOptions(timesteps=(9, 5)), "DDIMScheduler takes no timesteps of the request's own"),
        (
            "heun",
            ScheduleOptions(sigmas=(9.0, 0.0)),
            "HeunDiscreteScheduler takes no sigmas of the request's own",
        ),
        (
            "euler",
            ScheduleOptions(timesteps=(9,), sigmas=(9.0, 0.0)),
            "expected timesteps or sigmas, found both",
        ),
        ("euler_karras", ScheduleOptions(timesteps=(9, 5)), "where karras sigmas decide them"),
        (
            "ddpm",
            ScheduleOptions(timesteps=(5, 9)),
            r"timesteps must fall and stay below 1000, found \[5, 9\]",
        ),
        ("ddpm", ScheduleOptions(timesteps=(9, 9, 5)), r"timesteps must fall .* found \[9, 9, 5\]"),
    ],
)
def test_options_that_do_not_fit_are_refused(name: str, options: ScheduleOptions, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        schedulers.schedule(schedulers.select(name, CONFIG), options, slots=5)


def test_too_few_state_slots_are_refused_with_how_many_are_needed() -> None:
    config = schedulers.select("unipc", {**CONFIG, "solver_order": 3})
    with pytest.raises(RequestError, match="needs 5 state slots, the bundle has 4"):
        schedulers.schedule(config, ScheduleOptions(10), slots=4)
