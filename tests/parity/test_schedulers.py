"""Schedule tables against diffusers' own schedulers, row by row.

A scheduler is linear, so it is probed with unit vectors: the initial latents, every prediction and every draw have
a coordinate of their own, and the latents after a row are that row's weights in all that came before. The vectors
are float64, so that what is compared is the scheduler's coefficients as it computes them itself.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from calotype import schedulers
from calotype.schedule import Schedule, ScheduleOptions

diffusers = pytest.importorskip("diffusers")
torch = pytest.importorskip("torch")

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

ANY_PREDICTION = ("epsilon", "v_prediction", "sample")
NO_SAMPLE = ("epsilon", "v_prediction")
PREDICTIONS = {
    "DDIMScheduler": ANY_PREDICTION,
    "DDPMScheduler": ANY_PREDICTION,
    "PNDMScheduler": NO_SAMPLE,
    "LMSDiscreteScheduler": ANY_PREDICTION,
    "EulerDiscreteScheduler": ANY_PREDICTION,
    "EulerAncestralDiscreteScheduler": NO_SAMPLE,
    "HeunDiscreteScheduler": ANY_PREDICTION,
    "KDPM2DiscreteScheduler": NO_SAMPLE,
    "KDPM2AncestralDiscreteScheduler": NO_SAMPLE,
    "DPMSolverMultistepScheduler": ANY_PREDICTION,
    "DPMSolverSinglestepScheduler": ANY_PREDICTION,
    "UniPCMultistepScheduler": ANY_PREDICTION,
    "DEISMultistepScheduler": ANY_PREDICTION,
    "LCMScheduler": ANY_PREDICTION,
    "TCDScheduler": ANY_PREDICTION,
}
SPACINGS = ("linspace", "leading", "trailing")
UNSPACED = ("DPMSolverSinglestepScheduler", "LCMScheduler", "TCDScheduler")
RULES = ("", "karras", "exponential", "beta")
RULED = (
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
)
RESCALED = (
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "LCMScheduler",
    "TCDScheduler",
)


@dataclass(frozen=True)
class Probe:
    """What diffusers did: one entry a row."""

    timesteps: NDArray[np.float64]
    samples: list[NDArray[np.float64]]  # as scaled for the UNet
    latents: list[NDArray[np.float64]]
    draws: list[int]
    mixes: list[tuple[float, float]]  # add_noise before each row
    init_noise_sigma: float


def probe(config: Mapping[str, Any], options: ScheduleOptions, monkeypatch: pytest.MonkeyPatch) -> Probe:
    scheduler = getattr(diffusers, config["_class_name"]).from_config(dict(config))
    if options.timesteps is not None:
        scheduler.set_timesteps(timesteps=list(options.timesteps))
    elif options.sigmas is not None:
        scheduler.set_timesteps(sigmas=list(options.sigmas))
    else:
        scheduler.set_timesteps(options.num_inference_steps)
    first = options.start * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timesteps = scheduler.timesteps[first:]
    rows = len(timesteps)
    basis = torch.eye(1 + 2 * rows, dtype=torch.float64)[:, None]
    found = Probe(timesteps.double().numpy(), [], [], [], [], float(scheduler.init_noise_sigma))
    drawn: list[int] = []

    def draw(*_: object, dtype: Any = None, **__: object) -> Any:
        drawn[-1] += 1
        return basis[1 + rows + len(drawn) - 1].to(dtype)

    module = sys.modules[type(scheduler).__module__]
    if hasattr(module, "randn_tensor"):
        monkeypatch.setattr(module, "randn_tensor", draw)
    extra = {"eta": options.eta} if config["_class_name"] in ("DDIMScheduler", "TCDScheduler") else {}
    picture, noise = torch.eye(2, dtype=torch.float64)[:, None]
    latents = basis[0]
    for row, t in enumerate(timesteps):
        drawn.append(0)
        found.mixes.append(tuple(scheduler.add_noise(picture, noise, torch.tensor([t]))[0].tolist()))
        found.samples.append(scheduler.scale_model_input(latents, t)[0].numpy())
        latents = scheduler.step(basis[1 + row], t, latents, **extra, return_dict=False)[0]
        found.latents.append(latents[0].double().numpy())
    found.draws.extend(drawn)
    return found


def replay(table: Schedule, probe: Probe) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """What the UNet sees and the latents after it, each row starting from diffusers' latents."""
    rows = len(table)
    basis = np.eye(1 + 2 * rows)
    state = np.zeros((SLOTS, 1 + 2 * rows))
    for row, latents in enumerate([basis[0], *probe.latents[:-1]]):
        state[0] = latents
        seen = table.read[row] @ state
        state = table.write[row] @ np.vstack([state, basis[1 + row], basis[1 + rows + row]])
        yield seen, state[0]


