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
from calotype_bench import peers
from calotype_bench.jobs import Engine


def engines(options: argparse.Namespace, bundles: Sequence[Bundle]) -> list[Engine]:
    """The rows of a command, the first bundle's first. RequestError for names that mean nothing."""
    _check_sizes(bundles)
    found = _ours(options, bundles)
    checkpoint: Path | None = options.checkpoint
    if checkpoint is not None:
        check_same(bundles, checkpoint)
    for name in options.against:
        if name in peers.names() and checkpoint is not None:
            found.append(peers.engine(name, checkpoint, options.device, options.threads))
        elif name in peers.names():
            raise RequestError(
                f"--against {name} needs the checkpoint that the bundle was made from", "--checkpoint FOLDER"
            )
        elif name in backends.names():
            row = _calotype(options, bundles[0], name)
            found += [row] if row not in found else []  # what `--backend auto` chose may be named here too
        else:
            raise _unknown(
                "--against", name, f"backends ({', '.join(backends.names())}) or ", backends.names()
            )
    return _distinct(found)


def compared(options: argparse.Namespace, bundles: Sequence[Bundle]) -> list[Engine]:
    """Eager diffusers in fp32, bundles on backends, eager diffusers in the precisions of `--noise`, and other peers."""
    _check_sizes(bundles)
    check_same(bundles, options.against)
    for name in options.beside:
        if name not in peers.names():
            raise _unknown("--beside", name)
    names = ("eager", *(f"eager-{precision}" for precision in options.noise), *options.beside)
    reference, *others = (
        peers.engine(name, options.against, options.device, options.threads) for name in names
    )
    engines = _distinct([reference, *_ours(options, bundles), *others])
    return [dataclasses.replace(engine, timed=False) for engine in engines]


def exact(options: argparse.Namespace, engines: Sequence[Engine]) -> list[Engine]:
    """Eager diffusers in fp32, for one picture to compare with, where a checkpoint is named and no row is that."""
    if options.checkpoint is None or any((row.name, row.dtype) == ("eager", "fp32") for row in engines):
        return []
    found = peers.engine("eager", options.checkpoint, options.device, options.threads)
    return [dataclasses.replace(found, timed=False)]


def _unknown(option: str, name: str, further: str = "", names: Sequence[str] = ()) -> RequestError:
    nearest = difflib.get_close_matches(name, (*names, *peers.names()), 1)
    return RequestError(
        f"{option} {name}: expected {further}peers ({', '.join(peers.PEERS)}, each also with -bf16 or -fp16)",
        f"did you mean {nearest[0]}?" if nearest else "",
    )


def described(bundles: Sequence[Bundle]) -> tuple[Mapping[str, str], ...]:
    """What a result says of its bundles."""
    return tuple({"precision": bundle.manifest.precision, "digest": bundle.digest} for bundle in bundles)


def check_same(bundles: Sequence[Bundle], checkpoint: Path) -> None:
    """RequestError where the checkpoint's weights are not those that all bundles were made from."""
    found: dict[str, str] = {}
    for bundle in bundles:
        recorded: dict[str, str] = dict(bundle.manifest.source.get("sha256", {}))
        for name, expected in recorded.items():
            if name not in found:
                found[name] = _digest(checkpoint / name)
            if found[name] != expected:
                raise RequestError(
                    f"{checkpoint / name}: expected sha256 {expected}, found {found[name]}",
                    "name the folder that the bundles were made from",
                )


def _digest(path: Path) -> str:
    if not path.is_file():
        raise RequestError(f"{path} is missing", "name the folder that the bundles were made from")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_sizes(bundles: Sequence[Bundle]) -> None:
    """RequestError where bundles draw pictures of different sizes."""
    sizes = {(bundle.manifest.width, bundle.manifest.height) for bundle in bundles}
    if len(sizes) > 1:
        found = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise RequestError(f"bundles: expected one size of pictures, found {found}")


def _distinct(found: list[Engine]) -> list[Engine]:
    """RequestError where two rows would have one name."""
    labels = [engine.label for engine in found]
    for label in labels:
        if labels.count(label) > 1:
            raise RequestError(f"{label}: named twice", "one bundle a precision, each backend and peer once")
    return found


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
