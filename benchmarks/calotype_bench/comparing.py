"""The same requests through several engines, one after the other, so that one of them at a time is in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from calotype.errors import BackendError
from calotype_bench import fidelity, peers
from calotype_bench.conversation import TIMEOUT
from calotype_bench.environments import PeerError
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
) -> Outcome:
    """Every job through every engine; distances are to the first one. Pictures of the first `kept` jobs are kept.

    An engine that does not load, or draw a job, within `timeout` seconds is one that cannot draw. BackendError where
    that is the first one.
    """
    total = len(engines) * len(jobs)
    failures: dict[str, str] = {}
    expected: list[str] = []
    pairs: list[Pair] = []
    with tempfile.TemporaryDirectory(prefix="calotype-compare-") as folder:
        for index, engine in enumerate(engines):
            place = Path(folder) / str(index)
            place.mkdir()
            try:
                with peers.opened(engine, reports.say, timeout) as worker:
                    # what is compared comes of recorded graphs on a GPU, as users' pictures do
                    for _ in range(WARM_UPS if engine.device != "cpu" else 0):
                        worker.draw(jobs[0])
                    for number, job in enumerate(jobs):
                        worker.draw(job, str(_file(place, number)))
                        reports.progress(index * len(jobs) + number + 1, total, engine.label)
            except (PeerError, OSError) as error:
                if index == 0:
                    raise BackendError(f"the reference cannot draw: {error}") from error
                failures[engine.label] = str(error)
                continue
            if index == 0:
                expected = [_picture(_file(place, number)) for number, _ in enumerate(jobs[:kept])]
                continue
            reference = Path(folder) / "0"
            try:
                pairs += [
                    _pair(
                        engine, job, number, (_file(reference, number), _file(place, number)), number < kept
                    )
                    for number, job in enumerate(jobs)
                ]
            except ValueError as error:  # numbers that are not finite
                failures[engine.label] = str(error)
    return Outcome(tuple(expected), tuple(pairs), failures)


def _pair(engine: Engine, job: Job, number: int, files: tuple[Path, Path], keep: bool) -> Pair:
    found = _picture(files[1]) if keep else ""
    return Pair(number, job.prompt, job.seed, engine.label, fidelity.of_files(*files), found)


def _file(place: Path, number: int) -> Path:
    return place / f"{number}.npz"


def _picture(file: Path) -> str:
    """The first picture of a file that a worker left."""
    with np.load(file) as drawn:
        return encode(Image.fromarray(fidelity.eight_bits(drawn["pictures"][0])))
