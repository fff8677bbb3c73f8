"""What a call of the pipeline gives back."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from calotype.backends import Array, Program
from calotype.manifest import ProgramSpec


@dataclass(frozen=True, slots=True)
class Result:
    """Pictures, and how they came about.

    `images` is a list of PIL images, or an array (n, height, width, 3) in [0, 1] for `np`, or (n, C, H, W) for
    `latent`. `seeds` holds one seed a generator: one for the whole request, or one a picture where a list was
    given. `timings` are seconds by program, `runtime` (everything outside the programs) and `total`.
    `truncated` has, for each prompt, the text that fell off past the model's 77 tokens, and `negative_truncated` for
    each negative prompt that was given. `nsfw_content_detected`
    is None without a safety checker. `evaluations` counts rows of the schedule: UNet calls a picture.
    """

    images: Any
    seeds: tuple[int, ...]
    timings: Mapping[str, float]
    truncated: tuple[str, ...]
    negative_truncated: tuple[str, ...]
    nsfw_content_detected: list[bool] | None
    backend: str
    evaluations: int
    parameters: Mapping[str, Any]


class TimedProgram:
    """A program that adds up the seconds that it runs: those of a GPU count until a result is read."""

    def __init__(self, program: Program) -> None:
        self.spec: ProgramSpec = program.spec
        self.asynchronous: bool = program.asynchronous
        self.seconds = 0.0
        self._program = program

    def bind(self, inputs: Mapping[str, np.ndarray]) -> None:
        """See `Program.bind`."""
        self._program.bind(inputs)

    def carry(self, output: str, into: str) -> None:
        """See `Program.carry`."""
        self._program.carry(output, into)

    def put(self, name: str, row: int, value: np.ndarray) -> None:
        """See `Program.put`."""
        self._program.put(name, row, value)

    def get(self, name: str, row: int) -> Array:
        """See `Program.get`."""
        self.wait()
        return self._program.get(name, row)

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, Array]:
        """See `Program.run`."""
        with self._timed() if self.asynchronous else nullcontext():
            self._program.bind(inputs)
        with self._timed():
            return self._program.run({})

    def sweep(self, rows: Sequence[Mapping[str, np.ndarray]]) -> None:
        """See `Program.sweep`."""
        with self._timed():
            self._program.sweep(rows)

    def replace_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        """See `Program.replace_weights`."""
        self._program.replace_weights(weights)

    def wait(self) -> None:
        """See `Program.wait`."""
        with self._timed():
            self._program.wait()

    def close(self) -> None:
        """See `Program.close`."""
        self._program.close()

    @contextmanager
    def _timed(self) -> Generator[None]:
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - begun


def timings(programs: Sequence[TimedProgram], before: Mapping[str, float], total: float) -> dict[str, float]:
    """Seconds by program since `before`, what was spent outside of them, and `total`."""
    found = seconds(programs)
    spent = {name: found[name] - before[name] for name in found if found[name] > before[name]}
    return spent | {"runtime": total - sum(spent.values()), "total": total}


def seconds(programs: Sequence[TimedProgram]) -> dict[str, float]:
    """Seconds spent in each program so far; the step programs of all batch sizes count as one."""
    found: dict[str, float] = {}
    for program in programs:
        found[program.spec.name] = found.get(program.spec.name, 0.0) + program.seconds
    return found
