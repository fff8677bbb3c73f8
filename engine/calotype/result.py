"""What a call of the pipeline gives back."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from calotype.backends import Array, Program, Row, Value
from calotype.manifest import ProgramSpec


@dataclass(frozen=True, slots=True)
class Result:
    """Pictures, and how they came about.

    `images` is a list of PIL images, or an array (n, height, width, 3) in [0, 1] for `np`, or (n, C, H, W) for
    `latent`; `latents` (n, C, H, W), float32, are there always, as `Pipeline.decode_latents` takes them. `seeds` holds
    one seed a generator: one for the whole request, or one a picture where a list was given. `timings` are seconds by
    program (on a GPU by its own clock), `runtime` (everything outside the programs) and `total`; `device_timings` are
    those of a GPU alone, and empty without one.
    `truncated` has, for each prompt, the text that fell off past the model's 77 tokens, and `negative_truncated` for
    each negative prompt that was given. `nsfw_content_detected`
    is None without a safety checker. `evaluations` counts rows of the schedule: UNet calls a picture.
    """

    images: Any
    latents: Array
    seeds: tuple[int, ...]
    timings: Mapping[str, float]
    device_timings: Mapping[str, float]
    truncated: tuple[str, ...]
    negative_truncated: tuple[str, ...]
    nsfw_content_detected: list[bool] | None
    backend: str
    evaluations: int
    parameters: Mapping[str, Any]


class TimedProgram:
    """A program that adds up the seconds that it runs: on a GPU by the GPU's clock, since nobody waits for it."""

    def __init__(self, program: Program) -> None:
        self.spec: ProgramSpec = program.spec
        self.asynchronous: bool = program.asynchronous
        self._seconds = 0.0
        self._program = program

    @property
    def seconds(self) -> float:
        """So far."""
        return self._program.device_seconds if self.asynchronous else self._seconds

    @property
    def device_seconds(self) -> float:
        """See `Program.device_seconds`."""
        return self._program.device_seconds

    def bind(self, inputs: Mapping[str, Value]) -> None:
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
        return self._program.get(name, row)

    def keep(self, name: str, *index: int) -> Row:
        """See `Program.keep`."""
        return self._program.keep(name, *index)

    def launch(self, inputs: Mapping[str, Value]) -> None:
        """See `Program.launch`."""
        self._program.bind(inputs)
        with self._timed():
            self._program.launch({})

    def run(self, inputs: Mapping[str, Value]) -> Mapping[str, Array]:
        """See `Program.run`."""
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
            self._seconds += time.perf_counter() - begun


class Meter:
    """What programs spend from now on."""

    def __init__(self, programs: Sequence[TimedProgram]) -> None:
        self._programs = programs
        self._before = [(program.seconds, program.device_seconds) for program in programs]
        self._begun = time.perf_counter()

    def timings(self) -> dict[str, float]:
        """Seconds by program, what was spent outside of them as `runtime`, and `total`."""
        total = time.perf_counter() - self._begun
        spent = self._sum([program.seconds - before for program, (before, _) in self._pairs()])
        return spent | {"runtime": total - sum(spent.values()), "total": total}

    def device_timings(self) -> dict[str, float]:
        """Seconds by program of the GPU's own clock; empty without one."""
        return self._sum([program.device_seconds - before for program, (_, before) in self._pairs()])

    def _pairs(self) -> Iterable[tuple[TimedProgram, tuple[float, float]]]:
        return zip(self._programs, self._before, strict=True)

    def _sum(self, spent: Sequence[float]) -> dict[str, float]:
        """By name: the step programs of all batch sizes count as one. What did not run is left out."""
        found: dict[str, float] = {}
        for program, seconds in zip(self._programs, spent, strict=True):
            if seconds > 0:
                found[program.spec.name] = found.get(program.spec.name, 0.0) + seconds
        return found
