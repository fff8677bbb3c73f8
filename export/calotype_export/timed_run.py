"""Runs of a program by itself, with their times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial

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
    """Seconds of `runs` runs of each of two programs (runs, 2), as `turns` makes them."""
    return turns(
        [partial(_seconds, program, inputs) for program, inputs in zip(programs, given, strict=True)], runs
    )


def turns(takes: Sequence[Callable[[], float]], runs: int) -> NDArray[np.float64]:
    """The seconds that each of `takes` tells of itself (runs, takes), in turn, after `WARM_UPS`.

    Each is the first of a turn as often as the others.
    """
    seconds = np.zeros((WARM_UPS + runs, len(takes)))
    for number, row in enumerate(seconds):
        for place in range(len(takes)):
            which = (place + number + 1) % len(takes)
            row[which] = takes[which]()
    return seconds[WARM_UPS:]


def wall_seconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _seconds(program: Program, inputs: Given) -> float:
    return run(program, inputs)[1]
