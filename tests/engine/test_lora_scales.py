"""How strongly a LoRA changes a weight: its own alpha, PEFT's settings beside it, and weights on a command line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype import lora
from calotype.errors import CheckpointError
from calotype.lora import LoraFile
from tests.engine import lora_files

TO_V, OUT = f"{lora_files.ATTENTION}.to_v", f"{lora_files.TEXT}.out_proj"
SHAPES = {"unet": {TO_V: (32, 32)}, "text_encoder": {OUT: (32, 32)}}


def scales(folder: Path, settings: dict[str, Any], alpha: float | None = None) -> tuple[float, float]:
    """Those of the UNet's weight and of the text encoder's, at half the LoRA's strength."""
    tensors = lora_files.peft(1)
    if alpha is not None:
        tensors |= {f"unet.{TO_V}.alpha": np.array(alpha, np.float32)}
    said = {"lora_adapter_metadata": json.dumps(settings)}
    path = lora_files.write(folder / "style.safetensors", tensors, said)
    found = lora.read(LoraFile(path, 0.5), SHAPES)
    return found["unet"][TO_V].scale, found["text_encoder"][OUT].scale


def test_settings_are_those_of_their_own_component(tmp_path: Path) -> None:
    assert scales(tmp_path, {}) == (0.5, 0.5)
    assert scales(tmp_path, {"unet.lora_alpha": 8}) == (0.5 * 8 / 4, 0.5)
    assert scales(tmp_path, {"text_encoder.lora_alpha": 8}) == (0.5, 0.5 * 8 / 4)
    root = {"unet.lora_alpha": 8, "unet.use_rslora": True}
    assert scales(tmp_path, root) == (0.5 * 8 / math.sqrt(4), 0.5)


def test_an_alpha_in_the_file_itself_counts_before_the_settings(tmp_path: Path) -> None:
    assert scales(tmp_path, {"unet.lora_alpha": 8, "unet.use_rslora": True}, alpha=2.0)[0] == 0.5 * 2 / 4


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("to_v", True),
        (r"attn1\.to_v", True),
        (".*to_v", True),
        ("o_v", False),
        ("to_", False),
        ("attn1", False),
    ],
)
def test_a_pattern_names_the_end_of_a_layers_name_from_a_dot_on(
    tmp_path: Path, pattern: str, fits: bool
) -> None:
    settings = {"unet.lora_alpha": 8, "unet.alpha_pattern": {pattern: 16}}
    assert scales(tmp_path, settings)[0] == 0.5 * (16 if fits else 8) / 4


def test_the_first_of_several_patterns_that_fit_counts(tmp_path: Path) -> None:
    settings = {"unet.alpha_pattern": {"to_q": 1, "to_v": 16, r"attn1\.to_v": 32}}
    assert scales(tmp_path, settings)[0] == 0.5 * 16 / 4


def test_a_pattern_may_name_a_layer_of_the_text_encoder_by_its_public_name(tmp_path: Path) -> None:
    settings = {"text_encoder.alpha_pattern": {rf"text_model\.{lora_files.TEXT}\.out_proj": 16}}
    assert scales(tmp_path, settings) == (0.5, 0.5 * 16 / 4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"unet.lora_alpha": "8"}, "unet.lora_alpha cannot be '8'"),
        ({"unet.lora_alpha": True}, "unet.lora_alpha cannot be True"),
        ({"unet.lora_alpha": math.nan}, "unet.lora_alpha cannot be nan"),
        ({"unet.lora_alpha": -math.inf}, "unet.lora_alpha cannot be -inf"),
        ({"unet.lora_alpha": 10**400}, "unet.lora_alpha cannot be 1000"),
        ({"unet.alpha_pattern": {"to_v": math.inf}}, "unet.alpha_pattern cannot be"),
        ({"unet.alpha_pattern": {"(": 8}}, "unet.alpha_pattern cannot be"),
        ({"unet.alpha_pattern": {"to_v": None}}, "unet.alpha_pattern cannot be"),
        ({"unet.alpha_pattern": ["to_v"]}, "unet.alpha_pattern cannot be"),
        ({"text_encoder.use_rslora": 1}, "text_encoder.use_rslora cannot be 1"),
    ],
)
def test_settings_that_are_none_are_refused_by_name(
    tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said.replace("(", r"\(")):
        scales(tmp_path, settings)


def test_a_file_and_its_weight_are_told_apart_by_the_last_colon() -> None:
    assert LoraFile.parse("a.safetensors") == LoraFile(Path("a.safetensors"), 1.0)
    assert LoraFile.parse("C:/a.safetensors") == LoraFile(Path("C:/a.safetensors"), 1.0)
    assert LoraFile.parse("C:/a.safetensors:0.5") == LoraFile(Path("C:/a.safetensors"), 0.5)
    assert LoraFile.parse("a.safetensors:-2") == LoraFile(Path("a.safetensors"), -2.0)


@pytest.mark.parametrize("weight", ["x", "", "nan", "inf"])
def test_a_weight_that_is_no_finite_number_is_refused(weight: str) -> None:
    with pytest.raises(ValueError, match=r"expected FILE\[:WEIGHT\], where .* is "):
        LoraFile.parse(f"a.safetensors:{weight}")
