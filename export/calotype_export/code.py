"""The code that decides what a bundle is, so that what was exported by other code can be told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import calotype.manifest
import calotype.records


def digest(further: Iterable[Path] = ()) -> str:
    """sha256 of the exporter's sources, of the manifest's, and of the files in `further`."""
    own = [
        *Path(__file__).parent.glob("*.py"),
        *map(Path, (calotype.manifest.__file__, calotype.records.__file__)),
    ]
    found = hashlib.sha256()
    for path in sorted([*own, *further]):
        found.update(path.read_bytes())
    return found.hexdigest()
