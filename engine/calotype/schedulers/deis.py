"""DEIS: Zhang and Chen, Fast Sampling of Diffusion Models with Exponential Integrator (2204.13902), log-rho
Adams-Bashforth; diffusers DEISMultistepScheduler."""

from __future__ import annotations

import numpy as np

from calotype.schedule import ScheduleOptions, Table
from calotype.schedulers.algebra import LATENTS, PREDICTION, Vector, combine, recall
from calotype.schedulers.exponential import FEW_STEPS, order_of
from calotype.schedulers.levels import PREDICTION_TYPES, Betas, Level, train_alphas, train_steps
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings, refuse_flow, refuse_thresholding
from calotype.schedulers.spacing import Grid, inner_timesteps, preserved_grid, sigma_rule


def deis(settings: Settings, options: ScheduleOptions) -> Solution:
    """Integrates over rho = sigma / alpha the polynomial in log rho through the last outputs, order 1 to 3."""
    refuse_thresholding(settings)
    refuse_flow(settings)
    settings.choice("algorithm_type", "deis", ("deis", "dpmsolver", "dpmsolver++"))
    settings.choice("solver_type", "logrho", ("logrho", "midpoint", "heun", "bh1", "bh2"))
    kind = settings.choice("prediction_type", "epsilon", PREDICTION_TYPES)
    order, grid = order_of(settings), _grid(settings, options)
    few = settings.flag("lower_order_final", True) and len(grid) < FEW_STEPS
    rows: list[Row] = []
    outputs: tuple[Vector, ...] = ()  # newest first
    for index in range(options.start, len(grid)):
        level, level_next = Level.of_sigma(grid.sigmas[index]), Level.of_sigma(grid.sigmas[index + 1])
        outputs = (level.epsilon(LATENTS, PREDICTION, kind), *outputs)
        this_order = min(order, len(outputs), len(grid) - index if few else order)
        weights = _weights(grid.sigmas[index + 1 - this_order : index + 1][::-1], grid.sigmas[index + 1])
        latents = level_next.alpha * (LATENTS / level.alpha + combine(weights, outputs))
        memory = outputs[: order - 1]
        rows.append(Row(index - options.start, grid.timesteps[index], level, latents, memory))
        outputs = recall(memory)
    return Solution(rows)


def _weights(rhos: Table, end: float) -> list[float]:
    """The integrals from rhos[0] to `end` of the Lagrange basis in log rho on `rhos`, which are newest first."""
    logs = np.log(rhos)
    weights: list[float] = []
    for k, log in enumerate(logs):
        others = np.delete(logs, k)
        integral = _antiderivative(end, others) - _antiderivative(rhos[0], others)
        weights.append(float(integral / np.prod(log - others)))
    return weights


def _antiderivative(rho: float, roots: Table) -> float:
    """Of the product of (log rho - root) over at most two roots."""
    log = np.log(rho)
    if len(roots) == 0:
        return rho
    if len(roots) == 1:
        return rho * (log - roots[0] - 1)
    return rho * ((log - roots[0]) * (log - roots[1]) - (2 * log - roots.sum()) + 2)


def _grid(settings: Settings, options: ScheduleOptions) -> Grid:
    """After a sigma rule the last step goes nowhere: diffusers repeats the last sigma."""
    alphas, rule = train_alphas(settings, Betas()), sigma_rule(settings)
    timesteps = inner_timesteps(settings, options.num_inference_steps, train_steps(settings))
    grid = preserved_grid(timesteps, alphas, rule, options.num_inference_steps)
    whole = np.round if rule.name == "karras" else np.trunc
    last = grid.sigmas[-1 if rule.name == "none" else -2]
    return Grid(whole(grid.timesteps), np.append(grid.sigmas[:-1], last))
