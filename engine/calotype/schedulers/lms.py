"""Linear multistep of order 4 on sigmas, after Katherine Crowson's k-diffusion; diffusers LMSDiscreteScheduler."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calotype.schedule import ScheduleOptions, Table
from calotype.schedulers.algebra import LATENTS, PREDICTION, Vector, combine, recall
from calotype.schedulers.levels import PREDICTION_TYPES, Betas, Level, train_alphas
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings
from calotype.schedulers.spacing import exploding_grid, initial_sigma, sigma_rule

ORDER = 4
GAUSS_POINTS = (-(3**-0.5), 3**-0.5)


def lms(settings: Settings, options: ScheduleOptions) -> Solution:
    """The polynomial through the last derivatives, integrated exactly.

    A late start has weights for derivatives that it never saw; diffusers drops those terms, and so does this.
    """
    kind = settings.choice("prediction_type", "epsilon", PREDICTION_TYPES)
    rule = sigma_rule(settings)
    if rule.name == "karras":  # the one class that does not look at sigma_min and sigma_max there
        rule = replace(rule, lowest=None, highest=None)
    grid = exploding_grid(settings, options, train_alphas(settings, Betas()), rule)
    rows: list[Row] = []
    derivatives: tuple[Vector, ...] = ()  # newest first
    for index in range(options.start, len(grid)):
        level = Level.of_sigma(grid.sigmas[index])
        derivatives = (level.epsilon(level.alpha * LATENTS, PREDICTION, kind), *derivatives)
        latents = LATENTS + combine(_weights(grid.sigmas, index, min(index + 1, ORDER)), derivatives)
        memory = derivatives[: ORDER - 1]
        rows.append(Row(index - options.start, grid.timesteps[index], level, latents, memory))
        derivatives = recall(memory)
    return Solution(rows, initial_sigma(settings, grid.sigmas), "exploding")


def _weights(sigmas: Table, index: int, order: int) -> list[float]:
    """The integrals from sigmas[index] to sigmas[index + 1] of the Lagrange basis on the last `order` sigmas.

    Gauss-Legendre quadrature with two points is exact for polynomials of degree 3.
    """
    nodes = sigmas[index - order + 1 : index + 1][::-1]
    half = (sigmas[index + 1] - sigmas[index]) / 2
    weights: list[float] = []
    for k, node in enumerate(nodes):
        others = np.delete(nodes, k)
        basis = [
            np.prod((sigmas[index] + half * (1 + point) - others) / (node - others)) for point in GAUSS_POINTS
        ]
        weights.append(half * float(sum(basis)))
    return weights
