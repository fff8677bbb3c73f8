"""Heun's second-order method: Karras et al. (2206.00364), algorithm 1; diffusers HeunDiscreteScheduler."""

from __future__ import annotations

from calotype.schedule import ScheduleOptions
from calotype.schedulers.algebra import LATENTS, MEMORY, PREDICTION
from calotype.schedulers.levels import PREDICTION_TYPES, Betas, Level, train_alphas
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings, refuse_clipping
from calotype.schedulers.spacing import exploding_grid, initial_sigma, sigma_rule

BETAS = Betas(0.00085, 0.012)


def heun(settings: Settings, options: ScheduleOptions) -> Solution:
    """Two rows a step, an Euler step and its correction from the far end; the last step is Euler's alone."""
    refuse_clipping(settings, default=False)
    kind = settings.choice("prediction_type", "epsilon", PREDICTION_TYPES)
    grid = exploding_grid(settings, options, train_alphas(settings, BETAS), sigma_rule(settings))
    rows: list[Row] = []
    for index in range(options.start, len(grid)):
        sigma, sigma_next = grid.sigmas[index : index + 2]
        step, near, far = index - options.start, Level.of_sigma(sigma), Level.of_sigma(sigma_next)
        derivative = near.epsilon(near.alpha * LATENTS, PREDICTION, kind)
        latents = LATENTS + (sigma_next - sigma) * derivative
        if index == len(grid) - 1:
            rows.append(Row(step, grid.timesteps[index], near, latents))
            break
        rows.append(Row(step, grid.timesteps[index], near, latents, memory=(LATENTS, derivative)))
        start, derivative = MEMORY[:2]
        derivative_far = far.epsilon(far.alpha * LATENTS, PREDICTION, kind)
        latents = start + (sigma_next - sigma) * (derivative + derivative_far) / 2
        rows.append(Row(step, grid.timesteps[index + 1], far, latents))
    return Solution(rows, initial_sigma(settings, grid.sigmas), "exploding")
