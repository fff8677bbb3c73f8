"""Runs of a program by itself, with their times."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from calotype.backends import Array, Program

WARM_UPS = 2  # on a GPU a graph is recorded in the first run or the second, and launched from then on
Given = Mapping[str, Array]


def run(program: Program, given: Given) -> tuple[dict[str, Array], float]:
    """The outputs, and the seconds by the GPU's own clock where there is one.

    `given` are the inputs, and may have more than `program` takes.
    """
    program.bind({tensor.name: given[tensor.name] for tensor in program.spec.inputs})
    begun, before = time.perf_counter(), program.device_seconds
    outputs = program.run({})
    program.wait()
    seconds = time.perf_counter() - begun
    return {name: value.copy() for name, value in outputs.items()}, program.device_seconds - before or seconds


def in_turn(programs: tuple[Program, Program], given: tuple[Given, Given], runs: int) -> NDArray[np.float64]:
    """Seconds of `runs` runs of each of two programs (runs, 2), in turn, after `WARM_UPS`; each is first in half."""
    seconds = np.zeros((WARM_UPS + runs, 2))
    for number, row in enumerate(seconds):
        for which in (0, 1) if number % 2 else (1, 0):
            row[which] = run(programs[which], given[which])[1]
    return seconds[WARM_UPS:]
