"""Bundles of the demo checkpoints. In: a checkpoint's folder; out: the bundle's folder, exported when it is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import calotype.manifest
import calotype_export


def open_bundle(checkpoint: Path, bundles: Path) -> Path:
    """The bundle that this very exporter makes of these very weights, in `bundles`; exported now unless it is there."""
    bundle = bundles / f"{checkpoint.name}-{_digest(checkpoint)}"
    if not bundle.exists():
        from calotype_export.build import BuildOptions, build

        bundles.mkdir(parents=True, exist_ok=True)
        build(BuildOptions(checkpoint=checkpoint, output=bundle))
    return bundle


def _digest(checkpoint: Path) -> str:
    """Eight hexadecimal digits of all weights and configurations, and of what makes a bundle of them."""
    digest = hashlib.sha256()
    exporter = (Path(calotype_export.__file__ or "").parent, Path(calotype.manifest.__file__))
    sources = (*exporter[0].glob("*.py"), exporter[1])
    for path in sorted((*checkpoint.glob("*.json"), *checkpoint.glob("*/*"), *sources)):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
