"""The one door to checkpoints: what a person names on the command line in, a Checkpoint with everything merged out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from calotype.errors import CheckpointError
from calotype.lora import LoraFile
from calotype_export.adapters import EmbeddingFile
from calotype_export.checkpoint import Checkpoint, open_checkpoint
from calotype_export.merge import merged
from calotype_export.progress import Progress, silent
from calotype_export.single_file import open_single_file


@dataclass(frozen=True, slots=True)
class Source:
    """A folder, a Hub id or a .safetensors file (which needs `config`), and what is merged into it."""

    checkpoint: Path | str
    revision: str | None = None
    config: Path | None = None
    loras: tuple[LoraFile, ...] = ()
    embeddings: tuple[EmbeddingFile, ...] = ()


def open_source(source: Source, progress: Progress = silent) -> Checkpoint:
    """The checkpoint that `source` names. CheckpointError says what is wrong with it; nothing is loaded yet."""
    if source.revision is not None and Path(source.checkpoint).exists():
        raise CheckpointError(f"--revision {source.revision}: {source.checkpoint} lies on this machine",
                              "--revision goes with a Hub id `owner/name`")  # fmt: skip
    if source.config is None:
        found = open_checkpoint(source.checkpoint, source.revision, progress)
    elif Path(source.checkpoint).is_dir():
        raise CheckpointError(f"--config: {source.checkpoint} is a folder, which has configs of its own",
                              "--config goes with a single .safetensors file")  # fmt: skip
    else:
        found = open_single_file(source.checkpoint, source.config)
    return merged(found, source.loras, source.embeddings) if source.loras or source.embeddings else found
