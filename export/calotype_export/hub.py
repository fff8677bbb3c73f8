"""Fetch a checkpoint from the Hugging Face Hub: an id and a revision in, a folder of its pinned commit out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import huggingface_hub
from huggingface_hub.errors import HFValidationError, HTTPError

from calotype.errors import CheckpointError
from calotype_export import configs, weight_files
from calotype_export.components import KINDS
from calotype_export.progress import Progress

_SMALL = (".json", ".txt")


def fetch(repository: str, revision: str | None, progress: Progress) -> tuple[Path, str]:
    """Download configs, vocabulary and safetensors of `repository`; the folder and the commit it is.

    The commit is resolved once and every file comes from it. Raises CheckpointError when the Hub has no such
    repository or cannot be reached, or when it is no checkpoint in diffusers' layout.
    """
    try:
        found = huggingface_hub.HfApi().model_info(repository, revision=revision)
        commit = str(found.sha)
        names = [sibling.rfilename for sibling in found.siblings or []]
        if "model_index.json" not in names:
            raise CheckpointError(
                f"{repository} is no checkpoint in diffusers' layout: it has no model_index.json",
                "download its .safetensors file and give it with --config FOLDER",
            )
        index = Path(huggingface_hub.hf_hub_download(repository, "model_index.json", revision=commit))
        files = _files(configs.read(index), names)
        for done, name in enumerate(files, start=1):
            huggingface_hub.hf_hub_download(repository, name, revision=commit)
            progress(f"downloading {repository}", done, len(files))
    except (HTTPError, HFValidationError, OSError) as error:  # httpx's errors of the network are no OSError
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{repository} could not be fetched from the Hub: {reason}",
            "check the spelling, the network, and `hf auth login` for gated models; a folder works without a network",
        ) from error
    return index.parent, commit


def _files(index: Mapping[str, Any], names: list[str]) -> list[str]:
    """The files of the components in `index` that an export reads."""
    chosen: list[str] = []
    for component, entry in sorted(index.items()):
        if not isinstance(entry, list) or len(entry) != 2 or entry[0] is None:
            continue
        inside = [PurePosixPath(name).name for name in names if str(PurePosixPath(name).parent) == component]
        small = [name for name in inside if name.endswith(_SMALL)]
        kind = KINDS.get(str(entry[1]))
        weights = weight_files.wanted(inside, kind.weights) if kind else ()
        chosen += [f"{component}/{name}" for name in (*small, *weights)]
    return chosen
