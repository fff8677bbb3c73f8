"""The three folders are diffusers checkpoints, small, float16 and sharing what they can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from papercut.checkpoints import DEPTH, INPAINTING, TEXT_TO_IMAGE

DEMO = Path(__file__).parents[2] / "demo"
FOLDERS = (TEXT_TO_IMAGE, INPAINTING, DEPTH)


def _config(folder: str, part: str) -> dict[str, Any]:
    return json.loads((DEMO / folder / part / "config.json").read_text())


def test_everything_together_stays_under_24_megabytes() -> None:
    files = [path for folder in FOLDERS for path in (DEMO / folder).rglob("*")]
    assert (
        sum(path.stat().st_size for path in files if path.is_file() and not path.parent.is_symlink()) < 24e6
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_weights_are_float16(folder: str) -> None:
    for path in (DEMO / folder).rglob("*.safetensors"):
        with safe_open(path, framework="np") as weights:
            assert {weights.get_slice(name).get_dtype() for name in list(weights.keys())} <= {"F16", "I64"}, (
                path.name
            )


def test_the_text_encoders_weights_have_the_names_of_public_checkpoints() -> None:
    with safe_open(DEMO / TEXT_TO_IMAGE / "text_encoder" / "model.safetensors", framework="np") as weights:
        assert all(name.startswith("text_model.") for name in weights.keys())  # noqa: SIM118


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_unet_has_at_most_3_3_million_parameters(folder: str) -> None:
    weights = DEMO / folder / "unet" / "diffusion_pytorch_model.safetensors"
    assert weights.stat().st_size < 2 * 3.3e6 + 1e5


@pytest.mark.parametrize(("folder", "channels"), zip(FOLDERS, (4, 9, 5), strict=True))
def test_a_unet_takes_the_channels_of_its_task(folder: str, channels: int) -> None:
    assert _config(folder, "unet")["in_channels"] == channels


@pytest.mark.parametrize("folder", FOLDERS[1:])
@pytest.mark.parametrize("part", ["vae", "text_encoder", "tokenizer", "scheduler"])
def test_what_is_shared_is_a_relative_link(folder: str, part: str) -> None:
    link = DEMO / folder / part
    assert link.is_symlink() and not link.readlink().is_absolute()
    assert link.resolve() == (DEMO / TEXT_TO_IMAGE / part).resolve()
