"""Noise levels: from a configuration to the levels that the model was trained on.

Where diffusers rounds to float32 the same rounding is done here, so that both start from equal numbers; from
there on everything is float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotype.errors import RequestError
from calotype.schedule import Table
from calotype.schedulers.algebra import Vector
from calotype.schedulers.settings import Settings

Float32 = NDArray[np.float32]

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
SMALLEST_ALPHA = 2.0**-24  # diffusers' stand-in for a terminal level of zero, which has no finite sigma


@dataclass(frozen=True, slots=True)
class Level:
    """One noise level: sample = alpha * original + sigma * noise, with alpha^2 + sigma^2 = 1."""

    alpha: np.float64
    sigma: np.float64

    @classmethod
    def of_sigma(cls, sigma: float) -> Level:
        """The level of the variance-exploding sigma, original + sigma * noise."""
        alpha = 1.0 / np.sqrt(np.float64(sigma) ** 2 + 1.0)
        return cls(alpha, sigma * alpha)

    @classmethod
    def of_alpha(cls, alpha_cumprod: float) -> Level:
        """The level whose share of the original's variance is `alpha_cumprod`."""
        return cls(np.sqrt(np.float64(alpha_cumprod)), np.sqrt(1.0 - np.float64(alpha_cumprod)))

    @property
    def exploding(self) -> np.float64:
        """sigma / alpha, the noise on an original of unit scale."""
        return self.sigma / self.alpha

    @property
    def log_snr(self) -> np.float64:
        """lambda = log(alpha / sigma), half the logarithm of the signal-to-noise ratio."""
        return -np.log(self.exploding)

    def original(self, sample: Vector, prediction: Vector, prediction_type: str) -> Vector:
        """The original (x_0) that a prediction for a sample of unit variance stands for."""
        if prediction_type == "epsilon":
            return (sample - self.sigma * prediction) / self.alpha
        if prediction_type == "v_prediction":
            return self.alpha * sample - self.sigma * prediction
        return prediction

    def epsilon(self, sample: Vector, prediction: Vector, prediction_type: str) -> Vector:
        """The noise (epsilon) that a prediction for a sample of unit variance stands for."""
        if prediction_type == "epsilon":
            return prediction
        if prediction_type == "v_prediction":
            return self.alpha * prediction + self.sigma * sample
        return (sample - self.alpha * prediction) / self.sigma


CLEAN = Level.of_alpha(1.0)


@dataclass(frozen=True, slots=True)
class TrainLevels:
    """The training levels by timestep, and the one that the last step goes to."""

    scheduler: str
    alphas: Float32  # (T,)
    final: Level

    def at(self, timestep: int) -> Level:
        """The level of a timestep; RequestError for one that the model was not trained on."""
        if not -len(self.alphas) <= timestep < len(self.alphas):
            raise RequestError(
                f"{self.scheduler}: timestep {timestep} is beyond the {len(self.alphas)} of the training",
                "use fewer steps, another timestep_spacing or a smaller steps_offset",
            )
        return Level.of_alpha(self.alphas[timestep])

    def at_or_final(self, timestep: int) -> Level:
        """The level of a timestep, the final one below zero."""
        return self.at(timestep) if timestep >= 0 else self.final


def train_levels(settings: Settings, alphas: Float32, set_alpha_to_one: bool) -> TrainLevels:
    """The levels of `alphas`; `set_alpha_to_one` is what the class assumes: whether the last step removes all noise."""
    final = 1.0 if settings.flag("set_alpha_to_one", set_alpha_to_one) else alphas[0]
    return TrainLevels(settings.scheduler, alphas, Level.of_alpha(final))


@dataclass(frozen=True, slots=True)
class Betas:
    """What a diffusers class assumes about its noise where the configuration is silent."""

    start: float = 0.0001
    end: float = 0.02
    schedule: str = "linear"


def train_alphas(settings: Settings, default: Betas) -> Float32:
    """alphas_cumprod, (T,) for T training timesteps, bit for bit as diffusers computes it."""
    return np.cumprod((1.0 - _betas(settings, default)).astype(np.float64)).astype(np.float32)


def train_alphas_with_rescaling(settings: Settings, default: Betas) -> Float32:
    """`train_alphas`, with zero terminal SNR where the configuration sets rescale_betas_zero_snr."""
    if not settings.flag("rescale_betas_zero_snr", False):
        return train_alphas(settings, default)
    betas = _rescaled_to_zero_snr(_betas(settings, default))
    return np.cumprod((1.0 - betas).astype(np.float64)).astype(np.float32)


def with_finite_sigmas(settings: Settings, alphas: Float32) -> Float32:
    """The same levels, the last of them raised above zero where they were rescaled, as diffusers does."""
    if not settings.flag("rescale_betas_zero_snr", False):
        return alphas
    return np.append(alphas[:-1], np.float32(SMALLEST_ALPHA))


def train_sigmas(alphas: Float32) -> Float32:
    """The variance-exploding sigmas of the training levels, (T,), rising."""
    return np.sqrt((1.0 - alphas) / alphas)


def train_steps(settings: Settings) -> int:
    """T, the number of timesteps that the model was trained on."""
    steps = settings.integer("num_train_timesteps", 1000)
    if steps < 1:
        raise settings.wrong("num_train_timesteps", "at least 1")
    return steps


def linspace_float32(start: float, end: float, points: int) -> Float32:
    """torch.linspace in float32: counted from both ends, each term rounded once."""
    first, last = np.float32(start), np.float32(end)
    step = np.float64((last - first) / np.float32(max(points - 1, 1)))
    index = np.arange(points)
    rising = np.float64(first) + step * index
    falling = np.float64(last) - step * (points - 1 - index)
    return np.where(index < points // 2, rising, falling).astype(np.float32)


def as_float32(values: Table) -> Table:
    """Values rounded to float32, carried on in float64."""
    return values.astype(np.float32).astype(np.float64)


def _betas(settings: Settings, default: Betas) -> Float32:
    trained: Any = settings.values.get("trained_betas")
    if trained is not None:
        return np.asarray(trained, dtype=np.float32)
    start, end = settings.number("beta_start", default.start), settings.number("beta_end", default.end)
    points = train_steps(settings)
    schedule = settings.choice(
        "beta_schedule", default.schedule, ("linear", "scaled_linear", "squaredcos_cap_v2")
    )
    if schedule == "linear":
        return linspace_float32(start, end, points)
    if schedule == "scaled_linear":
        return linspace_float32(start**0.5, end**0.5, points) ** 2
    remaining = [math.cos((i / points + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(points + 1)]
    betas = [min(1.0 - after / before, 0.999) for before, after in pairwise(remaining)]
    return np.array(betas, dtype=np.float32)


def _rescaled_to_zero_snr(betas: Float32) -> Float32:
    """Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed (2305.08891), algorithm 1."""
    roots = np.sqrt(np.cumprod((1.0 - betas).astype(np.float64)).astype(np.float32))
    first, last = roots[0], roots[-1]
    alphas = ((roots - last) * (first / (first - last))) ** 2
    return (1.0 - np.append(alphas[:1], alphas[1:] / alphas[:-1])).astype(np.float32)
