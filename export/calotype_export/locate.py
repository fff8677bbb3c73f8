"""Where a checkpoint lies: a folder of this machine, or one that is fetched from the Hub."""

from __future__ import annotations

import re
from pathlib import Path

from calotype import tensor_files
from calotype.errors import CheckpointError
from calotype_export import weight_files
from calotype_export.progress import Progress, silent

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def locate(
    source: Path | str, revision: str | None = None, progress: Progress = silent
) -> tuple[Path, str, str | None]:
    """The folder, a name for people, and the commit where it is of the Hub, for which alone `revision` is.

    Raises CheckpointError where there is neither, or the Hub cannot be reached.
    """
    path = Path(source).expanduser()
    if path.is_file():
        hint = (
            tensor_files.PICKLE_HINT
            if path.suffix in weight_files.PICKLES
            else (
                "a single .safetensors file needs --config FOLDER: a checkpoint's folder without its weights"
            )
        )
        raise CheckpointError(f"{path.name} is a file, expected a folder in diffusers' layout", hint)
    if path.is_dir():
        return path, path.resolve().name, None
    if not _HUB_ID.fullmatch(str(source)):
        raise CheckpointError(
            f"there is no folder {source}", "give a folder in diffusers' layout, or a Hub id `owner/name`"
        )
    from calotype_export import hub

    folder, commit = hub.fetch(str(source), revision, progress)
    return folder, str(source), commit
