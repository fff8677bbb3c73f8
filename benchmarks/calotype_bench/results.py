"""What `calotype-bench` measured, as a JSON file: raw samples, and everything that a sceptic needs to repeat them."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from calotype import files
from calotype.errors import RequestError
from calotype_bench import typed
from calotype_bench.fidelity import Fidelity
from calotype_bench.measurement import Measurement
from calotype_bench.peers import PRECISIONS
from calotype_bench.rates import Rates

FORMAT_VERSION = 2
TIMED = (
    "wall seconds from the call until the picture is a numpy array; nothing is encoded or written. Of the "
    "parts, ours are runs of programs, with guidance and the solver in unet_step, and copying into and out of "
    "them in runtime; those of diffusers' pipelines are calls of a network's forward, encode or decode, with "
    "guidance and the scheduler in runtime"
)
_MACHINE = frozenset({"processor", "cores", "system", "python", "load", "date"})
_GPU = frozenset({"gpu", "compute_capability", "driver"})
Seconds = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Latency:
    """One run of `calotype-bench latency`. `floors` has, for each measurement, least seconds by precision and part."""

    title: str  # what was measured, in the words of whoever asked
    command: tuple[str, ...]
    machine: Mapping[str, Any]
    bundles: tuple[Mapping[str, str], ...]  # precision, digest, and the checkpoint each was made from
    measurements: tuple[Measurement, ...]
    rates: Mapping[str, Rates]  # by precision
    floors: tuple[Mapping[str, Seconds], ...]
    operators: Mapping[
        str, Mapping[str, Seconds | str]
    ]  # by row and program: seconds by kind, or why there are none
    timed: str = TIMED
    warm_up: str = ""  # what was drawn and not counted

    @property
    def alone(self) -> bool:
        """Whether one engine at a time was in memory, minutes apart, and not all of them, drawing in turn."""
        return "--one-at-a-time" in self.command


@dataclass(frozen=True, slots=True)
class Pair:
    """Request number `request` through the reference and through one engine; `found` is a lossless WebP, base64."""

    request: int
    prompt: str
    seed: int
    engine: str
    fidelity: Fidelity
    found: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run of `calotype-bench compare`. `noise` are the rows of the reference in another precision, `expected` its
    pictures of the first requests.
    """

    title: str
    command: tuple[str, ...]
    machine: Mapping[str, Any]
    bundles: tuple[Mapping[str, str], ...]
    reference: str
    noise: tuple[str, ...]
    failures: Mapping[str, str]  # of engines that could not draw
    expected: tuple[str, ...]
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """A program with one change more than the variant before it; the first is as the library reads the graph.

    `samples` are seconds of each run of each opening, made in turn with those of the other variants.
    """

    change: str
    places: int  # that it changed
    distance: float  # relative L2 from the first variant, of the output that lies furthest
    samples: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Techniques:
    """One run of `calotype-bench techniques`: the variants of each program."""

    title: str
    command: tuple[str, ...]
    machine: Mapping[str, Any]
    bundles: tuple[Mapping[str, str], ...]
    backend: str
    programs: Mapping[str, tuple[Variant, ...]]


Result = Latency | Comparison | Techniques
_KINDS: Mapping[str, type[Result]] = {
    "latency": Latency,
    "comparison": Comparison,
    "techniques": Techniques,
}


def command_line(result: Result) -> str:
    """The command, as a shell takes it."""
    return shlex.join(result.command)


