"""One run of a program by itself, with its time."""

from __future__ import annotations

import time
from collections.abc import Mapping

from calotype.backends import Array, Program

WARM_UPS = 2  # on a GPU the second run is recorded, and launched from then on
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
