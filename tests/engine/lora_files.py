"""LoRA files for the tiny bundles, written without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
TEXT = "encoder.layers.1.self_attn"
RANK = 4
_TYPES = {"float32": "F32", "float16": "F16", "uint16": "BF16"}


def write(path: Path, tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> Path:
    """Write `tensors` as a safetensors file; uint16 becomes BF16."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": _TYPES[tensor.dtype.name], "shape": tensor.shape, "data_offsets": [end, end + tensor.nbytes],
        }  # fmt: skip
        end += tensor.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(
        len(text).to_bytes(8, "little") + text + b"".join(tensor.tobytes() for tensor in tensors.values())
    )
    return path


def halves(seed: int, shape: tuple[int, ...] = (32, 32)) -> tuple[Array, Array]:
    """down (r, in, ...) and up (out, r, ...) for a weight of `shape`."""
    generator = np.random.default_rng(seed)
    kernel = shape[2:]
    down = generator.normal(0, 0.2, (RANK, *shape[1:]))
    up = generator.normal(0, 0.2, (shape[0], RANK, *(1 for _ in kernel)))
    return down.astype(np.float32), up.astype(np.float32)


def kohya(seed: int) -> dict[str, Array]:
    """Attention, a convolution and the text encoder, as kohya's scripts write them."""
    targets = {
        f"lora_unet_{ATTENTION}.to_q": (32, 32),
        f"lora_unet_{ATTENTION}.to_out.0": (32, 32),
        "lora_unet_down_blocks.0.resnets.0.conv1": (32, 32, 3, 3),
        f"lora_te_text_model.{TEXT}.q_proj": (32, 32),
        f"lora_te_text_model.{TEXT}.out_proj": (32, 32),  # diffusers tells the format by it
    }
    tensors: dict[str, Array] = {}
    for index, (name, shape) in enumerate(targets.items()):
        down, up = halves(seed + index, shape)
        stem = name.replace(".", "_")
        tensors |= {
            f"{stem}.lora_down.weight": down,
            f"{stem}.lora_up.weight": up,
            f"{stem}.alpha": np.array(2.0, np.float32),
        }
    return tensors


def peft(seed: int) -> dict[str, Array]:
    """Attention and the text encoder, as PEFT and diffusers write them."""
    names = (f"unet.{ATTENTION}.to_v", f"text_encoder.text_model.{TEXT}.out_proj")
    tensors: dict[str, Array] = {}
    for index, name in enumerate(names):
        down, up = halves(seed + index)
        tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    return tensors
