"""Tiny bundles for the tests: `python -m tests.bundles FOLDER [NAME ...]` exports those missing or out of date.

It needs torch. The runtime's tests, which run without torch, only open what it leaves behind.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".cache" / "test-bundles"


@dataclass(frozen=True, slots=True)
class Recipe:
    """A synthetic checkpoint and the options that it is exported with."""

    checkpoint: str
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


RECIPES = {
    "plain": Recipe("tiny-sd15", MappingProxyType({"batches": (1, 2)})),
    "v-prediction": Recipe("tiny-sd21"),
    "inpainting": Recipe("tiny-sd2-inpainting"),
    "depth": Recipe("tiny-sd2-depth"),
    "unguided": Recipe("tiny-sd21-base", MappingProxyType({"unguided": True})),
}


def bundle(name: str) -> Path:
    """The folder of the bundle `name`, which must have been exported."""
    path = FOLDER / name
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is missing; run `python -m tests.bundles` where torch is installed")
    return path


def checkpoint(name: str) -> Path:
    """The folder of the synthetic checkpoint that the bundle `name` was exported from."""
    return FOLDER / "checkpoints" / RECIPES[name].checkpoint


def export(folder: Path, names: Sequence[str] = tuple(RECIPES)) -> None:
    """Write checkpoints and bundles of `names` that are missing, all of them when the exporter has changed."""
    from calotype_export import build, code, synthetic
    from calotype_export.console import silence_libraries

    silence_libraries()
    stamp = folder / "stamp"
    found = code.digest([Path(__file__)])
    if not stamp.is_file() or stamp.read_text("utf-8") != found:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    for name in names:
        recipe = RECIPES[name]
        source = folder / "checkpoints" / recipe.checkpoint
        if not source.is_dir():
            source.parent.mkdir(exist_ok=True)
            synthetic.write(recipe.checkpoint, source)
        if not (folder / name).is_dir():
            build.build(build.BuildOptions(checkpoint=str(source), output=folder / name, **recipe.options))
            print(f"exported {name}", file=sys.stderr, flush=True)  # noqa: T201
    stamp.write_text(found, "utf-8")


if __name__ == "__main__":
    export(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER, sys.argv[2:] or tuple(RECIPES))
