"""Every key that the usual scripts write for Stable Diffusion 1.5 and 2.1 finds its weight in the full-size models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from calotype import lora
from calotype.backends import Array
from calotype.lora import LoraFile, Shapes
from calotype_export import architectures
from calotype_export.merge import shapes_of
from tests.engine import lora_files

# The blocks that have attention, as they are called in the published files: 16 of them.
TRANSFORMERS = [
    *(f"down_blocks.{block}.attentions.{layer}" for block in range(3) for layer in range(2)),
    "mid_block.attentions.0",
    *(f"up_blocks.{block}.attentions.{layer}" for block in range(1, 4) for layer in range(3)),
]
ATTENTION = [f"attn{index}.{name}" for index in (1, 2) for name in ("to_q", "to_k", "to_v", "to_out.0")]
TEXT = ["mlp.fc1", "mlp.fc2", *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out"))]
CONVOLUTIONS = [
    *(
        f"down_blocks.{block}.resnets.{layer}.conv{index}"
        for block in range(4)
        for layer in range(2)
        for index in (1, 2)
    ),
    *(f"down_blocks.{block}.resnets.0.conv_shortcut" for block in (1, 2)),
    *(f"down_blocks.{block}.downsamplers.0.conv" for block in range(3)),
    *(f"mid_block.resnets.{layer}.conv{index}" for layer in range(2) for index in (1, 2)),
    *(f"up_blocks.{block}.resnets.{layer}.conv_shortcut" for block in range(4) for layer in range(3)),
    *(f"up_blocks.{block}.upsamplers.0.conv" for block in range(3)),
]


def kohya(text_layers: int, convolutions: bool) -> Iterator[tuple[str, str, str]]:
    """Component, weight and the stem of its keys, of kohya's scripts (with convolutions: LoCon)."""
    for transformer in TRANSFORMERS:
        layers = [f"transformer_blocks.0.{name}" for name in (*ATTENTION, "ff.net.0.proj", "ff.net.2")]
        for name in ("proj_in", "proj_out", *layers):
            yield "unet", f"{transformer}.{name}", f"lora_unet_{transformer}.{name}".replace(".", "_")
    for layer in range(text_layers):
        for name in TEXT:
            weight = f"encoder.layers.{layer}.{name}"
            yield "text_encoder", weight, f"lora_te_text_model.{weight}".replace(".", "_")
    for weight in CONVOLUTIONS if convolutions else ():
        yield "unet", weight, f"lora_unet_{weight}".replace(".", "_")


def peft() -> Iterator[tuple[str, str, str]]:
    """The same of diffusers' training scripts, whose `target_modules` may name convolutions and linear layers too."""
    for transformer in TRANSFORMERS:
        for name in (*ATTENTION, "ff.net.0.proj", "ff.net.2"):
            weight = f"{transformer}.transformer_blocks.0.{name}"
            yield "unet", weight, f"unet.{weight}"
        for name in ("proj_in", "proj_out"):
            yield "unet", f"{transformer}.{name}", f"unet.{transformer}.{name}"
    for weight in CONVOLUTIONS:
        yield "unet", weight, f"unet.{weight}"
    for layer in range(12):
        for name in TEXT:
            weight = f"encoder.layers.{layer}.{name}"
            yield "text_encoder", weight, f"text_encoder.text_model.{weight}"


def shapes(name: str) -> Mapping[str, Shapes]:
    models = architectures.architecture(name).models
    return {component: shapes_of(models[component]) for component in ("unet", "text_encoder")}


def pair(shape: tuple[int, ...], halves: tuple[str, str], stem: str) -> dict[str, Array]:
    """Rank 1, in the layouts of the published files."""
    kernel = shape[2:]
    down, up = (
        np.zeros((1, *shape[1:]), np.float32),
        np.zeros((shape[0], 1, *(1 for _ in kernel)), np.float32),
    )
    return {f"{stem}.{half}.weight": tensor for half, tensor in zip(halves, (down, up), strict=True)}


@pytest.mark.parametrize(
    ("architecture", "text_layers", "convolutions", "count"),
    [("sd15", 12, False, 264), ("sd15", 12, True, 264 + len(CONVOLUTIONS)), ("sd21-base", 23, False, 330)],
)
def test_kohyas_keys(
    tmp_path: Path, architecture: str, text_layers: int, convolutions: bool, count: int
) -> None:
    known = shapes(architecture)
    expected = list(kohya(text_layers, convolutions))
    tensors: dict[str, Array] = {}
    for component, weight, stem in expected:
        tensors |= pair(known[component][weight], ("lora_down", "lora_up"), stem)
        tensors[f"{stem}.alpha"] = np.array(1, np.float32)
    found = lora.read(LoraFile(lora_files.write(tmp_path / "a.safetensors", tensors)), known)

    assert sum(len(component) for component in found.values()) == len(expected) == count
    assert {(component, weight) for component, weights in found.items() for weight in weights} == {
        (component, weight) for component, weight, _ in expected
    }


def test_pefts_keys(tmp_path: Path) -> None:
    known = shapes("sd15")
    expected = list(peft())
    tensors: dict[str, Array] = {}
    for component, weight, stem in expected:
        tensors |= pair(known[component][weight], ("lora_A", "lora_B"), stem)
    found = lora.read(LoraFile(lora_files.write(tmp_path / "a.safetensors", tensors)), known)

    assert len(found["unet"]) == 16 * 12 + len(CONVOLUTIONS)
    assert len(found["text_encoder"]) == 12 * 6
    assert {(component, weight) for component, weights in found.items() for weight in weights} == {
        (component, weight) for component, weight, _ in expected
    }
