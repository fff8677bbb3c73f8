"""The same requests through several engines, one after the other, so that one of them at a time is in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from calotype.errors import BackendError
from calotype_bench import fidelity, peers
from calotype_bench.conversation import TIMEOUT
from calotype_bench.environments import PeerError, Say
from calotype_bench.jobs import Engine, Job
from calotype_bench.order import SILENT, WARM_UPS, Reports
from calotype_bench.pictures import encode
from calotype_bench.results import Pair


@dataclass(frozen=True, slots=True)
class Outcome:
    """The reference's kept pictures, what was drawn beside it, and the engines that could not draw."""

    expected: tuple[str, ...]
    pairs: tuple[Pair, ...]
    failures: Mapping[str, str]


def compare(
    engines: Sequence[Engine],
    jobs: Sequence[Job],
    kept: int,
    reports: Reports = SILENT,
    timeout: float = TIMEOUT,
) -> Iterator[Outcome]:
    """Every job through every engine; distances are to the first one. Pictures of the first `kept` jobs are kept.

    Gives what is known after each engine. One that does not load, or draw a job, within `timeout` seconds is one that
    cannot draw. BackendError where that is the first one.
    """
    failures: dict[str, str] = {}
    expected: tuple[str, ...] = ()
    pairs: list[Pair] = []
    with tempfile.TemporaryDirectory(prefix="calotype-compare-") as folder:
        places = [Path(folder) / str(index) for index, _ in enumerate(engines)]
        for index, (engine, place) in enumerate(zip(engines, places, strict=True)):
            place.mkdir()
            try:
                with closing(_drawn(engine, jobs, place, reports.say, timeout)) as drawn:
                    for done in drawn:
                        reports.progress(index * len(jobs) + done, len(engines) * len(jobs), engine.label)
                if index:
                    pairs += _pairs(engine, jobs, (places[0], place), kept)
                else:
                    expected = tuple(_picture(_file(place, number)) for number, _ in enumerate(jobs[:kept]))
            except (PeerError, OSError, ValueError) as error:  # the last: numbers that are not finite
                if index == 0:
                    raise BackendError(f"the reference cannot draw: {error}") from error
                failures[engine.label] = str(error)
            yield Outcome(expected, tuple(pairs), dict(failures))


def _drawn(engine: Engine, jobs: Sequence[Job], place: Path, say: Say, timeout: float) -> Generator[int]:
    """Draw every job into files at `place`; after each, how many are done."""
    with peers.opened(engine, say, timeout) as worker:
        # what is compared comes of recorded graphs on a GPU, as users' pictures do
        for _ in range(WARM_UPS if engine.device != "cpu" else 0):
            worker.draw(jobs[0])
        for number, job in enumerate(jobs):
            worker.draw(job, str(_file(place, number)))
            yield number + 1


def _pairs(engine: Engine, jobs: Sequence[Job], places: tuple[Path, Path], kept: int) -> list[Pair]:
    """Of each job, what lies at the reference's place and at the engine's."""
    reference, place = places
    return [
        _pair(engine, job, number, (_file(reference, number), _file(place, number)), number < kept)
        for number, job in enumerate(jobs)
    ]


def _pair(engine: Engine, job: Job, number: int, files: tuple[Path, Path], keep: bool) -> Pair:
    found = _picture(files[1]) if keep else ""
    return Pair(number, job.prompt, job.seed, engine.label, fidelity.of_files(*files), found)


def _file(place: Path, number: int) -> Path:
    return place / f"{number}.npz"


def _picture(file: Path) -> str:
    """The first picture of a file that a worker left."""
    with np.load(file) as drawn:
        return encode(Image.fromarray(fidelity.eight_bits(drawn["pictures"][0])))
