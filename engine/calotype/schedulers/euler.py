"""Euler's method: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2206.00364),
without churn; diffusers EulerDiscreteScheduler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calotype.schedule import ScheduleOptions, Table
from calotype.schedulers.algebra import LATENTS, PREDICTION
from calotype.schedulers.levels import (
    PREDICTION_TYPES,
    Betas,
    Float32,
    Level,
    as_float32,
    linspace_float32,
    train_alphas_with_rescaling,
    train_sigmas,
    with_finite_sigmas,
)
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings
from calotype.schedulers.spacing import Grid, exploding_grid, initial_sigma, sigma_rule, timesteps_of


def euler(settings: Settings, options: ScheduleOptions) -> Solution:
    """One first-order step down the sigmas a row."""
    kind = settings.choice("prediction_type", "epsilon", (*PREDICTION_TYPES, "original_sample"))
    grid = _grid(settings, options)
    rows: list[Row] = []
    for index in range(options.start, len(grid)):
        sigma, sigma_next = grid.sigmas[index : index + 2]
        level = Level.of_sigma(sigma)
        latents = LATENTS + (sigma_next - sigma) * level.epsilon(level.alpha * LATENTS, PREDICTION, kind)
        rows.append(Row(index - options.start, grid.timesteps[index], level, latents))
    return Solution(rows, initial_sigma(settings, grid.sigmas), "exploding")


def _grid(settings: Settings, options: ScheduleOptions) -> Grid:
    """The k-diffusion grid with the choices that only EulerDiscreteScheduler has."""
    alphas = with_finite_sigmas(settings, train_alphas_with_rescaling(settings, Betas()))
    train = train_sigmas(alphas)
    interpolation = settings.choice("interpolation_type", "linear", ("linear", "log_linear"))
    final = settings.choice("final_sigmas_type", "zero", ("zero", "sigma_min"))
    if options.sigmas is not None:
        sigmas = as_float32(np.array(options.sigmas))
        return _retimed(settings, Grid(timesteps_of(sigmas[:-1], np.log(train)), sigmas))
    grid = exploding_grid(settings, options, alphas, sigma_rule(settings))
    if interpolation == "log_linear":
        grid = _log_linear(settings, grid, train)
    if final == "sigma_min":
        grid = replace(grid, sigmas=np.append(grid.sigmas[:-1], np.float64(train[0])))
    return _retimed(settings, grid)


def _log_linear(settings: Settings, grid: Grid, train: Float32) -> Grid:
    """The sigmas in equal steps of their logarithm, with one more than there are timesteps."""
    spaced = np.exp(linspace_float32(np.log(train[-1]), np.log(train[0]), len(grid) + 1))
    rule = sigma_rule(settings)
    if rule.name == "none":
        return replace(grid, sigmas=np.append(spaced.astype(np.float64), 0.0))
    sigmas = rule(spaced, len(grid))
    return Grid(timesteps_of(sigmas, np.log(train)), as_float32(np.append(sigmas, 0.0)))


def _retimed(settings: Settings, grid: Grid) -> Grid:
    """What the UNet is told: the timesteps in float32, or log(sigma) / 4 for a continuous-time v model."""
    timestep_type = settings.choice("timestep_type", "discrete", ("discrete", "continuous"))
    timesteps: Table = grid.timesteps
    if timestep_type == "continuous" and settings.values.get("prediction_type") == "v_prediction":
        timesteps = 0.25 * np.log(grid.sigmas[: len(grid)])
    return replace(grid, timesteps=as_float32(timesteps))
