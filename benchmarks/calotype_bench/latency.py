"""Latency of a bundle beside its peers: every engine in a process of its own, all of them drawing in turn."""

from __future__ import annotations

import dataclasses
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from calotype_bench import fidelity, peers
from calotype_bench.conversation import Worker
from calotype_bench.environments import PeerError
from calotype_bench.fidelity import Fidelity
from calotype_bench.jobs import Drawn, Engine, Job, Ready
from calotype_bench.measurement import Measurement, Row, Start
from calotype_bench.order import SILENT, WARM_UPS, Order, Reports

_PAUSE = 0.1  # seconds before each picture: threads of the engine before it may still wait for work in a loop


class _Take:
    """What the engines drew of one job, by their number, and which of them cannot."""

    def __init__(self, job: Job, stem: Path) -> None:
        self.job = job
        self.first: dict[int, Drawn] = {}
        self.starts: dict[int, list[Start]] = {}
        self.samples: dict[int, list[Drawn]] = {}
        self.failures: dict[int, str] = {}
        self._fidelity: dict[int, Fidelity] = {}
        self._stem = stem

    def file(self, index: int) -> str:
        """Where the engine's first picture that counts is kept, with its latents; empty, so that none is, where it is
        already: the one before may be drawn another way, as by a GPU before its graph is recorded.
        """
        path = self._path(index)
        return "" if path.is_file() else str(path)

    def warm(self, index: int, drawn: Drawn | None, ready: Ready | None) -> None:
        """Keep what is not counted; with `ready`, it was the process's first."""
        if drawn is None:
            return
        self.first.setdefault(index, drawn)
        if ready is not None:
            start = Start(ready.import_seconds, ready.load_seconds, drawn.seconds)
            self.starts.setdefault(index, []).append(start)

    def add(self, index: int, drawn: Drawn | None, opening: int) -> None:
        """Keep a sample."""
        if drawn is not None:
            self.samples.setdefault(index, []).append(dataclasses.replace(drawn, opening=opening))

    def reference(self, engines: Sequence[Engine], sampled: int) -> int | None:
        """The one behind the `sampled` that was to be compared with, where there is one; or else, of those that drew,
        the first in the finest precision, eager diffusers before others. None where that one drew nothing.
        """
        chosen = range(sampled, len(engines)) or range(sampled)
        drawn = [index for index in chosen if self._path(index).is_file()]

        def rank(index: int) -> tuple[int, bool]:
            return peers.PRECISIONS.index(engines[index].dtype), engines[index].name != "eager"

        return min(drawn, key=rank, default=None)

    def fidelity(self, index: int, reference: int | None) -> Fidelity | None:
        """None where the engine drew nothing, or a failure is noted: the two cannot be compared."""
        if (
            reference is not None
            and self._path(index).is_file()
            and index not in {*self._fidelity, *self.failures}
        ):
            try:
                self._fidelity[index] = fidelity.of_files(self._path(reference), self._path(index))
            except ValueError as error:
                self.failures[index] = str(error)
        return self._fidelity.get(index)

    def _path(self, index: int) -> Path:
        return Path(f"{self._stem}-{index}.npz")


class _Bench:
    """Running workers, by the engine's number, and why others could not be loaded."""

    def __init__(
        self, engines: Sequence[Engine], references: Sequence[Engine], timeout: float, reports: Reports
    ) -> None:
        self.engines = (*engines, *references)
        self.sampled = len(engines)
        self.total = 0
        self.ready: dict[int, Ready] = {}
        self.failures: dict[int, str] = {}
        self._timeout = timeout
        self._reports = reports
        self._done = 0
        self._workers: dict[int, Worker] = {}
        self._turn = [*range(self.sampled)]

    def open(self, index: int) -> Ready | None:
        """Start a worker; None, and a failure noted, where it cannot be."""
        engine = self.engines[index]
        self._reports.say(f"loading {engine.label}")
        try:
            self._workers[index] = peers.opened(engine, self._reports.say, self._timeout)
        except (PeerError, OSError) as error:  # an interpreter or a folder that is gone
            self.failures[index] = str(error)
            return None
        ready = self._workers[index].ready
        self.ready.setdefault(index, ready)
        return ready

    def draw(self, index: int, take: _Take, job: Job | None = None, save: str = "") -> Drawn | None:
        """None, and a failure of that job noted, where it cannot. `job`: in place of the one that is measured."""
        drawn = None
        try:
            drawn = self._workers[index].draw(job or take.job, save)
        except PeerError as error:
            take.failures[index] = str(error)
        self._done += 1
        told = "failed" if drawn is None else f"{drawn.seconds:.3f} s"
        done = min(self._done, self.total - 1)  # the last is told when every worker is closed
        self._reports.progress(done, self.total, f"{self.engines[index].label} {told}")
        return drawn

    def loadable(self, takes: Sequence[_Take]) -> list[int]:
        """The engines that could be loaded so far, and did not fail at every job, in turn."""
        able = [index for index in self._turn if any(index not in take.failures for take in takes)]
        return [index for index in able if index not in self.failures]

    def reopen(self) -> None:
        """Start those anew whose process ended at the job before."""
        for index in [index for index, worker in self._workers.items() if worker.ended]:
            self._workers.pop(index).close()
            self.open(index)

    def able(self, take: _Take) -> list[int]:
        """The running engines that have not failed at the job."""
        return [index for index in self._turn if index in self._workers and index not in take.failures]

    def turn(self, opening: int) -> None:
        """Let engines take their turns in another order: who comes before may matter. The first one is as given, each
        second one the reverse of the one before, so that a machine that slowly drifts favours nobody.
        """
        if opening % 2:
            self._turn.reverse()
        elif opening:
            random.Random(opening).shuffle(self._turn)

    def close(self) -> None:
        """End all workers."""
        while self._workers:
            self._workers.popitem()[1].close()


