"""Latency of a bundle beside its peers: every engine in a process of its own, all of them drawing in turn."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from calotype_bench import fidelity, peers
from calotype_bench.conversation import Worker
from calotype_bench.environments import PeerError, Say
from calotype_bench.fidelity import Fidelity
from calotype_bench.jobs import Drawn, Engine, Job, Ready
from calotype_bench.statistics import Ratio, Summary, ratio, summarise

_PAUSE = 0.1  # seconds before each picture: threads of the engine before it may still wait for work in a loop


@dataclass(frozen=True, slots=True)
class Reports:
    """Who is told how many pictures of how many are drawn, and what is done meanwhile."""

    progress: Callable[[int, int], None] = lambda *_: None
    say: Say = lambda _: None


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


class _Bench:
    """Running workers, by the engine's number, and what became of the others."""

    def __init__(self, engines: Sequence[Engine], references: Sequence[Engine], reports: Reports) -> None:
        self.engines = (*engines, *references)
        self.sampled = len(engines)
        self.total = 0
        self.ready: dict[int, Ready] = {}
        self.failures: dict[int, str] = {}
        self._progress, self._say = reports.progress, reports.say
        self._done = 0
        self._workers: dict[int, Worker] = {}

    def open(self, index: int) -> bool:
        """Start a worker; False, and a failure noted, where it cannot be."""
        self._say(f"loading {self.engines[index].label}")
        engine = self.engines[index]
        try:
            interpreter, path = peers.prepare(engine, self._say)
            self._workers[index] = Worker(dataclasses.replace(engine, path=path), interpreter)
        except (PeerError, OSError) as error:  # an interpreter or a folder that is gone
            self.failures[index] = str(error)
            return False
        self.ready.setdefault(index, self._workers[index].ready)
        return True

    def draw(self, index: int, job: Job, save: str = "") -> Drawn | None:
        """None, and a failure noted, where it cannot."""
        try:
            return self._workers[index].draw(job, save)
        except PeerError as error:
            self.failures[index] = str(error)
            return None
        finally:
            self._done += 1
            self._progress(min(self._done, self.total), self.total)

    def judge(self, index: int, reference: Path, found: Path) -> Fidelity | None:
        """None, and a failure noted, where the two cannot be compared."""
        try:
            return fidelity.of_files(reference, found)
        except ValueError as error:
            self.failures[index] = str(error)
            return None

    def able(self, sampled: bool = True) -> list[int]:
        """The engines that have not failed; `sampled` False: those too that are only compared with."""
        count = self.sampled if sampled else len(self.engines)
        return [index for index in range(count) if index not in self.failures]

    def close(self, *indices: int) -> None:
        """End these workers, or all of them."""
        for index in indices or tuple(self._workers):
            self._workers.pop(index).close()


@dataclass(frozen=True, slots=True)
class _Taken:
    """What one engine drew of one job."""

    first: Drawn | None
    samples: tuple[Drawn, ...] = ()


def measure(
    engines: Sequence[Engine],
    jobs: Sequence[Job],
    runs: int,
    reports: Reports = Reports(),
    one_at_a_time: bool = False,
    references: Sequence[Engine] = (),
) -> Iterator[Measurement]:
    """Draw each job `runs` times with every engine in turn (A B A B), after one picture of each that is not counted.

    On a GPU two are not counted: with the second a schedule is recorded. `references` draw one, to be compared with.
    Gives each job's measurement when it is done. An engine that cannot be loaded, or fails, is a row that says why.
    Ratios are to the first engine. `one_at_a_time`: each engine is loaded for every run anew, and warmed up with a
    single step, so that one model is in memory.
    """
    bench = _Bench(engines, references, reports)
    bench.total = len(jobs) * (2 * runs if one_at_a_time else runs + 1) * len(engines)
    take = _take_one_at_a_time if one_at_a_time else _take_in_turn
    try:
        with tempfile.TemporaryDirectory(prefix="calotype-bench-") as folder:
            if not one_at_a_time:
                for index in bench.able(sampled=False):
                    bench.open(index)
            for job in jobs:
                yield _measurement(bench, job, runs, take, Path(folder))
    finally:
        bench.close()
    reports.progress(bench.total, bench.total)


def _take_in_turn(bench: _Bench, job: Job, runs: int, files: Mapping[int, Path]) -> dict[int, _Taken]:
    able = bench.able(sampled=False)
    taken = {index: _Taken(bench.draw(index, job, str(files[index]))) for index in able}
    for index in bench.able():
        if bench.engines[index].device != "cpu":
            bench.draw(index, job)
    for _ in range(runs):
        for index in bench.able():
            time.sleep(_PAUSE)
            drawn = bench.draw(index, job)
            if drawn is not None:
                taken[index] = dataclasses.replace(taken[index], samples=(*taken[index].samples, drawn))
    return taken


def _take_one_at_a_time(bench: _Bench, job: Job, runs: int, files: Mapping[int, Path]) -> dict[int, _Taken]:
    taken: dict[int, _Taken] = {}
    for run in range(runs):
        for index in bench.able():
            if not bench.open(index):
                continue
            first = bench.draw(index, dataclasses.replace(job, steps=1))
            drawn = bench.draw(index, job, "" if run else str(files[index])) if first is not None else None
            if drawn is not None:
                before = taken.get(index, _Taken(first))
                taken[index] = dataclasses.replace(before, samples=(*before.samples, drawn))
            bench.close(index)
    return taken


def _measurement(bench: _Bench, job: Job, runs: int, take: Take, folder: Path) -> Measurement:
    files = {index: folder / f"{index}.npz" for index in bench.able(sampled=False)}
    taken = take(bench, job, runs, files)
    present = [index for index in taken if files[index].is_file()]
    reference = _reference(bench.engines, present)
    judged = {
        index: bench.judge(index, files[reference], files[index])
        for index in present
        if reference is not None
    }
    rows = tuple(
        Row(
            engine,
            bench.ready.get(index),
            taken[index].first if index in taken else None,
            taken[index].samples if index in taken else (),
            bench.failures.get(index, ""),
            judged.get(index),
        )
        for index, engine in enumerate(bench.engines[: bench.sampled])
    )
    for file in files.values():
        file.unlink(missing_ok=True)
    return Measurement(job, runs, bench.engines[reference].label if reference is not None else "", rows)


Take = Callable[[_Bench, Job, int, Mapping[int, Path]], dict[int, _Taken]]


def _reference(engines: Sequence[Engine], present: Sequence[int]) -> int | None:
    """Eager diffusers in fp32 where it draws, the first engine that does otherwise."""
    eager = [index for index in present if (engines[index].name, engines[index].dtype) == ("eager", "fp32")]
    return next(iter((*eager, *present)), None)


def compare(rows: Sequence[Row]) -> dict[int, Ratio]:
    """How many times as long each engine takes as the first one that could be measured, by the row's number.

    Left out is what did not draw the same picture, or was not compared: its seconds say nothing.
    """
    first = next((row for row in rows if row.samples), None)
    base = first.seconds if first is not None else []
    counts = {index: min(len(row.seconds), len(base)) for index, row in enumerate(rows)}
    return {
        index: ratio(row.seconds[: counts[index]], base[: counts[index]])
        for index, row in enumerate(rows)
        if counts[index] and row is not first and row.fidelity is not None and row.fidelity.same_picture
    }
