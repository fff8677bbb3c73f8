"""DDPM: Ho, Jain, Abbeel, Denoising Diffusion Probabilistic Models (2006.11239), equation 7;
diffusers DDPMScheduler."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from calotype.schedule import ScheduleOptions
from calotype.schedulers.algebra import LATENTS, NOISE, PREDICTION
from calotype.schedulers.levels import (
    CLEAN,
    PREDICTION_TYPES,
    Betas,
    TrainLevels,
    train_alphas_with_rescaling,
)
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings, refuse_clipping, refuse_thresholding
from calotype.schedulers.spacing import descending_timesteps, spaced_timesteps

VARIANCE_TYPES = ("fixed_small", "fixed_small_log", "fixed_large")
SMALLEST_VARIANCE = 1e-20  # diffusers draws noise even where nothing is left to add


def ddpm(settings: Settings, options: ScheduleOptions) -> Solution:
    """The mean of the posterior, and noise of its variance (fixed_small) or of beta (fixed_large)."""
    refuse_thresholding(settings)
    refuse_clipping(settings, default=True)
    kind = settings.choice("prediction_type", "epsilon", PREDICTION_TYPES)
    variance_type = settings.choice("variance_type", "fixed_small", VARIANCE_TYPES)
    levels = TrainLevels(settings.scheduler, train_alphas_with_rescaling(settings, Betas()), final=CLEAN)
    timesteps = descending_timesteps(settings, options)
    if timesteps is None:
        timesteps = np.round(spaced_timesteps(settings, options.num_inference_steps, "leading"))
    visited = [*timesteps.astype(int), -1]
    rows: list[Row] = []
    for step, (t, previous) in enumerate(pairwise(visited[options.start :])):
        now, then = levels.at(t), levels.at_or_final(previous)
        alpha = (now.alpha / then.alpha) ** 2
        original = now.original(LATENTS, PREDICTION, kind)
        mean = (then.alpha * (1 - alpha) * original + np.sqrt(alpha) * then.sigma**2 * LATENTS) / now.sigma**2
        variance = np.maximum((then.sigma / now.sigma) ** 2 * (1 - alpha), SMALLEST_VARIANCE)
        if variance_type == "fixed_large":
            variance = 1 - alpha
        draws = bool(t > 0)
        rows.append(Row(step, t, now, mean + draws * np.sqrt(variance) * NOISE, draws=draws))
    return Solution(rows)
