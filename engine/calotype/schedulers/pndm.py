"""PLMS: Liu et al., Pseudo Numerical Methods for Diffusion Models (2202.09778); diffusers PNDMScheduler.

With skip_prk_steps, as Stable Diffusion uses it: the first step is taken twice, Adams-Bashforth follows.
"""

from __future__ import annotations

import numpy as np

from calotype.errors import RequestError
from calotype.schedule import ScheduleOptions
from calotype.schedulers.algebra import LATENTS, PREDICTION, Vector, combine, recall
from calotype.schedulers.levels import Betas, Level, train_alphas, train_levels, train_steps
from calotype.schedulers.rows import Row, Solution
from calotype.schedulers.settings import Settings
from calotype.schedulers.spacing import spaced_timesteps

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def pndm(settings: Settings, options: ScheduleOptions) -> Solution:
    """Remembers three predictions, and for one row the latents of the first. N steps are N + 1 rows.

    A late start cuts those rows and not the steps, as in diffusers.
    """
    if not settings.flag("skip_prk_steps", False):
        raise RequestError(
            "PNDMScheduler with skip_prk_steps = false is not offered: its Runge-Kutta steps need 6 state slots",
            "the scheduler `pndm` skips them, as Stable Diffusion does",
        )
    kind = settings.choice("prediction_type", "epsilon", ("epsilon", "v_prediction"))
    levels = train_levels(settings, train_alphas(settings, Betas()), set_alpha_to_one=False)
    stride = train_steps(settings) // options.num_inference_steps
    timesteps = np.round(spaced_timesteps(settings, options.num_inference_steps, "leading")).astype(int)
    visited = np.concatenate([timesteps[:2], timesteps[1:]])[options.start :]  # the second one twice
    rows: list[Row] = []
    predictions: tuple[Vector, ...] = ()  # newest first
    first: Vector = LATENTS
    for index, t in enumerate(visited):
        if index == 1:  # the first step again, with the mean of the predictions at both of its ends
            now, then, sample = levels.at(t + stride), levels.at_or_final(t), first
            combined = combine((1 / 2, 1 / 2), (PREDICTION, *predictions))
        else:
            now, then, sample = levels.at(t), levels.at_or_final(t - stride), LATENTS
            predictions = (PREDICTION, *predictions)
            combined = combine(ADAMS_BASHFORTH[len(predictions) - 1], predictions)
        latents = _transfer(now, then, sample, now.epsilon(sample, combined, kind))
        memory = (*predictions, LATENTS) if index == 0 else predictions[:3]
        rows.append(Row(max(index - 1, 0), t, levels.at(t), latents, memory))
        predictions = recall(memory)
        if index == 0:
            predictions, first = predictions[:1], predictions[1]
    return Solution(rows)


def _transfer(now: Level, then: Level, sample: Vector, epsilon: Vector) -> Vector:
    """The transfer part: DDIM's step, as the paper writes it."""
    denominator = now.alpha * (now.alpha * then.sigma + now.sigma * then.alpha)
    return then.alpha / now.alpha * sample - (then.alpha**2 - now.alpha**2) / denominator * epsilon
