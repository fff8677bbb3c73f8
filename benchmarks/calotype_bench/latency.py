"""Latency of a bundle beside its peers: every engine in a process of its own, all of them drawing in turn."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calotype_bench.conversation import PeerError, Worker
from calotype_bench.jobs import Drawn, Engine, Job, Ready
from calotype_bench.statistics import Ratio, Summary, ratio, summarise

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One engine's samples, in the order in which they were taken; or why there are none."""

    engine: Engine
    ready: Ready | None
    first: Drawn | None  # the warm-up, which is what a user waits for after loading
    samples: tuple[Drawn, ...]
    failure: str = ""
    distance: float | None = None  # relative L2 of the latents from the first row's

    @property
    def seconds(self) -> list[float]:
        """Wall seconds of the samples."""
        return [sample.seconds for sample in self.samples]

    def summary(self) -> Summary:
        """Of the whole picture."""
        return summarise(self.seconds)

    def part(self, name: str) -> Summary | None:
        """Of one program, or of `runtime`; None where the engine did not tell."""
        found = [sample.parts[name] for sample in self.samples if name in sample.parts]
        return summarise(found) if found else None


def measure(engines: Sequence[Engine], job: Job, runs: int, progress: Progress) -> list[Row]:
    """Draw `runs` times with every engine in turn (A B A B), after one picture of each that is not counted.

    An engine that cannot be loaded, or fails, is a row that says why. The first engine is what ratios are of.
    """
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="calotype-bench-") as folder:
        workers: dict[int, Worker] = {}
        first: dict[int, Drawn] = {}
        failures: dict[int, str] = {}
        samples: dict[int, list[Drawn]] = {index: [] for index in range(len(engines))}
        for index, engine in enumerate(engines):
            progress(index, len(engines) + runs * len(engines))
            try:
                workers[index] = stack.enter_context(Worker(engine))
                first[index] = workers[index].draw(job, str(Path(folder) / f"{index}.npy"))
            except PeerError as error:
                failures[index] = str(error)
        for run in range(runs):
            for index in [each for each in workers if each not in failures]:
                progress(len(engines) * (run + 1) + index, len(engines) * (runs + 1))
                try:
                    samples[index].append(workers[index].draw(job))
                except PeerError as error:
                    failures[index] = str(error)
        progress(1, 1)
        return [
            Row(
                engine,
                workers[index].ready if index in workers else None,
                dataclasses.replace(first[index], latents="") if index in first else None,
                tuple(samples[index]),
                failures.get(index, ""),
                _distance(first.get(0), first.get(index)),
            )
            for index, engine in enumerate(engines)
        ]


def compare(rows: Sequence[Row]) -> dict[int, Ratio]:
    """How many times as long every other engine takes as the first one, by the row's number."""
    reference = rows[0].seconds
    pairs = {index: min(len(row.seconds), len(reference)) for index, row in enumerate(rows) if index}
    return {
        index: ratio(rows[index].seconds[:count], reference[:count])
        for index, count in pairs.items()
        if count
    }


def _distance(reference: Drawn | None, found: Drawn | None) -> float | None:
    """Relative L2 between the latents that two engines left."""
    if reference is None or found is None:
        return None
    expected, actual = (np.load(drawn.latents).astype(np.float64) for drawn in (reference, found))
    return float(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
