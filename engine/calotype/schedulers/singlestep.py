"""DPM-Solver and DPM-Solver++, single-step: Lu et al. (2206.00927, 2211.01095);
diffusers DPMSolverSinglestepScheduler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calotype.schedule import ScheduleOptions
from calotype.schedulers.algebra import LATENTS, NOISE, Vector, recall
from calotype.schedulers.exponential import (
    ALGORITHMS,
    Interval,
    algorithm_of,
    clipped_levels,
    converted,
    final_sigma_of,
    order_of,
    solver_type_of,
)
from calotype.schedulers.levels import PREDICTION_TYPES, Betas, Level, train_alphas, train_steps
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings, refuse_flow, refuse_thresholding
from calotype.schedulers.spacing import Grid, custom_timesteps, preserved_grid, sigma_rule


def dpmsolver_singlestep(settings: Settings, options: ScheduleOptions) -> Solution:
    """Rows of order 1, 2, 3, 1, ...: each goes on from the latents before the last row of order 1."""
    refuse_thresholding(settings)
    refuse_flow(settings)
    algorithm = algorithm_of(settings, [name for name in ALGORITHMS if name != "sde-dpmsolver"])
    kind = settings.choice("prediction_type", "epsilon", PREDICTION_TYPES)
    solver_type, highest = solver_type_of(settings), order_of(settings)
    grid = _grid(settings, options)
    orders = _orders(settings, highest, len(grid))
    levels = [Level.of_sigma(sigma) for sigma in grid.sigmas]
    rows: list[Row] = []
    outputs: tuple[Vector, ...] = ()  # newest first
    base: Vector = LATENTS
    for index in range(options.start, len(grid)):
        outputs = (converted(levels[index], algorithm, kind), *outputs)
        known = list(zip(levels[index::-1], outputs[: orders[index]], strict=False))
        base = LATENTS if len(known) == 1 else base
        interval = Interval(levels[index + 1], known[-1][0], algorithm)
        latents = interval.carry * base + _terms(interval, known, solver_type) + interval.spread * NOISE
        memory = (base, *outputs[: highest - 1])
        draws = algorithm.startswith("sde")
        rows.append(Row(index - options.start, grid.timesteps[index], levels[index], latents, memory, draws))
        base, outputs = recall(memory)[0], recall(memory)[1:]
    return Solution(rows)


def _terms(interval: Interval, known: Sequence[tuple[Level, Vector]], solver_type: str) -> Vector:
    """The weighted differences to the oldest output, where the interval starts (2206.00927, algorithms 1 and 2)."""
    oldest = known[-1][1]
    ratios = [(level.log_snr - interval.start.log_snr) / interval.length for level, _ in known[:-1]]
    slopes = [(output - oldest) / ratio for ratio, (_, output) in zip(ratios, known, strict=False)]
    if not slopes:
        return interval.constant * oldest
    if len(slopes) == 1:
        weight = interval.midpoint if solver_type == "midpoint" else interval.linear
        return interval.constant * oldest + weight * slopes[0]
    if solver_type == "midpoint":
        return interval.constant * oldest + interval.linear * slopes[0]
    (r0, r1), (new, old) = ratios, slopes
    slope, curve = (r0 * old - r1 * new) / (r0 - r1), 2 * (new - old) / (r0 - r1)
    return interval.constant * oldest + interval.linear * slope + interval.quadratic * curve


def _orders(settings: Settings, highest: int, steps: int) -> list[int]:
    """The order of each step; steps that do not divide evenly, or end at sigma zero, end with lower orders."""
    to_zero = final_sigma_of(settings) == "zero"
    lower_final = settings.flag("lower_order_final", False) or to_zero
    orders = [1 + index % highest for index in range(steps)]
    if lower_final and highest > 1 and steps % highest == 0:
        orders[-2:] = [highest - 1, 1]
    if to_zero:
        orders[-1] = 1
    return orders


def _grid(settings: Settings, options: ScheduleOptions) -> Grid:
    """This class knows no timestep_spacing."""
    alphas, rule = train_alphas(settings, Betas()), sigma_rule(settings)
    timesteps = custom_timesteps(settings, options, rule)
    if timesteps is None:
        highest = train_steps(settings) - 1 - clipped_levels(settings, alphas)
        timesteps = np.linspace(0, highest, options.num_inference_steps + 1).round()[::-1][:-1]
    grid = preserved_grid(timesteps, alphas, rule, options.num_inference_steps)
    whole = np.round if rule.name == "karras" else np.trunc
    last = 0.0 if final_sigma_of(settings) == "zero" else grid.sigmas[-1]
    return Grid(whole(grid.timesteps), np.append(grid.sigmas[:-1], last))