def distance(found: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def worst_error(
    config: Mapping[str, Any], options: ScheduleOptions, monkeypatch: pytest.MonkeyPatch
) -> float:
    """The largest relative error of a row, everything that has to be equal having been checked."""
    expected = probe(config, options, monkeypatch)
    table = schedulers.schedule(config, options, SLOTS)
    assert len(table) == len(expected.timesteps)
    assert list(table.draws) == [bool(count) for count in expected.draws]
    assert table.init_noise_sigma == pytest.approx(expected.init_noise_sigma, rel=2e-6)
    assert table.timesteps == pytest.approx(expected.timesteps, rel=1e-6, abs=1e-3)
    mixes = [*expected.mixes, (1.0, 0.0)]
    assert np.abs(np.vstack([table.add_noise, table.blend]) - mixes).max() <= 2e-6 * np.abs(mixes).max()
    worst = 0.0
    for row, (seen, latents) in enumerate(replay(table, expected)):
        worst = max(worst, distance(seen, expected.samples[row]), distance(latents, expected.latents[row]))
    return worst


def starts(steps: int) -> list[int]:
    return sorted({0, 1, steps // 2})


@lru_cache(maxsize=None)
def lms_coefficient(sigmas: tuple[float, ...], order: int, t: int, current_order: int) -> float:
    scheduler = diffusers.LMSDiscreteScheduler(num_train_timesteps=2)
    scheduler.sigmas = torch.tensor(sigmas)
    return INTEGRATE(scheduler, order, t, current_order)


INTEGRATE = diffusers.LMSDiscreteScheduler.get_lms_coefficient
WORST: dict[str, float] = {}


@pytest.fixture(autouse=True)
def integrate_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """LMS integrates numerically, for a second a schedule; equal integrals are taken once."""

    def remembered(self: Any, order: int, t: int, current_order: int) -> float:
        return lms_coefficient(tuple(self.sigmas.tolist()), order, t, current_order)

    monkeypatch.setattr(diffusers.LMSDiscreteScheduler, "get_lms_coefficient", remembered)


def check(
    config: Mapping[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    steps: tuple[int, ...] = STEPS,
    eta: float = 0.0,
) -> None:
    worst = 0.0
    for count in steps:
        for start in starts(count):
            worst = max(worst, worst_error(config, ScheduleOptions(count, start, eta), monkeypatch))
    name = config["_class_name"]
    WORST[name] = max(worst, WORST.get(name, 0.0))
    assert worst <= (5e-6 if name == "LMSDiscreteScheduler" else 2e-6)


def grid() -> Iterator[Any]:
    for name, predictions in PREDICTIONS.items():
        rules = RULES if name in RULED else ("",)
        spacings = ("linspace",) if name in UNSPACED else SPACINGS
        for rule, spacing, prediction in itertools.product(rules, spacings, predictions):
            changes = {"timestep_spacing": spacing, "prediction_type": prediction}
            if rule:
                changes[f"use_{rule}_sigmas"] = True
            yield pytest.param(
                {**SD, **changes, "_class_name": name}, id=f"{name}-{rule or 'plain'}-{spacing}-{prediction}"
            )


@pytest.mark.parametrize("config", grid())
def test_tables_are_diffusers_schedulers(config: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    check(config, monkeypatch)
