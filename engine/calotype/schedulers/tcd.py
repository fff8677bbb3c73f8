"""TCD: Zheng et al., Trajectory Consistency Distillation (2402.19159), strategic stochastic
sampling; diffusers TCDScheduler."""

from __future__ import annotations

import numpy as np

from calotype.schedule import ScheduleOptions
from calotype.schedulers.algebra import LATENTS, NOISE, PREDICTION
from calotype.schedulers.lcm import BETAS, distilled_timesteps
from calotype.schedulers.levels import PREDICTION_TYPES, train_alphas_with_rescaling, train_levels
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings, refuse_clipping, refuse_thresholding


def tcd(settings: Settings, options: ScheduleOptions) -> Solution:
    """Down to (1 - eta) of the next timestep along the trajectory, and back up to it with new noise."""
    refuse_thresholding(settings)
    refuse_clipping(settings, default=False)
    kind = settings.choice("prediction_type", "epsilon", PREDICTION_TYPES)
    levels = train_levels(settings, train_alphas_with_rescaling(settings, BETAS), set_alpha_to_one=True)
    timesteps = distilled_timesteps(settings, options)
    rows: list[Row] = []
    for index in range(options.start, len(timesteps)):
        last = index == len(timesteps) - 1
        following = 0 if last else int(timesteps[index + 1])
        down_to = int(np.floor(np.float32(1 - options.eta) * np.float32(following)))
        now, then, down = levels.at(int(timesteps[index])), levels.at_or_final(following), levels.at(down_to)
        original = now.original(LATENTS, PREDICTION, kind)
        latents = down.alpha * original + down.sigma * now.epsilon(LATENTS, PREDICTION, kind)
        draws = options.eta > 0 and not last
        if draws:
            ratio = then.alpha / down.alpha
            latents = ratio * latents + np.sqrt(1 - ratio**2) * NOISE
        rows.append(Row(index - options.start, timesteps[index], now, latents, draws=draws))
    return Solution(rows)
