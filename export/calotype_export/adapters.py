"""Textual-inversion files (Gal et al. 2022), of diffusers and of the AUTOMATIC1111 web UI: words and their vectors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from calotype import tensor_files
from calotype.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class EmbeddingFile:
    """A textual inversion to add, and the word that calls it (the file's own where it is None)."""

    path: Path
    token: str | None = None


def read_embedding(file: EmbeddingFile, width: int) -> tuple[str, Tensor]:
    """The word and its vectors (n, `width`). CheckpointError for files that are no textual inversion, or too wide."""
    tensors, _ = tensor_files.read(file.path)
    if len(tensors) != 1:
        raise CheckpointError(f"{file.path.name}: expected one tensor, found {', '.join(sorted(tensors)) or 'none'}",
                              "textual inversions of Stable Diffusion 1 and 2 have one")  # fmt: skip
    ((name, array),) = tensors.items()
    tensor = torch.from_numpy(array.copy())
    token = file.token or (file.path.stem if name == "emb_params" else name)
    vectors = tensor[None] if tensor.ndim == 1 else tensor
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise CheckpointError(
            f"{file.path.name}: the embedding has shape {tuple(tensor.shape)}, expected vectors of {width}",
            "it was made for another family of models",
        )
    return token, vectors
