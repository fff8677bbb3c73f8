"""From what a command names to engines: bundles on backends, and peers with the checkpoint they were made from."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from calotype import backends, compiled
from calotype.bundle import Bundle
from calotype.errors import RequestError
from calotype_bench import peers, requested, single_files
from calotype_bench.jobs import TEXT_TO_IMAGE, Engine
from calotype_bench.order import Reports
from calotype_export.locate import locate


def engines(options: argparse.Namespace, bundles: Sequence[Bundle]) -> list[Engine]:
    """The rows, the first bundle's first; peers are `located` later. RequestError for what means nothing."""
    _check_sizes(bundles)
    if options.config is not None and options.checkpoint is None:
        raise RequestError(
            "--config: expected the checkpoint that it describes", "--checkpoint FILE.safetensors"
        )
    found = _ours(options, bundles)
    for name in options.against:
        if name in peers.names() and options.checkpoint is not None:
            found.append(peers.engine(name, options.checkpoint, options.device, options.threads))
        elif name in peers.names():
            raise RequestError(
                f"--against {name} needs the checkpoint that the bundle was made from",
                "--checkpoint CHECKPOINT",
            )
        elif name in backends.names():
            row = _calotype(options, bundles[0], name)
            found += [row] if row not in found else []  # what `--backend auto` chose may be named here too
        else:
            raise _unknown(
                "--against", name, f"backends ({', '.join(backends.names())}) or ", backends.names()
            )
    return _distinct(found, requested.task(options, bundles))


def compared(options: argparse.Namespace, bundles: Sequence[Bundle]) -> list[Engine]:
    """Eager diffusers in fp32, bundles on backends, eager diffusers in the precisions of `--noise`, and other peers,
    which are `located` later. RequestError for what means nothing.
    """
    _check_sizes(bundles)
    for name in options.beside:
        if name not in peers.names():
            raise _unknown("--beside", name)
    task = requested.task(options, bundles)
    if "fp64" in options.noise and task != TEXT_TO_IMAGE:
        raise RequestError(f"--noise fp64: diffusers draws other noise in float64 for {task}", "--noise bf16")
    names = ("eager", *(f"eager-{precision}" for precision in options.noise), *options.beside)
    reference, *others = (
        peers.engine(name, options.against, options.device, options.threads) for name in names
    )
    engines = _distinct([reference, *_ours(options, bundles), *others], task)
    return [dataclasses.replace(engine, timed=False) for engine in engines]


def exact(options: argparse.Namespace, engines: Sequence[Engine]) -> list[Engine]:
    """Eager diffusers in fp32, for one picture to compare with, where a checkpoint is named and no row is that."""
    if options.checkpoint is None or any((row.name, row.dtype) == ("eager", "fp32") for row in engines):
        return []
    found = peers.engine("eager", options.checkpoint, options.device, options.threads)
    return [dataclasses.replace(found, timed=False, task=engines[0].task)]


def checkpoint(named: str, config: Path | None, bundles: Sequence[Bundle], reports: Reports) -> Path:
    """The folder that was named; or what was fetched where that is a Hub id, of the commit that the first bundle tells;
    or what was written of a single file and `config`.

    CheckpointError; RequestError where it is not what the bundles were made from.
    """
    if config is not None:
        file = Path(named).expanduser()
        check_same(bundles, file.parent, config)
        return single_files.unpacked(file, config, reports.say)
    revision = bundles[0].manifest.source.get("revision")
    folder, *_ = locate(named, revision, lambda stage, done, all: reports.say(f"{stage} {done}/{all}"))
    check_same(bundles, folder)
    return folder


def located(engines: Sequence[Engine], folder: Path) -> list[Engine]:
    """The engines, peers with the checkpoint's folder."""
    return [
        engine if engine.name == "calotype" else dataclasses.replace(engine, path=str(folder))
        for engine in engines
    ]


def _unknown(option: str, name: str, further: str = "", names: Sequence[str] = ()) -> RequestError:
    nearest = difflib.get_close_matches(name, (*names, *peers.names()), 1)
    return RequestError(
        f"{option} {name}: expected {further}peers ({', '.join(peers.PEERS)}, each also with -bf16 or -fp16)",
        f"did you mean {nearest[0]}?" if nearest else "",
    )


def described(bundles: Sequence[Bundle]) -> tuple[Mapping[str, str], ...]:
    """What a result says of its bundles."""
    return tuple(
        {
            "precision": bundle.manifest.precision,
            "digest": bundle.digest,
            "checkpoint": str(bundle.manifest.source.get("checkpoint", "")),
            "revision": str(bundle.manifest.source.get("revision") or ""),
        }
        for bundle in bundles
    )


def check_same(bundles: Sequence[Bundle], *folders: Path) -> None:
    """RequestError where the weights in these folders are not those that all bundles were made from."""
    found: dict[str, str] = {}
    for bundle in bundles:
        recorded: dict[str, str] = dict(bundle.manifest.source.get("sha256", {}))
        for name, expected in recorded.items():
            places = [folder / name for folder in folders]
            path = next((place for place in places if place.is_file()), places[0])
            if name not in found:
                found[name] = _digest(path)
            if found[name] != expected:
                raise RequestError(
                    f"{path}: expected sha256 {expected}, found {found[name]}",
                    "name the checkpoint that the bundles were made from",
                )


def _digest(path: Path) -> str:
    if not path.is_file():
        raise RequestError(f"{path} is missing", "name the checkpoint that the bundles were made from")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_sizes(bundles: Sequence[Bundle]) -> None:
    """RequestError where bundles draw pictures of different sizes."""
    sizes = {(bundle.manifest.width, bundle.manifest.height) for bundle in bundles}
    if len(sizes) > 1:
        found = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise RequestError(f"bundles: expected one size of pictures, found {found}")


def _distinct(found: list[Engine], task: str) -> list[Engine]:
    """The rows, each with its task. RequestError where two would have one name."""
    labels = [engine.label for engine in found]
    for label in labels:
        if labels.count(label) > 1:
            raise RequestError(f"{label}: named twice", "one bundle a precision, each backend and peer once")
    return [dataclasses.replace(engine, task=task) for engine in found]


def _ours(options: argparse.Namespace, bundles: Sequence[Bundle]) -> list[Engine]:
    """Every bundle on every backend of --backend. RequestError where one has no such name, or cannot run there."""
    known = ("auto", *backends.names())
    for name in options.backend:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1)
            raise RequestError(
                f"--backend {name}: expected some of {', '.join(known)}",
                f"did you mean {nearest[0]}?" if nearest else "",
            )
    if any(bundle.manifest.guided for bundle in bundles) and not 1 < options.guidance_scale < math.inf:
        raise RequestError(
            f"--guidance-scale {options.guidance_scale}: expected more than 1, with which a guided bundle was made: "
            "eager diffusers draws without guidance otherwise"
        )
    return [_calotype(options, bundle, name) for bundle in bundles for name in options.backend]


def _calotype(options: argparse.Namespace, bundle: Bundle, backend: str) -> Engine:
    precision = bundle.manifest.precision
    if backend == "auto":
        backend = backends.choose(backend, precision, options.device, compiled.backends(bundle.root))
    return Engine("calotype", str(bundle.root), backend, precision, options.device, options.threads)
