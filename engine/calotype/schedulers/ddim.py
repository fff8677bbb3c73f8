"""DDIM: Song, Meng, Ermon, Denoising Diffusion Implicit Models (2010.02502), equation 12;
diffusers DDIMScheduler."""

from __future__ import annotations

import numpy as np

from calotype.schedule import ScheduleOptions
from calotype.schedulers.algebra import LATENTS, NOISE, PREDICTION
from calotype.schedulers.levels import (
    PREDICTION_TYPES,
    Betas,
    train_alphas_with_rescaling,
    train_levels,
    train_steps,
)
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings, refuse_clipping, refuse_thresholding
from calotype.schedulers.spacing import spaced_timesteps


def ddim(settings: Settings, options: ScheduleOptions) -> Solution:
    """eta 0 is deterministic, eta 1 as noisy as DDPM. A step goes T // N timesteps down, whatever the spacing."""
    refuse_thresholding(settings)
    refuse_clipping(settings, default=True)
    kind = settings.choice("prediction_type", "epsilon", PREDICTION_TYPES)
    levels = train_levels(settings, train_alphas_with_rescaling(settings, Betas()), set_alpha_to_one=True)
    stride = train_steps(settings) // options.num_inference_steps
    timesteps = np.round(spaced_timesteps(settings, options.num_inference_steps, "leading")).astype(int)
    rows: list[Row] = []
    for step, t in enumerate(timesteps[options.start :]):
        now, then = levels.at(t), levels.at_or_final(t - stride)
        original = now.original(LATENTS, PREDICTION, kind)
        epsilon = now.epsilon(LATENTS, PREDICTION, kind)
        spread = options.eta * then.sigma / now.sigma * np.sqrt(1 - (now.alpha / then.alpha) ** 2)
        latents = then.alpha * original + np.sqrt(then.sigma**2 - spread**2) * epsilon + spread * NOISE
        rows.append(Row(step, t, now, latents, draws=options.eta > 0))
    return Solution(rows)
