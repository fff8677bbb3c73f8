"""What `calotype-bench` measured, as a JSON file: raw samples, and everything that a sceptic needs to repeat them."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype import files
from calotype.errors import RequestError
from calotype_bench.fidelity import Fidelity
from calotype_bench.jobs import Drawn, Engine, Job, Ready
from calotype_bench.measurement import Measurement, Row, Start
from calotype_bench.rates import Rates

FORMAT_VERSION = 2
TIMED = "wall seconds from the call until the picture is a numpy array; nothing is encoded or written"
_MACHINE = frozenset({"processor", "cores", "system", "python", "load", "date"})
Seconds = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Latency:
    """One run of `calotype-bench latency`. `floors` has, for each measurement, least seconds by precision and part."""

    title: str  # what was measured, in the words of whoever asked
    command: tuple[str, ...]
    machine: Mapping[str, Any]
    bundles: tuple[Mapping[str, str], ...]  # precision and digest
    measurements: tuple[Measurement, ...]
    rates: Mapping[str, Rates]  # by precision
    floors: tuple[Mapping[str, Seconds], ...]
    operators: Mapping[
        str, Mapping[str, Seconds | str]
    ]  # by row and program: seconds by kind, or why there are none
    timed: str = TIMED
    warm_up: str = ""  # what was drawn and not counted


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


def command_line(result: Latency | Comparison) -> str:
    """The command, as a shell takes it."""
    return shlex.join(result.command)


def write(result: Latency | Comparison, path: Path) -> None:
    """Write a result as JSON, in place of one that was there before: whole, or not at all."""
    kind = "latency" if isinstance(result, Latency) else "comparison"
    content = {"format": FORMAT_VERSION, "kind": kind, **dataclasses.asdict(result)}
    with files.placed(path, "the result") as file:
        file.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def check_writable(path: Path | None) -> None:
    """RequestError where no file can be written at `path`, before hours are spent on what it is for."""
    if path is not None and not path.parent.is_dir():
        raise RequestError(f"-o {path}: there is no folder {path.parent}", f"mkdir -p {path.parent}")
    if path is not None and path.is_dir():
        raise RequestError(f"-o {path}: expected a file, found a folder", f"name a file in it: {path}/...")


def is_other(path: Path) -> bool:
    """Whether the file holds figures of another command, which say nothing of a format."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and bool(content) and "format" not in content


def read(path: Path) -> Latency | Comparison:
    """Read what `write` wrote. RequestError for any other file."""
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        version, kind = content.pop("format"), content.pop("kind")
        if version != FORMAT_VERSION:
            raise RequestError(
                f"{path}: expected format {FORMAT_VERSION}, found {version}",
                "measure again with this version",
            )
        _check_machine(content["machine"])
        return {"latency": _latency, "comparison": _comparison}[kind](content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(
            f"{path} is no result of calotype-bench: {type(error).__name__}: {error}"
        ) from error


def _check_machine(found: Mapping[str, Any]) -> None:
    missing = _MACHINE - set(found)
    if missing:
        raise KeyError(f"machine.{min(missing)}")


def _latency(content: dict[str, Any]) -> Latency:
    measurements = tuple(
        Measurement(Job(**each["job"]), each["runs"], each["reference"], tuple(map(_row, each["rows"])))
        for each in content.pop("measurements")
    )
    if not len(measurements) == len(content["floors"]) > 0:
        raise ValueError(f"{len(measurements)} measurements with {len(content['floors'])} floors")
    rates = {precision: Rates(**each) for precision, each in content.pop("rates").items()}
    return Latency(measurements=measurements, rates=rates, **_tuples(content))


def _comparison(content: dict[str, Any]) -> Comparison:
    pairs = tuple(Pair(fidelity=Fidelity(**each.pop("fidelity")), **each) for each in content.pop("pairs"))
    kept = 1 + max((pair.request for pair in pairs if pair.found), default=-1)
    if kept > len(content["expected"]):
        raise ValueError(f"{len(content['expected'])} pictures of the reference, expected {kept}")
    return Comparison(pairs=pairs, **_tuples(content))


def _row(content: dict[str, Any]) -> Row:
    ready, first, fidelity = (content[name] for name in ("ready", "first", "fidelity"))
    return Row(
        Engine(**content["engine"]),
        Ready(**ready) if ready else None,
        Drawn(**first) if first else None,
        tuple(Drawn(**each) for each in content["samples"]),
        content["failure"],
        Fidelity(**fidelity) if fidelity else None,
        tuple(Start(**each) for each in content.get("starts", ())),
    )


def _tuples(content: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists alone."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
