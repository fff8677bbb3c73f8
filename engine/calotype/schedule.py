"""A schedule: the table of numbers that turns N calls of the UNet into a solver.

Every solver in `schedulers` is an exact linear recurrence in the latents, a few remembered tensors, the
model's prediction and a noise draw. One row of the table is one call of the `unet_step` program.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScheduleOptions:
    """What a request says about its schedule.

    `start` counts steps, not rows, that are left out at the beginning (diffusers' `t_start`);
    `timesteps` and `sigmas` replace the computed ones where the scheduler takes them.
    """

    num_inference_steps: int = 50
    start: int = 0
    eta: float = 0.0
    timesteps: tuple[int, ...] | None = None
    sigmas: tuple[float, ...] | None = None

    @property
    def steps(self) -> int:
        """How many steps they amount to, before any is left out."""
        if self.timesteps is not None:
            return len(self.timesteps)
        if self.sigmas is not None:
            return len(self.sigmas) - 1  # the last one is where the last step ends
        return self.num_inference_steps


@dataclass(frozen=True, slots=True)
class Schedule:
    """N rows, one a UNet evaluation, for S state slots (slot 0 is the latents, the others start at zero).

    Row i does   sample = read[i] . state
                 state' = write[i] . [state, prediction, noise]       (S, S + 2)
    where `prediction` is the UNet's output as it is (epsilon, v or sample) after guidance.
    All numbers are float64; they are cast to float32 once, on their way into the program.
    """

    name: str  # diffusers' class name
    timesteps: Table  # (N,) what the UNet is told; may be fractional
    sigmas: Table  # (N,) noise level of each row as sigma = sqrt((1 - a) / a), for plots and tables
    read: Table  # (N, S)
    write: Table  # (N, S, S + 2): columns are the S slots, the prediction, the noise
    draws: NDArray[
        np.bool_
    ]  # (N,) rows that take a draw from the request's generator, even if its weight is 0
    steps: NDArray[np.int64]  # (N,) index of the step that the row belongs to (two rows a step in Heun, DPM2)
    init_noise_sigma: float  # from pure noise: latents = noise * init_noise_sigma
    add_noise: tuple[float, float]  # from an image, at row 0: latents = a * original + b * noise
    blend: Table  # (N, 2) after row i, the part to keep is a * original + b * noise; (1, 0) after the last

    def __len__(self) -> int:
        return len(self.timesteps)
