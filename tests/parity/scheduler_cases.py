"""Configurations of diffusers' schedulers, and the comparison of a table with one of them, row by row."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from calotype import schedulers
from calotype.schedule import ScheduleOptions

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

from tests.parity.scheduler_probe import Config, Vector, in_float32, in_float64, probe, replay  # noqa: E402  (needs torch)

SLOTS = 5
STEPS = (3, 7, 20, 50)
SD = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "skip_prk_steps": True,
}
DEMO = {**SD, "beta_end": 0.03, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}

DDIM, DDPM, PNDM = "DDIMScheduler", "DDPMScheduler", "PNDMScheduler"
LMS, EULER, EULER_A = "LMSDiscreteScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"
HEUN, DPM2, DPM2_A = "HeunDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"
MULTISTEP, SINGLESTEP = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
UNIPC, DEIS, LCM, TCD = "UniPCMultistepScheduler", "DEISMultistepScheduler", "LCMScheduler", "TCDScheduler"
ALL = (
    DDIM,
    DDPM,
    PNDM,
    LMS,
    EULER,
    EULER_A,
    HEUN,
    DPM2,
    DPM2_A,
    MULTISTEP,
    SINGLESTEP,
    UNIPC,
    DEIS,
    LCM,
    TCD,
)
WITHOUT_SAMPLE = (PNDM, EULER_A, DPM2, DPM2_A)
WITHOUT_SPACING = (SINGLESTEP, LCM, TCD)
WITH_RULES = (LMS, EULER, HEUN, DPM2, DPM2_A, MULTISTEP, SINGLESTEP, UNIPC, DEIS)
WITH_RESCALING = (DDIM, DDPM, EULER, EULER_A, MULTISTEP, UNIPC, LCM, TCD)
RULES = ("plain", "karras", "exponential", "beta")

Build = Callable[[Config, ScheduleOptions], Any]

BOUND = 2e-6
BOUND_IN_FLOAT32 = {LMS: 5e-6}  # numeric integrals over float32 levels
LOSING_DIGITS = (UNIPC, DEIS, DPM2, DPM2_A)  # differences of close logarithms, in float32
INTEGRATE = diffusers.LMSDiscreteScheduler.get_lms_coefficient


@cache
def integral(sigmas: tuple[float, ...], dtype: Any, order: int, t: int, current_order: int) -> float:
    scheduler = diffusers.LMSDiscreteScheduler(num_train_timesteps=2)
    scheduler.sigmas = torch.tensor(sigmas, dtype=dtype)
    return INTEGRATE(scheduler, order, t, current_order)


@pytest.fixture(autouse=True)
def integrate_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' numeric integrals of LMS take a second a schedule; equal ones are taken once."""

    def remembered(self: Any, order: int, t: int, current_order: int) -> float:
        return integral(tuple(self.sigmas.tolist()), self.sigmas.dtype, order, t, current_order)

    monkeypatch.setattr(diffusers.LMSDiscreteScheduler, "get_lms_coefficient", remembered)
    diffusers.utils.logging.set_verbosity_error()


def distance(found: Vector, expected: Vector) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def row_errors(
    config: Config,
    options: ScheduleOptions,
    monkeypatch: pytest.MonkeyPatch,
    build: Build = in_float64,
) -> list[float]:
    """The relative distance of every row, each starting from diffusers' latents; the rest is asserted."""
    expected = probe(build(config, options), options, monkeypatch)
    table = schedulers.schedule(config, options, SLOTS)
    assert len(table) == len(expected.timesteps)
    assert list(table.draws) == [bool(count) for count in expected.draws]
    assert table.init_noise_sigma == pytest.approx(expected.init_noise_sigma, rel=2e-6)
    assert table.timesteps == pytest.approx(expected.timesteps, rel=1e-6, abs=1e-3)
    mixes = np.array([*expected.mixes, (1.0, 0.0)])
    assert np.abs(np.vstack([table.add_noise, table.blend]) - mixes).max() <= 2e-6 * np.abs(mixes).max()
    rows = replay(table, [np.eye(1 + 2 * len(table))[0], *expected.latents])
    pairs = zip(rows, expected.samples, expected.latents, strict=True)
    return [max(distance(seen, s), distance(after, x)) for (seen, after), s, x in pairs]


def starts(count: int) -> list[int]:
    """From the first, the second and the middle step on."""
    return sorted({0, 1, count // 2})


def check(
    config: Config, monkeypatch: pytest.MonkeyPatch, steps: tuple[int, ...] = STEPS, eta: float = 0.0
) -> None:
    """Every row of every number of steps and of late starts."""
    errors = {
        (count, start): max(row_errors(config, ScheduleOptions(count, start, eta), monkeypatch))
        for count in steps
        for start in starts(count)
    }
    assert {key: error for key, error in errors.items() if not error <= BOUND} == {}


def check_in_float32(config: Config, monkeypatch: pytest.MonkeyPatch) -> set[float]:
    """Every row, beside the scheduler as it is; returns the errors that are diffusers' own rounding.

    Such a row has to be ten times nearer to the same scheduler in float64 than to the one in float32.
    """
    bound = BOUND_IN_FLOAT32.get(config["_class_name"], BOUND)
    rounding: set[float] = set()
    for options in (ScheduleOptions(count, start) for count in STEPS for start in starts(count)):
        exact = row_errors(config, options, monkeypatch, in_float64)
        rounded = row_errors(config, options, monkeypatch, in_float32)
        for row, (here, there) in enumerate(zip(exact, rounded, strict=True)):
            assert there <= bound or here <= there / 10, (options, row, here, there)
        rounding |= {error for error in rounded if error > bound}
    return rounding


def case(name: str, base: Config = SD, /, **changes: Any) -> Any:
    said = "-".join(f"{key}={value}" for key, value in changes.items() if key != "trained_betas")
    return pytest.param(
        {**base, **changes, "_class_name": name}, id=f"{name.removesuffix('Scheduler')}-{said}"
    )


def rule_flags(rule: str) -> dict[str, bool]:
    return {} if rule == "plain" else {f"use_{rule}_sigmas": True}
