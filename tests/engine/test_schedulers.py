"""The schedulers without torch: golden schedules, names, refusals and what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype import schedulers
from calotype.errors import RequestError
from calotype.schedule import Schedule, ScheduleOptions
from calotype.schedulers.beta_quantile import beta_quantile

Config = Mapping[str, Any]

GOLDEN = json.loads(Path(__file__).with_name("golden").joinpath("schedules.json").read_text(encoding="utf-8"))
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


def final_latents(table: Schedule) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The weights of the first latents, of every prediction and of every draw in the last latents."""
    rows, slots = table.read.shape
    basis = np.eye(1 + 2 * rows)
    state = np.zeros((slots, 1 + 2 * rows))
    state[0] = basis[0]
    for row in range(rows):
        state = table.write[row] @ np.vstack([state, basis[1 + row], basis[1 + rows + row]])
    return state[0]


def ids(case: Mapping[str, Any]) -> str:
    return f"{case['name']}-{case['config']}-{case['options']}"


@pytest.fixture(params=GOLDEN["schedules"], ids=ids)
def golden(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    return request.param


@pytest.fixture
def table(golden: Mapping[str, Any]) -> Schedule:
    steps, start, eta = golden["options"]
    config = schedulers.select(golden["name"], GOLDEN["configs"][golden["config"]])
    return schedulers.schedule(config, ScheduleOptions(steps, start, eta), slots=5)


def test_final_latents_are_diffusers(golden: Mapping[str, Any], table: Schedule) -> None:
    expected = np.array(golden["latents"])
    assert np.linalg.norm(final_latents(table) - expected) <= 2e-6 * np.linalg.norm(expected)


def test_timesteps_are_diffusers(golden: Mapping[str, Any], table: Schedule) -> None:
    assert table.timesteps == pytest.approx(golden["timesteps"], abs=2e-3)


def test_draws_are_diffusers(golden: Mapping[str, Any], table: Schedule) -> None:
    assert table.draws.astype(int).tolist() == golden["draws"]


def test_initial_noise_is_diffusers(golden: Mapping[str, Any], table: Schedule) -> None:
    assert table.init_noise_sigma == pytest.approx(golden["init_noise_sigma"], rel=2e-6)


def test_noised_images_are_diffusers(golden: Mapping[str, Any], table: Schedule) -> None:
    mixes = np.vstack([table.add_noise, table.blend[:-1]])
    assert mixes == pytest.approx(np.array(golden["add_noise"]), rel=2e-6, abs=2e-6)


def test_golden_schedules_cover_every_name() -> None:
    assert {case["name"] for case in GOLDEN["schedules"]} == set(schedulers.names())


def test_the_part_to_keep_is_clean_after_the_last_row() -> None:
    assert schedulers.schedule(CONFIG, ScheduleOptions(4), slots=5).blend[-1].tolist() == [1.0, 0.0]


def test_pndm_takes_its_first_step_in_two_rows() -> None:
    assert schedulers.schedule(CONFIG, ScheduleOptions(4), slots=5).steps.tolist() == [0, 0, 1, 2, 3]


def test_heun_takes_every_step_but_the_last_in_two_rows() -> None:
    config = schedulers.select("heun", CONFIG)
    assert schedulers.schedule(config, ScheduleOptions(4, start=1), slots=5).steps.tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("name", schedulers.names())
def test_one_step_is_a_schedule(name: str) -> None:
    table = schedulers.schedule(schedulers.select(name, CONFIG), ScheduleOptions(1), slots=5)
    assert np.isfinite(final_latents(table)).all()


def test_beta_quantile_inverts_the_distribution() -> None:
    found = beta_quantile(np.array([0.0, 0.01, 0.2, 0.5, 0.75, 1.0]))
    # scipy.stats.beta.ppf of the same probabilities
    expected = [0.0, 0.0008612388215429059, 0.12292175045833292, 0.5, 0.824319621347305, 1.0]
    assert found == pytest.approx(expected, rel=1e-12)


def test_schedulers_import_without_torch_or_scipy() -> None:
    code = (
        "import sys, calotype.schedulers; print(sorted({'torch', 'scipy', 'diffusers'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


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
    ],
)
def test_options_that_do_not_fit_are_refused(name: str, options: ScheduleOptions, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        schedulers.schedule(schedulers.select(name, CONFIG), options, slots=5)


def test_too_few_state_slots_are_refused_with_how_many_are_needed() -> None:
    config = schedulers.select("unipc", {**CONFIG, "solver_order": 3})
    with pytest.raises(RequestError, match="needs 5 state slots, the bundle has 4"):
        schedulers.schedule(config, ScheduleOptions(10), slots=4)