def measure(
    engines: Sequence[Engine],
    jobs: Sequence[Job],
    order: Order,
    reports: Reports = SILENT,
    references: Sequence[Engine] = (),
) -> Iterator[tuple[Measurement, ...]]:
    """Draw each job with every engine in turn (A B A B), after what `Order.warm_up` says is not counted.

    Each opening has the turns in another order. `references` draw one picture of each first, to be compared with, and
    are gone when others are loaded: at full size they hold gigabytes. An engine that cannot be loaded, or fails at a
    job, is a row that says why. Ratios are to the first engine. Gives the measurements of all jobs so far after each
    opening; the last have every run.
    """
    bench = _Bench(engines, references, order.timeout, reports)
    bench.total = len(jobs) * (len(references) + len(engines) * (order.runs + WARM_UPS * len(order.rounds())))
    take_turns = _take_alone if order.alone else _take_in_turn
    try:
        with tempfile.TemporaryDirectory(prefix="calotype-bench-") as folder:
            takes = [_Take(job, Path(folder) / str(number)) for number, job in enumerate(jobs)]
            _take_references(bench, takes)
            for opening, rounds in enumerate(order.rounds()):
                bench.turn(opening)
                take_turns(bench, takes, opening, rounds)
                yield tuple(_measurement(bench, take, order.runs) for take in takes)
    finally:
        bench.close()
    reports.progress(bench.total, bench.total, "")


def _take_references(bench: _Bench, takes: Sequence[_Take]) -> None:
    for index in range(bench.sampled, len(bench.engines)):
        bench.open(index)
        for take in takes:
            bench.reopen()
            if index not in bench.failures:
                bench.draw(index, take, save=take.file(index))
        bench.close()


def _take_in_turn(bench: _Bench, takes: Sequence[_Take], opening: int, rounds: int) -> None:
    ready = {index: bench.open(index) for index in bench.loadable(takes)}
    for number, take in enumerate(takes):
        bench.reopen()
        for index in bench.able(take):
            take.warm(index, bench.draw(index, take), None if number else ready[index])
        for index in bench.able(take):
            bench.draw(index, take)
        for _ in range(rounds):
            for index in bench.able(take):
                time.sleep(_PAUSE)
                take.add(index, bench.draw(index, take, save=take.file(index)), opening)
    bench.close()


def _take_alone(bench: _Bench, takes: Sequence[_Take], opening: int, _: int) -> None:
    for take in takes:
        for index in bench.loadable(takes):
            if index not in take.failures and (ready := bench.open(index)):
                on_gpu = bench.engines[index].device != "cpu"
                short = None if on_gpu else take.job.shortest()
                drawn = first = bench.draw(index, take, short)
                take.warm(index, first, ready)
                for _ in range(1, WARM_UPS if first else 1):
                    drawn = bench.draw(index, take, short)
                if drawn is not None:
                    take.add(index, bench.draw(index, take, save=take.file(index)), opening)
                bench.close()


def _measurement(bench: _Bench, take: _Take, runs: int) -> Measurement:
    """With a row of what was to be compared with, where it failed."""
    reference = take.reference(bench.engines, bench.sampled)
    judged = {index: take.fidelity(index, reference) for index in range(bench.sampled)}
    failures = {**bench.failures, **take.failures}
    shown = [index for index, _ in enumerate(bench.engines) if index in judged or index in failures]
    rows = tuple(
        Row(
            bench.engines[index],
            bench.ready.get(index),
            take.first.get(index),
            tuple(take.samples.get(index, ())),
            failures.get(index, ""),
            judged.get(index),
            tuple(take.starts.get(index, ())),
        )
        for index in shown
    )
    return Measurement(take.job, runs, "" if reference is None else bench.engines[reference].label, rows)
