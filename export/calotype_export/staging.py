"""A folder that appears whole or not at all: written beside its place and renamed into it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from calotype.errors import CheckpointError


def refuse_existing(output: Path) -> None:
    """CheckpointError where something is at `output` already."""
    if os.path.lexists(output):  # a link to nowhere too
        raise CheckpointError(f"{output} exists already", "remove it, or write to another name with -o")


@contextmanager
def staged(output: Path) -> Generator[Path]:
    """A new folder beside `output`, which takes its name when the block ends; whatever ends it early removes it.

    CheckpointError where something is at `output` already, its parent is no folder, or the disk is full.
    """
    refuse_existing(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"{output.parent}: no folder can be made there: {error.strerror}",
            "write to another place with -o",
        ) from error
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
    try:
        yield folder
        folder.chmod(0o755)
        for path in (*folder.rglob("*"), folder):
            _sync(path)
        folder.rename(output)
        _sync(output.parent)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        free = shutil.disk_usage(output.parent).free
        raise CheckpointError(
            f"the disk is full: {output} could not be written ({free / 2**20:.0f} MiB free); nothing is left",
            "free some space, or choose another place with -o",
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    """Wait until `path`, a file or a folder, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
