"""Schedule tables against diffusers' own schedulers, row by row, over everything that a configuration can say."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from calotype import schedulers
from calotype.errors import RequestError
from calotype.schedule import ScheduleOptions
from tests.parity.scheduler_cases import (
    ALL,
    BOUND,
    DDIM,
    DDPM,
    DEMO,
    EULER,
    HEUN,
    LCM,
    LOSING_DIGITS,
    MULTISTEP,
    PNDM,
    RULES,
    SD,
    SINGLESTEP,
    SLOTS,
    TCD,
    UNIPC,
    WITH_RESCALING,
    WITH_RULES,
    WITHOUT_SAMPLE,
    WITHOUT_SPACING,
    case,
    check,
    check_in_float32,
    integrate_once,
    row_errors,
    rule_flags,
)
from tests.parity.scheduler_probe import Config, in_float32, probe

__all__ = ["integrate_once"]  # a fixture of every test here


def grid() -> Iterator[Any]:
    for name in ALL:
        rules = RULES if name in WITH_RULES else RULES[:1]
        spacings = ("linspace",) if name in WITHOUT_SPACING else ("linspace", "leading", "trailing")
        predictions = (
            ("epsilon", "v_prediction") if name in WITHOUT_SAMPLE else ("epsilon", "v_prediction", "sample")
        )
        for rule, spacing, prediction in itertools.product(rules, spacings, predictions):
            yield case(name, timestep_spacing=spacing, prediction_type=prediction, **rule_flags(rule))


@pytest.mark.parametrize("config", grid())
def test_every_rule_spacing_and_prediction_is_diffusers(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(config, monkeypatch)


def every_rule() -> Iterator[Any]:
    for name in ALL:
        for rule in RULES if name in WITH_RULES else RULES[:1]:
            yield case(name, **rule_flags(rule))


@pytest.mark.slow
@pytest.mark.parametrize("config", every_rule())
def test_tables_are_diffusers_in_float32_too(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beta sigmas lie so close at both ends that UniPC and DEIS lose up to 1e-4 of a row there."""
    rounding = check_in_float32(config, monkeypatch)
    assert not rounding or config["_class_name"] in LOSING_DIGITS
    assert max(rounding, default=0) <= (2e-4 if config.get("use_beta_sigmas") else 3e-6)


def zero_terminal_snr() -> Iterator[Any]:
    for name in WITH_RESCALING:
        rules = RULES if name in WITH_RULES else RULES[:1]
        for rule in rules:
            yield case(name, DEMO, rescale_betas_zero_snr=True, **rule_flags(rule))


@pytest.mark.parametrize("config", zero_terminal_snr())
def test_zero_terminal_snr_is_diffusers(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    check(config, monkeypatch, steps=(3, 20))


def noises() -> Iterator[Any]:
    for name in ALL:
        yield case(name, beta_schedule="linear")
        yield case(name, beta_schedule="squaredcos_cap_v2")
        yield case(name, trained_betas=np.linspace(0.001, 0.02, 500).tolist(), num_train_timesteps=500)
        yield case(name, {"clip_sample": False, "skip_prk_steps": True})
        yield case(name, DEMO)


@pytest.mark.parametrize("config", noises())
def test_every_noise_is_diffusers(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    check(config, monkeypatch, steps=(7,))


def not_a_number() -> Iterator[Any]:
    yield case(DDIM, rescale_betas_zero_snr=True, timestep_spacing="trailing")
    yield case(UNIPC, solver_type="bh1")
    yield case(UNIPC, predict_x0=False)
    yield case(UNIPC, lower_order_final=False)
    karras = {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"}
    yield case(UNIPC, solver_order=3, lower_order_final=False, **karras)


@pytest.mark.parametrize("config", not_a_number())
def test_what_diffusers_makes_no_number_of_is_refused(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = probe(in_float32(config, ScheduleOptions(7)), ScheduleOptions(7), monkeypatch)
    assert not np.isfinite(found.latents[-1]).all()
    with pytest.raises(RequestError, match="divides by zero"):
        schedulers.schedule(config, ScheduleOptions(7), SLOTS)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("config", [case(DDIM), case(DDIM, DEMO), case(TCD), case(TCD, DEMO)])
def test_eta_is_diffusers(config: Config, eta: float, monkeypatch: pytest.MonkeyPatch) -> None:
    check(config, monkeypatch, eta=eta)


@pytest.mark.parametrize("name", [DDPM, EULER, HEUN, MULTISTEP, SINGLESTEP, LCM, TCD])
@pytest.mark.parametrize("start", [0, 1, 5])
def test_custom_timesteps_are_diffusers(name: str, start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given: Any = tuple(diffusers.schedulers.AysSchedules["StableDiffusionTimesteps"])
    options = ScheduleOptions(start=start, timesteps=given)
    assert max(row_errors({**SD, "_class_name": name}, options, monkeypatch)) <= BOUND


@pytest.mark.parametrize("start", [0, 1, 5])
@pytest.mark.parametrize("config", [case(EULER), case(EULER, DEMO, use_karras_sigmas=True)])
def test_custom_sigmas_are_diffusers(config: Config, start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tuple(diffusers.schedulers.AysSchedules["StableDiffusionSigmas"])
    assert max(row_errors(config, ScheduleOptions(start=start, sigmas=given), monkeypatch)) <= BOUND


@pytest.mark.parametrize("base", [SD, DEMO], ids=["sd", "demo"])
@pytest.mark.parametrize("name", schedulers.names())
def test_every_short_name_is_diffusers(name: str, base: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    check(schedulers.select(name, {**base, "_class_name": PNDM}), monkeypatch, steps=(7,))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("source", [PNDM, DDIM, UNIPC, MULTISTEP])
def test_selecting_a_class_is_from_config(name: str, source: str) -> None:
    eager = getattr(diffusers, source).from_config({**SD, "_class_name": source, "solver_order": 3}).config
    switched = dict(getattr(diffusers, name).from_config(eager).config)
    assumed = switched.pop("_use_default_values", [])
    said = {key: value for key, value in switched.items() if key not in assumed}
    assert {**schedulers.select(name, eager)} == {**said, "_class_name": name}


@pytest.mark.parametrize("name", [name for name in ALL if name not in (DDIM, DDPM, PNDM)])
def test_text_to_image_starts_at_the_first_row_too(name: str) -> None:
    """The text-to-image pipeline sets no begin index, and diffusers looks the first timestep up instead."""
    scheduler = getattr(diffusers, name).from_config({**SD, "_class_name": name})
    scheduler.set_timesteps(20)
    scheduler.scale_model_input(torch.zeros(1, 1), scheduler.timesteps[0])
    scheduler._init_step_index(scheduler.timesteps[0])
    assert scheduler.step_index == 0
