"""Latency of a bundle beside its peers: every engine in a process of its own, all of them drawing in turn."""

from __future__ import annotations

import dataclasses
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from calotype_bench import fidelity, peers
from calotype_bench.conversation import Worker
from calotype_bench.environments import PeerError, Say
from calotype_bench.fidelity import Fidelity
from calotype_bench.jobs import Drawn, Engine, Job, Ready
from calotype_bench.measurement import Measurement, Row

_PAUSE = 0.1  # seconds before each picture: threads of the engine before it may still wait for work in a loop


@dataclass(frozen=True, slots=True)
class Order:
    """How often every engine draws a job, and in how many processes.

    A process keeps to a speed that another of the same engine does not have: how its memory lies is drawn by lot.
    `runs` are shared among `openings` of every engine. `alone`: each is opened for every run anew, and warmed up with
    a single step, so that one model is in memory.
    """

    runs: int
    openings: int = 1
    alone: bool = False

    def rounds(self) -> list[int]:
        """How many runs there are in each opening; the first ones have one more where they cannot be equal."""
        openings = self.runs if self.alone else min(self.openings, self.runs)
        return [self.runs // openings + (number < self.runs % openings) for number in range(openings)]


@dataclass(frozen=True, slots=True)
class Reports:
    """Who is told how many pictures of how many are drawn, and what is done meanwhile."""

    progress: Callable[[int, int], None] = lambda *_: None
    say: Say = lambda _: None


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
        self._turn = [*range(len(self.engines))]

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
        """The engines that have not failed, in turn; `sampled` False: those too that are only compared with."""
        count = self.sampled if sampled else len(self.engines)
        return [index for index in self._turn if index < count and index not in self.failures]

    def shuffle(self, opening: int) -> None:
        """Let engines take their turns in another order: who comes before may matter. The first one is as given."""
        if opening:
            random.Random(opening).shuffle(self._turn)

    def close(self, *indices: int) -> None:
        """End these workers, or all of them."""
        for index in indices or tuple(self._workers):
            self._workers.pop(index).close()


class _Take:
    """What the engines drew of one job, by their number."""

    def __init__(self, job: Job, stem: Path) -> None:
        self.job = job
        self.first: dict[int, Drawn] = {}
        self.samples: dict[int, list[Drawn]] = {}
        self._stem = stem

    def file(self, index: int) -> str:
        """Where the engine's first picture and latents are kept."""
        return f"{self._stem}-{index}.npz"

    def warm(self, index: int, drawn: Drawn | None) -> None:
        """Keep what is not counted: of an engine's first opening, a cold start."""
        if drawn is not None:
            self.first.setdefault(index, drawn)

    def add(self, index: int, drawn: Drawn | None, opening: int) -> None:
        """Keep a sample."""
        if drawn is not None:
            self.samples.setdefault(index, []).append(dataclasses.replace(drawn, opening=opening))


def measure(
    engines: Sequence[Engine],
    jobs: Sequence[Job],
    order: Order,
    reports: Reports = Reports(),
    references: Sequence[Engine] = (),
) -> Iterator[Measurement]:
    """Draw each job with every engine in turn (A B A B), after one picture of each that is not counted.

    Each opening has the turns in another order. On a GPU two pictures are not counted: with the second a schedule is
    recorded. `references` draw one, to be compared with. An engine that cannot be loaded, or fails, is a row that says
    why. Ratios are to the first engine. Gives the jobs' measurements when all are done, and of engines that are opened
    alone each when it is done.
    """
    bench = _Bench(engines, references, reports)
    bench.total = len(jobs) * len(engines) * (order.runs + len(order.rounds()))
    take = _take_alone if order.alone else _take_in_turn
    try:
        with tempfile.TemporaryDirectory(prefix="calotype-bench-") as folder:
            for group in [[job] for job in jobs] if order.alone else [jobs]:
                takes = [_Take(job, Path(folder) / str(number)) for number, job in enumerate(group)]
                take(bench, takes, order)
                yield from [_measurement(bench, each, order.runs) for each in takes]
    finally:
        bench.close()
    reports.progress(bench.total, bench.total)


def _take_in_turn(bench: _Bench, takes: Sequence[_Take], order: Order) -> None:
    for opening, rounds in enumerate(order.rounds()):
        bench.shuffle(opening)
        for index in bench.able(sampled=bool(opening)):
            bench.open(index)
        for take in takes:
            for index in bench.able(sampled=bool(opening)):
                take.warm(index, bench.draw(index, take.job, "" if opening else take.file(index)))
            for index in bench.able():
                if bench.engines[index].device != "cpu":
                    bench.draw(index, take.job)
            for _ in range(rounds):
                for index in bench.able():
                    time.sleep(_PAUSE)
                    take.add(index, bench.draw(index, take.job), opening)
        bench.close()


def _take_alone(bench: _Bench, takes: Sequence[_Take], order: Order) -> None:
    for opening, take in product(range(order.runs), takes):
        for index in bench.able():
            if bench.open(index):
                first = bench.draw(index, dataclasses.replace(take.job, steps=1))
                take.warm(index, first)
                if first is not None:
                    take.add(index, bench.draw(index, take.job, "" if opening else take.file(index)), opening)
                bench.close(index)


def _measurement(bench: _Bench, take: _Take, runs: int) -> Measurement:
    drawn = {index: Path(take.file(index)) for index in take.first if Path(take.file(index)).is_file()}
    reference = _reference(bench.engines, [*drawn])
    judged = {
        index: bench.judge(index, drawn[reference], found)
        for index, found in drawn.items()
        if reference is not None
    }
    rows = tuple(
        Row(
            engine,
            bench.ready.get(index),
            take.first.get(index),
            tuple(take.samples.get(index, ())),
            bench.failures.get(index, ""),
            judged.get(index),
        )
        for index, engine in enumerate(bench.engines[: bench.sampled])
    )
    for file in drawn.values():
        file.unlink()
    return Measurement(take.job, runs, bench.engines[reference].label if reference is not None else "", rows)


def _reference(engines: Sequence[Engine], present: Sequence[int]) -> int | None:
    """Eager diffusers in fp32 where it draws, the first engine that does otherwise."""
    eager = [index for index in present if (engines[index].name, engines[index].dtype) == ("eager", "fp32")]
    return next(iter((*eager, *present)), None)