def write(result: Result, path: Path) -> None:
    """Write a result as JSON, in place of one that was there before: whole, or not at all."""
    (kind,) = (name for name, each in _KINDS.items() if isinstance(result, each))
    content = {"format": FORMAT_VERSION, "kind": kind, **dataclasses.asdict(result)}
    with files.placed(path, "the result") as file:
        file.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def check_writable(path: Path | None) -> None:
    """RequestError where no file can be written at `path`, before hours are spent on what it is for."""
    if path is None:
        return
    if not path.parent.is_dir():
        raise RequestError(f"-o {path}: there is no folder {path.parent}", f"mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise RequestError(f"-o {path}: the folder {path.parent} is not yours to write into")
    if path.is_dir():
        raise RequestError(f"-o {path}: expected a file, found a folder", f"name a file in it: {path}/...")


def is_other(path: Path) -> bool:
    """Whether the file holds figures of another command, which say nothing of a format."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and bool(content) and "format" not in content


def read(path: Path) -> Result:
    """Read what `write` wrote. RequestError for any other file."""
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version, kind = content.pop("format"), content.pop("kind")
        if version != FORMAT_VERSION:
            raise RequestError(
                f"{path}: expected format {FORMAT_VERSION}, found {version}",
                "measure again with this version",
            )
        found: Result = typed.build(_KINDS[kind], content, kind)
        _check_machine(found.machine)
        _check(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RequestError(
            f"{path} is no result of calotype-bench: {type(error).__name__}: {error}"
        ) from error
    return found


def _check_machine(found: Mapping[str, Any]) -> None:
    gpu = found.get("gpu")
    missing = [*(_MACHINE - set(found)), *(_GPU - set(gpu) if isinstance(gpu, Mapping) else ())]
    if missing:
        raise KeyError(f"machine.{min(missing)}")
    typed.build(tuple[float, ...], found["load"], "machine.load")
    typed.build(tuple[float, ...], found.get("load_before", []), "machine.load_before")
    typed.build(float | None, found.get("stolen"), "machine.stolen")
    typed.build(int | None, found.get("clock_mhz"), "machine.clock_mhz")
    typed.build(tuple[str, ...], found.get("energy", []), "machine.energy")


def _check(found: Result) -> None:
    if isinstance(found, Latency):
        _check_latency(found)
    elif isinstance(found, Comparison):
        _check_comparison(found)
    else:
        _check_techniques(found)


def _check_latency(found: Latency) -> None:
    if not len(found.measurements) == len(found.floors) > 0:
        raise ValueError(f"{len(found.measurements)} measurements with {len(found.floors)} floors")
    for row in (row for each in found.measurements for row in each.rows):
        if row.engine.dtype not in PRECISIONS:
            raise ValueError(f"{row.engine.label}: expected a precision of {', '.join(PRECISIONS)}")
        if any(sample.seconds <= 0 or not sample.evaluations for sample in row.samples):
            raise ValueError(f"{row.engine.label}: a picture in no time, or without the UNet")
        if any(sample.told and sum(sample.told.values()) <= 0 for sample in row.samples):
            raise ValueError(f"{row.engine.label}: every part of a picture in no time")
    programs = (each for row in found.operators.values() for each in row.values())
    if any(not isinstance(each, str) and sum(each.values()) <= 0 for each in programs):
        raise ValueError("latency.operators: a program in no time")


def _check_comparison(found: Comparison) -> None:
    if any(pair.request < 0 for pair in found.pairs):
        raise ValueError("a request is numbered below 0")
    kept = 1 + max((pair.request for pair in found.pairs if pair.found), default=-1)
    if kept > len(found.expected):
        raise ValueError(f"{len(found.expected)} pictures of the reference, expected {kept}")
    for picture in (*found.expected, *(pair.found for pair in found.pairs if pair.found)):
        with Image.open(io.BytesIO(base64.b64decode(picture, validate=True))) as opened:
            opened.verify()


def _check_techniques(found: Techniques) -> None:
    for name, variants in found.programs.items():
        shapes = {tuple(map(len, variant.samples)) for variant in variants}
        if len(shapes) != 1 or not all(shape and min(shape) > 0 for shape in shapes):
            raise ValueError(f"techniques.programs.{name}: expected as many runs of every variant")
        if any(sample <= 0 for variant in variants for opening in variant.samples for sample in opening):
            raise ValueError(f"techniques.programs.{name}: a run in no time")
