"""UniPC: Zhao et al., A Unified Predictor-Corrector Framework for Fast Sampling (2302.04867);
diffusers UniPCMultistepScheduler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calotype.schedule import ScheduleOptions, Table
from calotype.schedulers.algebra import LATENTS, Vector, combine, recall
from calotype.schedulers.exponential import Interval, converted, final_sigma_of, order_of
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
from calotype.schedulers.spacing import Grid, inner_timesteps, preserved_grid, sigma_rule


def unipc(settings: Settings, options: ScheduleOptions) -> Solution:
    """A row corrects the latents with the output just found, and predicts the next from the corrected ones."""
    refuse_thresholding(settings)
    refuse_flow(settings)
    if settings.values.get("solver_p") is not None:
        raise settings.wrong("solver_p", "null: another scheduler as predictor is not offered")
    algorithm = "dpmsolver++" if settings.flag("predict_x0", True) else "dpmsolver"
    kind = settings.choice("prediction_type", "epsilon", PREDICTION_TYPES)
    solver_type = settings.choice("solver_type", "bh2", ("bh1", "bh2", "midpoint", "heun", "logrho"))
    order, uncorrected = order_of(settings), settings.integers("disable_corrector")
    lower_final = settings.flag("lower_order_final", True)
    grid = _grid(settings, options)
    levels = [Level.of_sigma(sigma) for sigma in grid.sigmas]
    rows: list[Row] = []
    outputs: tuple[Vector, ...] = ()  # newest first
    before, this_order = LATENTS, 0
    for index in range(options.start, len(grid)):
        output, sample = converted(levels[index], algorithm, kind), LATENTS
        if outputs and index - 1 not in uncorrected:
            known = [(levels[index - 1 - k], outputs[k]) for k in range(1, this_order)]
            arrived = Interval(levels[index], levels[index - 1], algorithm)
            sample = _update(arrived, before, outputs[0], [*known, (levels[index], output)], solver_type)
        outputs = (output, *outputs)
        this_order = min(order, len(outputs), len(grid) - index if lower_final else order)
        known = [(levels[index - k], outputs[k]) for k in range(1, this_order)]
        ahead = Interval(levels[index + 1], levels[index], algorithm)
        latents = _update(ahead, sample, output, known, solver_type)
        memory = (sample, *outputs[:order])
        rows.append(Row(index - options.start, grid.timesteps[index], levels[index], latents, memory))
        before, outputs = recall(memory)[0], recall(memory)[1:]
    return Solution(rows)


def _update(
    interval: Interval,
    sample: Vector,
    newest: Vector,
    known: Sequence[tuple[Level, Vector]],
    solver_type: str,
) -> Vector:
    """UniP, or UniC where the output at the interval's end is among the known ones (section 3)."""
    ratios = np.array([(level.log_snr - interval.start.log_snr) / interval.length for level, _ in known])
    differences = [(output - newest) / ratio for ratio, (_, output) in zip(ratios, known, strict=True)]
    exact = interval.carry * sample + interval.constant * newest
    scale = interval.exponent if solver_type == "bh1" else np.expm1(interval.exponent)  # B(h)
    return exact - interval.scale * scale * combine(_weights(ratios, interval.exponent, scale), differences)


def _weights(ratios: Table, exponent: np.float64, scale: np.float64) -> Sequence[float]:
    """a of R a B(h) = phi (theorem 3.1); of one output one half, to the same order."""
    if len(ratios) < 2:
        return (0.5,) * len(ratios)
    phi, factorial, right = np.expm1(exponent) / exponent - 1, 1, list[np.float64]()
    for power in range(1, len(ratios) + 1):
        right.append(phi * factorial / scale)
        factorial *= power + 1
        phi = phi / exponent - 1 / factorial
    powers = ratios ** np.arange(len(ratios))[:, np.newaxis]
    return np.linalg.solve(powers, np.array(right)).tolist()


def _grid(settings: Settings, options: ScheduleOptions) -> Grid:
    """After a sigma rule sigma_min is the lowest sigma of the rule."""
    alphas = with_finite_sigmas(settings, train_alphas_with_rescaling(settings, Betas()))
    rule = sigma_rule(settings)
    timesteps = inner_timesteps(settings, options.num_inference_steps, train_steps(settings))
    grid = preserved_grid(timesteps, alphas, rule, options.num_inference_steps)
    whole = np.round if rule.name == "karras" else np.trunc
    last = 0.0 if final_sigma_of(settings) == "zero" else grid.sigmas[-1 if rule.name == "none" else -2]
    return Grid(whole(grid.timesteps), np.append(grid.sigmas[:-1], last))
