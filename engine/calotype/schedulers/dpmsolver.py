"""DPM-Solver and DPM-Solver++, multistep: Lu et al. (2206.00927, 2211.01095);
diffusers DPMSolverMultistepScheduler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calotype.errors import RequestError
from calotype.schedule import ScheduleOptions
from calotype.schedulers.algebra import LATENTS, NOISE, Vector, recall
from calotype.schedulers.exponential import (
    ALGORITHMS,
    FEW_STEPS,
    Interval,
    algorithm_of,
    clipped_levels,
    converted,
    final_sigma_of,
    order_of,
    solver_type_of,
)
from calotype.schedulers.levels import (
    PREDICTION_TYPES,
    Betas,
    Level,
    train_alphas_with_rescaling,
    train_steps,
    with_finite_sigmas,
)
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings, refuse_flow, refuse_thresholding
from calotype.schedulers.spacing import (
    Grid,
    SigmaRule,
    custom_timesteps,
    inner_timesteps,
    preserved_grid,
    sigma_rule,
)


def dpmsolver_multistep(settings: Settings, options: ScheduleOptions) -> Solution:
    """Order 1 to 3 from the converted outputs of as many rows; the first rows, and the last, have a lower order."""
    refuse_thresholding(settings)
    refuse_flow(settings)
    algorithm = algorithm_of(settings, ALGORITHMS)
    kind = settings.choice("prediction_type", "epsilon", PREDICTION_TYPES)
    solver_type, order = solver_type_of(settings), order_of(settings)
    if algorithm == "sde-dpmsolver" and order == 3:
        raise RequestError(
            "DPMSolverMultistepScheduler: there is no sde-dpmsolver of solver_order 3",
            "set solver_order to 2, or algorithm_type to sde-dpmsolver++",
        )
    grid = _grid(settings, options)
    orders = _orders(settings, order, len(grid))
    levels = [Level.of_sigma(sigma) for sigma in grid.sigmas]
    rows: list[Row] = []
    outputs: tuple[Vector, ...] = ()  # newest first
    for index in range(options.start, len(grid)):
        outputs = (converted(levels[index], algorithm, kind), *outputs)
        interval = Interval(levels[index + 1], levels[index], algorithm)
        known = list(zip(levels[index::-1], outputs[: orders[index]], strict=False))
        latents = interval.carry * LATENTS + _terms(interval, known, solver_type) + interval.spread * NOISE
        memory = outputs[: order - 1]
        draws = algorithm.startswith("sde")
        rows.append(Row(index - options.start, grid.timesteps[index], levels[index], latents, memory, draws))
        outputs = recall(memory)
    return Solution(rows)


def _terms(interval: Interval, known: Sequence[tuple[Level, Vector]], solver_type: str) -> Vector:
    """The weighted differences of one to three outputs, newest first (2211.01095, algorithm 2; diffusers' order 3)."""
    lambdas = [level.log_snr for level, _ in known]
    outputs = [output for _, output in known]
    if len(known) == 1:
        return interval.constant * outputs[0]
    r0 = (lambdas[0] - lambdas[1]) / interval.length
    slope = (outputs[0] - outputs[1]) / r0
    if len(known) == 2:
        weight = interval.midpoint if solver_type == "midpoint" else interval.linear
        return interval.constant * outputs[0] + weight * slope
    r1 = (lambdas[1] - lambdas[2]) / interval.length
    curve = (slope - (outputs[1] - outputs[2]) / r1) / (r0 + r1)
    return (
        interval.constant * outputs[0] + interval.linear * (slope + r0 * curve) + interval.quadratic * curve
    )


def _orders(settings: Settings, order: int, steps: int) -> list[int]:
    """The highest order that each step may have."""
    few = settings.flag("lower_order_final", True) and steps < FEW_STEPS
    last = few or settings.flag("euler_at_final", False) or final_sigma_of(settings) == "zero"
    orders = [order] * steps
    if few:
        orders[-2:] = [min(order, 2)] * len(orders[-2:])
    if last:
        orders[-1] = 1
    return orders


def _grid(settings: Settings, options: ScheduleOptions) -> Grid:
    """Karras sigmas and Lu's uniform lambdas have rounded timesteps, those of other rules are cut."""
    alphas, rule = (
        with_finite_sigmas(settings, train_alphas_with_rescaling(settings, Betas())),
        _rule(settings),
    )
    timesteps = custom_timesteps(settings, options, rule)
    if timesteps is None:
        last = train_steps(settings) - clipped_levels(settings, alphas)
        timesteps = inner_timesteps(settings, options.num_inference_steps, last)
    grid = preserved_grid(timesteps, alphas, rule, options.num_inference_steps)
    rounds = rule.name in ("karras", "lu") and settings.values.get("beta_schedule") != "squaredcos_cap_v2"
    whole = np.round if rounds else np.trunc
    last_sigma = 0.0 if final_sigma_of(settings) == "zero" else grid.sigmas[-1]
    return Grid(whole(grid.timesteps), np.append(grid.sigmas[:-1], last_sigma))


def _rule(settings: Settings) -> SigmaRule:
    rule = sigma_rule(settings)
    if rule.name != "karras" and settings.flag("use_lu_lambdas", False):
        return SigmaRule("lu", None, None)
    return rule
