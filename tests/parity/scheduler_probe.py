"""Reads the coefficients out of diffusers' own schedulers.

A scheduler is linear, so it is probed with unit vectors: the initial latents, every prediction and every draw have
a coordinate of their own, and the latents after a row are that row's weights in all that came before. The vectors
are float64, so that what is seen are the scheduler's coefficients.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from calotype.schedule import Schedule, ScheduleOptions

Vector = NDArray[np.float64]
Config = Mapping[str, Any]


@dataclass(frozen=True)
class Probe:
    """What diffusers did: one entry a row."""

    timesteps: Vector
    samples: list[Vector]  # as scaled for the UNet
    latents: list[Vector]
    draws: list[int]  # how often randn_tensor was called
    mixes: list[tuple[float, float]]  # add_noise before the row, as weights of the original and the noise
    init_noise_sigma: float


def probe(scheduler: Any, options: ScheduleOptions, monkeypatch: pytest.MonkeyPatch) -> Probe:
    """Steps the scheduler over the request, with the indices that image-to-image sets."""
    first = options.start * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timesteps = scheduler.timesteps[first:]
    rows = len(timesteps)
    basis = torch.eye(1 + 2 * rows, dtype=torch.float64)[:, None]
    found = Probe(timesteps.double().numpy(), [], [], [], [], float(scheduler.init_noise_sigma))

    def draw(*_: object, dtype: Any, **__: object) -> Any:
        found.draws[-1] += 1
        return basis[rows + len(found.draws)].to(dtype)

    monkeypatch.setattr(sys.modules[type(scheduler).__module__], "randn_tensor", draw, raising=False)
    extra = {"eta": options.eta} if type(scheduler).__name__ in ("DDIMScheduler", "TCDScheduler") else {}
    picture, noise = torch.eye(2, dtype=torch.float64)[:, None]
    latents = basis[0]
    for row, t in enumerate(timesteps):
        found.draws.append(0)
        found.mixes.append(tuple(scheduler.add_noise(picture, noise, torch.tensor([t]))[0].tolist()))
        found.samples.append(scheduler.scale_model_input(latents, t)[0].numpy())
        latents = scheduler.step(basis[1 + row], t, latents, **extra, return_dict=False)[0]
        found.latents.append(latents[0].double().numpy())
    return found


def replay(table: Schedule, latents: list[Vector]) -> Iterator[tuple[Vector, Vector]]:
    """What the UNet sees and the latents after it; `latents[row]` replaces what the table has found before a row."""
    rows, slots = len(table), table.read.shape[1]
    basis = np.eye(1 + 2 * rows)
    state = np.zeros((slots, 1 + 2 * rows))
    state[0] = basis[0]
    for row in range(rows):
        if row < len(latents):
            state[0] = latents[row]
        seen = table.read[row] @ state
        state = table.write[row] @ np.vstack([state, basis[1 + row], basis[1 + rows + row]])
        yield seen, state[0]


def in_float32(config: Config, options: ScheduleOptions) -> Any:
    """The scheduler as it is."""
    scheduler = copy(_built(json.dumps(config, sort_keys=True), exact_roots=False))
    _set_timesteps(scheduler, options)
    return scheduler


def in_float64(config: Config, options: ScheduleOptions) -> Any:
    """The scheduler, starting from the float32 numbers that it always has, and computing in float64 from there on.

    Its own rounding is otherwise larger, by cancellation, than the differences that are looked for. torch's square
    root in float32 is not correctly rounded and differs between processors, so numpy's takes its place.
    """
    scheduler = copy(_built(json.dumps(config, sort_keys=True), exact_roots=True))
    read = torch.from_numpy
    with pytest.MonkeyPatch.context() as patch:
        _round_roots_correctly(patch)
        patch.setattr(torch, "from_numpy", lambda a: read(a).double() if a.dtype == np.float32 else read(a))
        _set_timesteps(scheduler, options)
    for name in ("sigmas", "alphas_cumprod", "final_alpha_cumprod"):
        if hasattr(scheduler, name):
            setattr(scheduler, name, getattr(scheduler, name).double())
    return scheduler


@cache
def _built(config: str, exact_roots: bool) -> Any:
    """The scheduler of a configuration; building one can take longer than probing it."""
    values = json.loads(config)
    with pytest.MonkeyPatch.context() as patch:
        if exact_roots:
            _round_roots_correctly(patch)
        return getattr(diffusers, values["_class_name"]).from_config(values)


def _round_roots_correctly(patch: pytest.MonkeyPatch) -> None:
    power = torch.Tensor.__pow__

    def root(x: torch.Tensor) -> torch.Tensor:
        return torch.tensor(np.sqrt(x.numpy()))

    patch.setattr(torch.Tensor, "sqrt", root)
    patch.setattr(
        torch.Tensor, "__pow__", lambda x, exponent: root(x) if exponent == 0.5 else power(x, exponent)
    )


def _set_timesteps(scheduler: Any, options: ScheduleOptions) -> None:
    if options.timesteps is not None:
        scheduler.set_timesteps(timesteps=list(options.timesteps))
    elif options.sigmas is not None:
        scheduler.set_timesteps(sigmas=list(options.sigmas))
    else:
        scheduler.set_timesteps(options.num_inference_steps)
