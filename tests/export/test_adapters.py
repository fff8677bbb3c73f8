"""The scales that a LoRA's metadata asks for, against PEFT's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from calotype.errors import CheckpointError
from calotype.lora import LoraFile
from calotype_export.checkpoint import Checkpoint, open_checkpoint
from calotype_export.merge import merged

ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
TEXT = "encoder.layers.1.self_attn"
RANKS = {
    f"unet.{ATTENTION}.to_q": 4,
    f"unet.{ATTENTION}.to_k": 4,
    f"unet.{ATTENTION}.to_out.0": 8,
    f"text_encoder.{TEXT}.q_proj": 4,
    f"text_encoder.{TEXT}.v_proj": 2,
}


@pytest.fixture(scope="module")
def checkpoint(sd15_folder: Path) -> Checkpoint:
    return open_checkpoint(sd15_folder)


def tensors() -> dict[str, Tensor]:
    """A LoRA as PEFT names it, with layers of several ranks."""
    torch.manual_seed(0)
    return {
        f"{name}.lora_{half}.weight": torch.randn(shape) * 0.3
        for name, rank in RANKS.items()
        for half, shape in (("A", (rank, 32)), ("B", (32, rank)))
    }


def stored(folder: Path, metadata: str) -> Path:
    path = folder / "adapter.safetensors"
    save_file(tensors(), path, {"lora_adapter_metadata": metadata})
    return path


@pytest.mark.filterwarnings("ignore:The following alpha_pattern keys did not match")
@pytest.mark.parametrize("rslora", [False, True])
def test_patterns_and_rank_stabilised_scales_are_those_of_peft(
    checkpoint: Checkpoint, tmp_path: Path, rslora: bool
) -> None:
    settings: dict[str, Any] = {
        "unet.alpha_pattern": {
            "attn2.to_q": 100,
            r"to_(k|v)": 3,
            f"^{ATTENTION}.to_out.0": 16,
            "q": 50,
            "attn1.to_k": 9,
        },
        "unet.rank_pattern": {"to_out.0": 8},
        "text_encoder.alpha_pattern": {"v_proj": 1},
        "text_encoder.rank_pattern": {"v_proj": 2},
    }
    for component in ("unet", "text_encoder"):
        names = [name.partition(".")[2] for name in RANKS if name.startswith(component)]
        plain = {"r": 4, "lora_alpha": 8, "use_rslora": rslora, "target_modules": names}
        settings |= {f"{component}.{name}": value for name, value in plain.items()}
    path = stored(tmp_path, json.dumps(settings))
    pipeline = checkpoint.pipeline()
    pipeline.load_lora_weights(str(path))
    pipeline.fuse_lora(lora_scale=0.7)
    pipeline.unload_lora_weights()
    ours = merged(checkpoint, [LoraFile(path, 0.7)])
    for component, count in (("unet", 3), ("text_encoder", 2)):
        theirs, before = getattr(pipeline, component).state_dict(), checkpoint.load(component).state_dict()
        assert sum(not torch.equal(value, before[name]) for name, value in theirs.items()) == count
        for name, value in ours.load(component).state_dict().items():
            torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ('{"unet.r": 4', r"adapter\.safetensors: lora_adapter_metadata is no JSON: .*line 1"),
        ("[4]", "lora_adapter_metadata holds a list, expected an object"),
        ('{"unet.lora_alpha": "much"}', r"unet\.lora_alpha cannot be 'much'"),
        ('{"unet.alpha_pattern": {"to_q": null}}', r"unet\.alpha_pattern cannot be {'to_q': None}"),
        ('{"unet.use_rslora": 2}', r"unet\.use_rslora cannot be 2"),
    ],
)
def test_metadata_that_cannot_be_read_is_refused(
    checkpoint: Checkpoint, tmp_path: Path, metadata: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        merged(checkpoint, [LoraFile(stored(tmp_path, metadata))])
