"""The algebra in which the solvers are written: a tensor is the vector of its weights in what a row can see.

A solver's formulas are evaluated on these vectors instead of on pictures, as they stand in the papers, and the
row of the table is what falls out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calotype.errors import RequestError
from calotype.schedule import Schedule

Vector = NDArray[np.float64]

_MEMORIES = 7
_BASIS: NDArray[np.float64] = np.eye(_MEMORIES + 3)
_BASIS.flags.writeable = False

LATENTS: Vector = _BASIS[0]
MEMORY: tuple[Vector, ...] = tuple(_BASIS[1:-2])
PREDICTION: Vector = _BASIS[-2]
NOISE: Vector = _BASIS[-1]


@dataclass(frozen=True, slots=True)
class Row:
    """One UNet evaluation: what the UNet is told, and what it leaves behind.

    `memory[k]` is found by the next row in `MEMORY[k]`; what a row does not hand on is forgotten.
    """

    step: int  # counted from 0 at the start of the schedule
    timestep: float
    sigma: float  # noise level as sqrt((1 - a) / a)
    add_noise: tuple[float, float]  # an image enters before this row as a * original + b * noise
    latents: Vector
    memory: Sequence[Vector] = ()
    scale: float = 1.0  # of the latents on their way into the UNet
    draws: bool = False


@dataclass(frozen=True, slots=True)
class Solution:
    """What a solver answers: its rows, and the standard deviation of the noise that it starts from."""

    rows: Sequence[Row]
    init_noise_sigma: float = 1.0


def recall(memory: Sequence[Vector]) -> tuple[Vector, ...]:
    """What a row has handed on, as the next row sees it."""
    return MEMORY[: len(memory)]


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
    read = np.zeros((len(rows), slots))
    write = np.zeros((len(rows), slots, slots + 2))
    columns = [*range(slots), -2, -1]  # the basis without the memories that the program has no slot for
    for index, row in enumerate(rows):
        read[index, 0] = row.scale
        for slot, vector in enumerate((row.latents, *row.memory)):
            write[index, slot] = vector[columns]
    if not (np.isfinite(read).all() and np.isfinite(write).all()):
        index = int(np.flatnonzero(~np.isfinite(write).all(axis=(1, 2)))[0])
        raise RequestError(
            f"{name} divides by zero in row {index} of {len(rows)} (timestep {rows[index].timestep:g}) with these settings",
            "a schedule with zero terminal SNR needs prediction_type v_prediction or sample; "
            "a solver of higher order needs lower_order_final or final_sigmas_type sigma_min",
        )
    return Schedule(
        name=name,
        timesteps=np.array([row.timestep for row in rows], dtype=np.float64),
        sigmas=np.array([row.sigma for row in rows], dtype=np.float64),
        read=read,
        write=write,
        draws=np.array([row.draws for row in rows], dtype=np.bool_),
        steps=np.array([row.step for row in rows], dtype=np.int64),
        init_noise_sigma=float(solution.init_noise_sigma),
        add_noise=rows[0].add_noise,
        blend=np.array([*(row.add_noise for row in rows[1:]), (1.0, 0.0)], dtype=np.float64),
    )
