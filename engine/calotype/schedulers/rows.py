"""Rows, and how they become tables: in go a solver's rows, out comes the Schedule for a number of state slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from calotype.errors import RequestError
from calotype.schedule import Schedule
from calotype.schedulers.algebra import Vector
from calotype.schedulers.levels import SMALLEST_ALPHA, Level


@dataclass(frozen=True, slots=True)
class Row:
    """One UNet evaluation: what the UNet is told, and what it leaves behind.

    `memory[k]` is found by the next row in `MEMORY[k]`; what a row does not hand on is forgotten.
    """

    step: int  # counted from 0 at the start of the schedule
    timestep: float
    level: Level  # of the sample that the UNet sees
    latents: Vector
    memory: Sequence[Vector] = ()
    draws: bool = False
    entry: Level | None = None  # where add_noise takes an image before this row, if that is not `level`


@dataclass(frozen=True, slots=True)
class Solution:
    """What a solver answers: its rows, the noise that it starts from, and the scale that it keeps latents in.

    Preserved latents have unit variance, alpha * original + sigma * noise, and are what the UNet sees. Exploding
    latents are those divided by alpha, original + (sigma / alpha) * noise.
    """

    rows: Sequence[Row]
    init_noise_sigma: float = 1.0
    variance: Literal["preserved", "exploding"] = "preserved"

    def unit(self, level: Level) -> np.float64:
        """What latents of that level are multiplied by to have unit variance."""
        return level.alpha if self.variance == "exploding" else np.float64(1.0)

    def add_noise(self, row: Row) -> tuple[float, float]:
        """The weights of original and noise in the latents before a row."""
        level = row.entry or row.level
        return float(level.alpha / self.unit(level)), float(level.sigma / self.unit(level))


def assemble(name: str, solution: Solution, slots: int) -> Schedule:
    """Writes the rows into tables for `slots` state slots.

    Raises RequestError when the solver remembers more than fits, or when a number is not finite.
    """
    rows = solution.rows
    needed = 1 + max(len(row.memory) for row in rows)
    if needed > slots:
        raise RequestError(
            f"{name} with these settings needs {needed} state slots, the bundle has {slots}",
            "lower the solver's order, or build the bundle with more state slots",
        )
    write = np.zeros((len(rows), slots, slots + 2))
    columns = [*range(slots), -2, -1]  # the basis without the memories that the program has no slot for
    for index, row in enumerate(rows):
        for slot, vector in enumerate((row.latents, *row.memory)):
            write[index, slot] = vector[columns]
    _require_finite(name, solution, write)
    read = np.zeros((len(rows), slots))
    read[:, 0] = [solution.unit(row.level) for row in rows]
    mixes = [solution.add_noise(row) for row in rows]
    return Schedule(
        name=name,
        timesteps=np.array([row.timestep for row in rows], dtype=np.float64),
        sigmas=np.array([_plotted_sigma(row.level) for row in rows], dtype=np.float64),
        read=read,
        write=write,
        draws=np.array([row.draws for row in rows], dtype=np.bool_),
        steps=np.array([row.step for row in rows], dtype=np.int64),
        init_noise_sigma=float(solution.init_noise_sigma),
        add_noise=mixes[0],
        blend=np.array([*mixes[1:], (1.0, 0.0)], dtype=np.float64),
    )


def _plotted_sigma(level: Level) -> float:
    """The variance-exploding sigma, with the stand-in for a level without any signal."""
    return float(level.sigma / max(level.alpha, SMALLEST_ALPHA**0.5))


def _require_finite(name: str, solution: Solution, write: Vector) -> None:
    broken = ~np.isfinite(write).all(axis=(1, 2))
    if not broken.any():
        return
    index = int(broken.argmax())
    raise RequestError(
        f"{name} divides by zero in row {index} of {len(solution.rows)} with these settings "
        f"(timestep {solution.rows[index].timestep:g})",
        "use fewer steps; zero terminal SNR needs prediction_type v_prediction or sample; "
        "where the last row is named, set lower_order_final to true or final_sigmas_type to sigma_min",
    )
