"""Euler with ancestral sampling, after Katherine Crowson's k-diffusion; diffusers EulerAncestralDiscreteScheduler."""

from __future__ import annotations

from calotype.schedule import ScheduleOptions
from calotype.schedulers.algebra import LATENTS, NOISE, PREDICTION
from calotype.schedulers.levels import Betas, Level, train_alphas_with_rescaling, with_finite_sigmas
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings
from calotype.schedulers.spacing import NO_RULE, exploding_grid, initial_sigma


def euler_ancestral(settings: Settings, options: ScheduleOptions) -> Solution:
    """A step further down than asked for, and noise to come back up."""
    kind = settings.choice("prediction_type", "epsilon", ("epsilon", "v_prediction"))
    alphas = with_finite_sigmas(settings, train_alphas_with_rescaling(settings, Betas()))
    grid = exploding_grid(settings, options, alphas, NO_RULE)
    rows: list[Row] = []
    for index in range(options.start, len(grid)):
        sigma, sigma_next = grid.sigmas[index : index + 2]
        down, up = ancestral_split(sigma, sigma_next)
        level = Level.of_sigma(sigma)
        latents = (
            LATENTS + (down - sigma) * level.epsilon(level.alpha * LATENTS, PREDICTION, kind) + up * NOISE
        )
        rows.append(Row(index - options.start, grid.timesteps[index], level, latents, draws=True))
    return Solution(rows, initial_sigma(settings, grid.sigmas), "exploding")


def ancestral_split(sigma: float, sigma_next: float) -> tuple[float, float]:
    """The sigma that an ancestral step goes down to, and that of the noise which brings it up to sigma_next."""
    down = sigma_next**2 / sigma
    return down, (sigma_next**2 - down**2) ** 0.5
