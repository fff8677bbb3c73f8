"""Which files hold a component's weights, and whether they are whole: a folder in, checked safetensors files out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from calotype import tensor_files
from calotype.errors import CheckpointError
from calotype_export.progress import Progress, silent

_BLOCK = 16 * 2**20  # bytes hashed at a time
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The safetensors files of one component, and the variant (`fp16` or None) that their names carry."""

    paths: tuple[Path, ...]
    variant: str | None


def wanted(names: Iterable[str], weights: str) -> tuple[str, ...]:
    """Of a component folder's file names those to download: the plain weights, else the fp16 ones."""
    present = sorted(names)
    stem = weights.removesuffix(".safetensors")
    for mark in ("", ".fp16"):
        shards = [
            name for name in present if name.startswith(f"{stem}{mark}-") and name.endswith(".safetensors")
        ]
        if f"{stem}{mark}.safetensors" in present:
            return (f"{stem}{mark}.safetensors",)
        if shards:
            return tuple(shards)
    return ()


def find(folder: Path, weights: str) -> WeightFiles:
    """The weights in `folder`, usually called `weights`: whole or in shards, plain or else fp16.

    Raises CheckpointError where there are none, where a shard is missing, and where a file is cut off.
    """
    stem = weights.removesuffix(".safetensors")
    for variant, mark in ((None, ""), ("fp16", ".fp16")):
        single, index = folder / f"{stem}{mark}.safetensors", folder / f"{weights}.index{mark}.json"
        if single.is_file():
            return _checked((single,), variant)
        if index.is_file():
            return _checked(_shards(index), variant)
    pickles = (
        sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES) if folder.is_dir() else []
    )
    if pickles:
        raise CheckpointError(
            f"{folder.name} has its weights in a pickle only: {', '.join(pickles)}", tensor_files.PICKLE_HINT
        )
    raise CheckpointError(
        f"{folder.name}/{weights} is missing", "is this a complete download of the checkpoint?"
    )


def digest(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    (found,) = digests([path]).values()
    return found


def digests(paths: Sequence[Path], progress: Progress = silent) -> dict[Path, str]:
    """SHA-256 of each file, as hexadecimal digits; `progress` counts mebibytes."""
    total, done = sum(path.stat().st_size for path in paths), 0
    found: dict[Path, str] = {}
    for path in paths:
        sum256 = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                progress("hash weights (MiB)", done // 2**20, -(-total // 2**20))
                sum256.update(block)
                done += len(block)
        found[path] = sum256.hexdigest()
    progress("hash weights (MiB)", -(-total // 2**20), -(-total // 2**20))
    return found


def _shards(index: Path) -> tuple[Path, ...]:
    where = f"{index.parent.name}/{index.name}"
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if not names or not all(isinstance(name, str) for name in names):
            raise TypeError("the map is of weights to names of files")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{where} is no index of weight files") from error
    for name in names:
        if PurePosixPath(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{where} names {name!r}, which is no safetensors file beside it")
    return tuple(index.parent / name for name in names)


def _checked(paths: Sequence[Path], variant: str | None) -> WeightFiles:
    for path in paths:
        if not path.is_file():
            raise CheckpointError(
                f"{path.parent.name}/{path.name} is missing", "download the checkpoint again"
            )
        tensor_files.check(path)
    return WeightFiles(tuple(paths), variant)
