"""Spoil a checkpoint's files, and read why it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from calotype.errors import CheckpointError
from calotype_export.checkpoint import open_checkpoint

UNET = "unet/diffusion_pytorch_model.safetensors"


def change(path: Path, **fields: Any) -> None:
    """Set fields of a JSON file; None removes one."""
    content = {**json.loads(path.read_text("utf-8")), **fields}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}), "utf-8")


def refused(path: Path, message: str) -> str:
    """The hint of the error with `message` that opening `path` raises."""
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(path)
    return caught.value.hint
