"""Random-weight models of the public architectures, traced into bundles that nothing is compared in."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from calotype_export import build, synthetic
from calotype_export.build import BuildOptions
from calotype_export.progress import Progress, silent


def draft(
    name: str, precision: str, folder: Path, batches: tuple[int, ...] = (1,), progress: Progress = silent
) -> tuple[Path, Path]:
    """Write a checkpoint of the model `name` and a bundle of it, all in `precision`, into `folder`."""
    checkpoint = synthetic.write(name, folder / "checkpoint", dtype=precision, progress=progress)
    root = folder / "bundle"
    root.mkdir()
    options = BuildOptions(checkpoint, root, batches=batches, precision=precision, vae_precision=precision)
    build.draft(build.opened(options, progress), options, root, progress)
    return checkpoint, root


def parser(
    description: str | None, names: Sequence[str], precisions: Sequence[str]
) -> argparse.ArgumentParser:
    """The options of a command that looks at such models, and writes its figures."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument(
        "names", nargs="*", default=names, metavar="NAME", help=f"(default: {' '.join(names)})"
    )
    found.add_argument("--precision", default="fp16", choices=precisions, help="(default: fp16)")
    found.add_argument("-o", "--output", type=Path, metavar="RESULT.json")
    return found
