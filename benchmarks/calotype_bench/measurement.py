"""What was measured of one job: a row for each engine, with its samples."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from calotype_bench.fidelity import Fidelity
from calotype_bench.jobs import Drawn, Engine, Job, Ready
from calotype_bench.statistics import Ratio, Summary, ratio, summarise

TOTAL = "total"  # the whole picture
UNCHECKED = "unchecked"  # all of it but its safety checker, which not every engine runs
PROGRAMS = (
    "text_encoder",
    "vae_encoder",
    "depth_estimator",
    "unet_step",
    "vae_decoder",
    "safety_checker",
)


@dataclass(frozen=True, slots=True)
class Start:
    """A cold start of one process, in seconds: what a user waits for."""

    imported: float
    loaded: float
    first: float  # picture, after those


@dataclass(frozen=True, slots=True)
class Row:
    """One engine's samples, in the order in which they were taken; or why there are none."""

    engine: Engine
    ready: Ready | None
    first: Drawn | None  # the warm-up; its `evaluations` tell how many steps
    samples: tuple[Drawn, ...]
    failure: str = ""
    fidelity: Fidelity | None = None  # to the measurement's reference
    starts: tuple[Start, ...] = ()  # of every process, where this job was its first

    @property
    def openings(self) -> list[int]:
        """In which process of the engine each sample was taken."""
        return [sample.opening for sample in self.samples]

    @property
    def checked(self) -> bool:
        """Whether its pictures went through a safety checker."""
        return any("safety_checker" in each.told for each in self.samples)

    @property
    def faithful(self) -> bool:
        """Whether it drew the reference's picture but for rounding; False too where that is not known."""
        return self.fidelity is not None and self.fidelity.plausible(self.engine.dtype)

    def spent(self, part: str = TOTAL, opening: int | None = None) -> list[float]:
        """Seconds of the samples, of one process or all: wall seconds of the whole picture, `UNCHECKED` or not, or of
        one program (by the GPU's clock where it told) or of `runtime`, of those samples that tell.
        """
        chosen = [sample for sample in self.samples if opening in (None, sample.opening)]
        if part == TOTAL:
            return [sample.seconds for sample in chosen]
        if part == UNCHECKED:
            return [sample.seconds - sample.told.get("safety_checker", 0.0) for sample in chosen]
        return [sample.told[part] for sample in chosen if part in sample.told]

    def summary(self) -> Summary:
        """Of the whole picture."""
        return summarise(self.spent())

    def interval(self) -> Ratio:
        """The median of the whole picture in seconds, and where it lies with 95 %, by a bootstrap over processes."""
        return ratio(self.spent(), [1.0] * len(self.samples), self.openings)

    def part(self, name: str) -> Summary | None:
        """Of one part, as `spent` has it; None where the engine did not tell."""
        found = self.spent(name)
        return summarise(found) if found else None

    def joules(self) -> float | None:
        """The median of the samples' energy; None where the machine did not tell."""
        found = [sample.joules for sample in self.samples if sample.joules is not None]
        return summarise(found).median if found else None

    def start(self) -> Start | None:
        """The median of the cold starts; None where there was none."""
        starts = self.starts
        if not starts and self.ready is not None and self.first is not None:
            starts = (Start(self.ready.import_seconds, self.ready.load_seconds, self.first.seconds),)
        if not starts:
            return None
        return Start(
            statistics.median(each.imported for each in starts),
            statistics.median(each.loaded for each in starts),
            statistics.median(each.first for each in starts),
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """The rows of one job. Ratios are to the first row, fidelity is to the row named `reference`."""

    job: Job
    runs: int
    reference: str
    rows: tuple[Row, ...]

    @property
    def beside(self) -> str:
        """The reference, in words."""
        return self.reference or "nothing"

    @property
    def task(self) -> str:
        """Which of diffusers' pipelines draws it."""
        return self.rows[0].engine.task

    def evaluations(self) -> str:
        """How often the UNet ran for a picture: more often than there are steps with some schedulers, or engines."""
        found = {sample.evaluations for row in self.rows for sample in row.samples}
        return ", ".join(map(str, sorted(found)))

    def order(self, alone: bool) -> str:
        """How often each engine drew (or has drawn so far), in turn with others or `alone`, in how many processes."""
        taken = max((len(row.samples) for row in self.rows), default=0)
        so_far = f"{taken} of " if 0 < taken < self.runs else ""
        openings = max((len(set(row.openings)) for row in self.rows), default=0)
        shared = f"shared among {openings} processes of each" if openings > 1 else "in one process of each"
        return (
            f"{so_far}{self.runs} runs of each{', loaded one at a time' if alone else ' in turn'}, {shared}"
        )


@dataclass(frozen=True, slots=True)
class Beside:
    """The fastest other engine at one part, by the ratio, and how many times as long ours takes."""

    label: str
    ratio: Ratio


def ratio_of(row: Row, base: Row, part: str = TOTAL) -> Ratio | None:
    """How many times as long `row` takes as `base`, by the runs that they made in turn.

    None where either did not draw the reference's picture, or was not compared: then its seconds say nothing.
    """
    if not (row.faithful and base.faithful):
        return None
    pairs = [
        (opening, *pair)
        for opening in dict.fromkeys(row.openings)
        for pair in zip(row.spent(part, opening), base.spent(part, opening), strict=False)
    ]
    if not pairs:
        return None
    openings, ours, theirs = zip(*pairs, strict=True)
    return ratio(ours, theirs, openings)


def compare(rows: Sequence[Row]) -> dict[int, Ratio]:
    """How many times as long each engine takes as the first one that could be measured, by the row's number."""
    first = next((row for row in rows if row.samples), None)
    if first is None:
        return {}
    found = {index: ratio_of(row, first) for index, row in enumerate(rows) if row is not first}
    return {index: each for index, each in found.items() if each is not None}


def beside_best(rows: Sequence[Row]) -> dict[str, Mapping[str, Beside]]:
    """Of each of our rows, and each part: the fastest other engine in the same precision.

    Engines that drew another picture are left out, ours among them.
    """
    found: dict[str, Mapping[str, Beside]] = {}
    for row in rows:
        if row.engine.name == "calotype" and row.samples:
            others = peers_of(row, rows)
            parts = {part: _best(row, others, part) for part in compared_parts(row.checked)}
            found[row.engine.label] = {part: best for part, best in parts.items() if best is not None}
    return {label: parts for label, parts in found.items() if parts}


def peers_of(row: Row, rows: Sequence[Row]) -> list[Row]:
    """Those that one of our rows stands beside: every other engine in the same precision."""
    return [each for each in rows if each.engine.name != "calotype" and each.engine.dtype == row.engine.dtype]


def compared_parts(checked: bool) -> tuple[str, ...]:
    """The parts that rows are compared at; without the checker too, where there is one."""
    return (TOTAL, *([UNCHECKED] if checked else []), *PROGRAMS)


def _best(row: Row, others: Sequence[Row], part: str) -> Beside | None:
    found = [
        Beside(other.engine.label, times)
        for other in others
        if (times := ratio_of(row, other, part)) is not None
    ]
    return max(found, key=lambda each: each.ratio.value, default=None)
