"""Bundles of the demo checkpoints. In: a checkpoint's folder; out: the bundle's folder, exported when it is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path


def open_bundle(checkpoint: Path, bundles: Path) -> Path:
    """The bundle of these very weights in `bundles`, exported now unless it is there."""
    bundle = bundles / f"{checkpoint.name}-{_digest(checkpoint)}"
    if not bundle.exists():
        from calotype_export.build import BuildOptions, build

        bundles.mkdir(parents=True, exist_ok=True)
        build(BuildOptions(checkpoint=checkpoint, output=bundle))
    return bundle


def _digest(checkpoint: Path) -> str:
    """Eight hexadecimal digits of all weights and configurations."""
    digest = hashlib.sha256()
    for path in sorted(checkpoint.glob("*/*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]
