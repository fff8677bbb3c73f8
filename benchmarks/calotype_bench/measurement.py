"""What was measured of one job: a row for each engine, with its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calotype_bench.fidelity import Fidelity
from calotype_bench.jobs import Drawn, Engine, Job, Ready
from calotype_bench.statistics import Ratio, Summary, ratio, summarise


@dataclass(frozen=True, slots=True)
class Row:
    """One engine's samples, in the order in which they were taken; or why there are none."""

    engine: Engine
    ready: Ready | None
    first: (
        Drawn | None
    )  # the warm-up, of a run's first job a cold start; its `evaluations` tell how many steps
    samples: tuple[Drawn, ...]
    failure: str = ""
    fidelity: Fidelity | None = None  # to the measurement's reference

    @property
    def seconds(self) -> list[float]:
        """Wall seconds of the samples."""
        return [sample.seconds for sample in self.samples]

    @property
    def openings(self) -> list[int]:
        """In which process of the engine each sample was taken."""
        return [sample.opening for sample in self.samples]

    def summary(self) -> Summary:
        """Of the whole picture."""
        return summarise(self.seconds)

    def joules(self) -> float | None:
        """The median of the samples' energy; None where the machine did not tell."""
        found = [sample.joules for sample in self.samples if sample.joules is not None]
        return summarise(found).median if found else None

    def part(self, name: str) -> Summary | None:
        """Of one program, by the GPU's clock where it told, or of `runtime`; None where the engine did not tell."""
        spent = [{**sample.parts, **sample.device_parts} for sample in self.samples]
        found = [parts[name] for parts in spent if name in parts]
        return summarise(found) if found else None


@dataclass(frozen=True, slots=True)
class Measurement:
    """The rows of one job. Ratios are to the first row, fidelity is to the row named `reference`."""

    job: Job
    runs: int
    reference: str
    rows: tuple[Row, ...]

    def order(self) -> str:
        """How often each engine drew, and in how many processes where there were several."""
        openings = max((len(set(row.openings)) for row in self.rows), default=0)
        shared = f", shared among {openings} processes of each" if openings > 1 else ""
        return f"{self.runs} runs of each in turn{shared}"


def compare(rows: Sequence[Row]) -> dict[int, Ratio]:
    """How many times as long each engine takes as the first one that could be measured, by the row's number.

    Left out is what did not draw the same picture, or was not compared: its seconds say nothing.
    """
    first = next((row for row in rows if row.samples), None)
    base = first.seconds if first is not None else []
    counts = {index: min(len(row.seconds), len(base)) for index, row in enumerate(rows)}
    return {
        index: ratio(row.seconds[: counts[index]], base[: counts[index]], row.openings[: counts[index]])
        for index, row in enumerate(rows)
        if counts[index] and row is not first and row.fidelity is not None and row.fidelity.same_picture
    }
