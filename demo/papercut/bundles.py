"""Bundles of the demo checkpoints. In: a checkpoint's folder; out: the bundle's folder, exported when it is missing."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from calotype_export import code


def open_bundle(checkpoint: Path, bundles: Path) -> Path:
    """The bundle that this very exporter makes of these very weights, in `bundles`; exported now unless it is there."""
    weights = (*checkpoint.glob("*.json"), *checkpoint.glob("*/*"))
    bundle = bundles / f"{checkpoint.name}-{code.digest(weights)[:8]}"
    bundles.mkdir(parents=True, exist_ok=True)
    with FileLock(bundles / f"{checkpoint.name}.lock"):  # two processes that want it: one exports, one waits
        if not bundle.exists():
            from calotype_export.build import BuildOptions, build

            build(BuildOptions(checkpoint=checkpoint, output=bundle))
    return bundle
