"""LCM: Luo et al., Latent Consistency Models (2310.04378), algorithm 3; diffusers LCMScheduler."""

from __future__ import annotations

import numpy as np

from calotype.errors import RequestError
from calotype.schedule import ScheduleOptions, Table
from calotype.schedulers.algebra import LATENTS, NOISE, PREDICTION
from calotype.schedulers.levels import (
    PREDICTION_TYPES,
    Betas,
    Level,
    train_alphas_with_rescaling,
    train_levels,
    train_steps,
)
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings, refuse_clipping, refuse_thresholding
from calotype.schedulers.spacing import descending_timesteps

BETAS = Betas(0.00085, 0.012, "scaled_linear")
SIGMA_DATA = 0.5


def lcm(settings: Settings, options: ScheduleOptions) -> Solution:
    """Straight to the original, by the consistency function, and back up to the next timestep with new noise."""
    refuse_thresholding(settings)
    refuse_clipping(settings, default=False)
    kind = settings.choice("prediction_type", "epsilon", PREDICTION_TYPES)
    scaling = settings.number("timestep_scaling", 10.0)
    levels = train_levels(settings, train_alphas_with_rescaling(settings, BETAS), set_alpha_to_one=True)
    timesteps = distilled_timesteps(settings, options)
    rows: list[Row] = []
    for index in range(options.start, len(timesteps)):
        t, now = timesteps[index], levels.at(int(timesteps[index]))
        skip = SIGMA_DATA**2 / ((t * scaling) ** 2 + SIGMA_DATA**2)
        out = t * scaling / np.sqrt((t * scaling) ** 2 + SIGMA_DATA**2)
        latents = out * now.original(LATENTS, PREDICTION, kind) + skip * LATENTS
        last = index == len(timesteps) - 1
        if not last:
            then: Level = levels.at_or_final(int(timesteps[index + 1]))
            latents = then.alpha * latents + then.sigma * NOISE
        rows.append(Row(index - options.start, t, now, latents, draws=not last))
    return Solution(rows)


def distilled_timesteps(settings: Settings, options: ScheduleOptions) -> Table:
    """Falling timesteps, evenly out of the original_inference_steps that the model was distilled on."""
    train, original = train_steps(settings), settings.integer("original_inference_steps", 50)
    if not 1 <= original <= train:
        raise settings.wrong("original_inference_steps", f"between 1 and {train}")
    custom = descending_timesteps(settings, options)
    if custom is not None:
        return custom
    steps = options.num_inference_steps
    if steps > original:
        raise RequestError(
            f"{settings.scheduler}: expected at most {original} steps (original_inference_steps), found {steps}",
            f"set num_inference_steps to at most {original}; 4 to 8 are usual",
        )
    falling = np.arange(original, 0, -1) * (train // original) - 1
    return falling[np.floor(np.linspace(0, original, steps, endpoint=False)).astype(int)].astype(np.float64)
