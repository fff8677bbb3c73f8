"""A checkpoint in one .safetensors file, written in diffusers' layout, which is what peers load.

`python -m calotype_bench.single_files FILE CONFIGS FOLDER` writes FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

from calotype.errors import CheckpointError
from calotype_bench import environments
from calotype_bench.environments import PeerError, Say


def unpacked(file: Path, configs: Path, say: Say) -> Path:
    """The folder that was written of them: now, or at an earlier call. CheckpointError."""
    try:
        return Path(environments.exported("diffusers", sys.executable, "single_files", [file, configs], say))
    except PeerError as error:
        raise CheckpointError(str(error)) from error


def main() -> None:
    """Write what the exporter reads, in float32."""
    from calotype_export.single_file import open_single_file

    file, configs, folder = sys.argv[1:]
    open_single_file(file, configs).pipeline().save_pretrained(folder)


if __name__ == "__main__":
    main()
