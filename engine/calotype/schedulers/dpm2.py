"""DPM-Solver-2: Lu et al. (2206.00927), algorithm 1, on sigmas as in Katherine Crowson's k-diffusion;
diffusers KDPM2DiscreteScheduler and KDPM2AncestralDiscreteScheduler."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calotype.schedule import ScheduleOptions
from calotype.schedulers.algebra import LATENTS, MEMORY, NOISE, PREDICTION
from calotype.schedulers.euler_ancestral import ancestral_split
from calotype.schedulers.levels import Betas, Float32, Level, train_alphas, train_sigmas
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings
from calotype.schedulers.spacing import exploding_grid, initial_sigma, sigma_rule, timesteps_of

BETAS = Betas(0.00085, 0.012)
Split = Callable[[float, float], tuple[float, float]]


def dpm2(settings: Settings, options: ScheduleOptions) -> Solution:
    """Two rows a step: down to the midpoint, then the whole step with the derivative found there."""
    return _solve(settings, options, _all_the_way, draws=False)


def dpm2_ancestral(settings: Settings, options: ScheduleOptions) -> Solution:
    """The same, further down than asked for, with noise to come back up."""
    return _solve(settings, options, ancestral_split, draws=True)


def _all_the_way(_: float, sigma_next: float) -> tuple[float, float]:
    """The sigma that a step without noise goes down to, and no noise."""
    return sigma_next, 0.0


def _solve(settings: Settings, options: ScheduleOptions, split: Split, draws: bool) -> Solution:
    kind = settings.choice("prediction_type", "epsilon", ("epsilon", "v_prediction"))
    alphas = train_alphas(settings, BETAS)
    rule = sigma_rule(settings)
    grid = exploding_grid(settings, options, alphas, rule)
    timesteps = np.round(grid.timesteps) if rule.name == "karras" else grid.timesteps
    rows: list[Row] = []
    for index in range(options.start, len(grid)):
        sigma, sigma_next = grid.sigmas[index : index + 2]
        step, level, level_next = index - options.start, Level.of_sigma(sigma), Level.of_sigma(sigma_next)
        down, up = split(sigma, sigma_next)
        middle = np.sqrt(sigma * down)
        latents = LATENTS + (middle - sigma) * level.epsilon(level.alpha * LATENTS, PREDICTION, kind)
        if index == len(grid) - 1:  # the midpoint on the way to 0 is 0
            rows.append(Row(step, timesteps[index], level, latents))
            break
        rows.append(Row(step, timesteps[index], level, latents, memory=(LATENTS,)))
        level_middle = Level.of_sigma(middle)
        derivative = level_middle.epsilon(level_middle.alpha * LATENTS, PREDICTION, kind)
        latents = MEMORY[0] + (down - sigma) * derivative + up * NOISE
        rows.append(
            Row(step, _timestep(middle, alphas), level_middle, latents, draws=draws, entry=level_next)
        )
    return Solution(rows, initial_sigma(settings, grid.sigmas), "exploding")


def _timestep(sigma: float, alphas: Float32) -> float:
    return float(timesteps_of(np.array([sigma]), np.log(train_sigmas(alphas)))[0])
