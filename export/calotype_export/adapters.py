"""LoRA and textual-inversion files: a safetensors file in, its tensors under the names of the models out.

LoRA: Hu et al. 2021, eq. 3: W + weight * alpha / rank * up @ down. Names of kohya's scripts, of PEFT and of older
diffusers are understood. Textual inversion: Gal et al. 2022; files of diffusers and of the AUTOMATIC1111 web UI.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from calotype.errors import CheckpointError
from calotype_export import weight_files

Shapes = Mapping[str, tuple[int, ...]]  # weight name without `.weight` -> shape
_PREFIXES = {"unet": ("lora_unet_", "unet."), "text_encoder": ("lora_te_", "lora_te1_", "text_encoder.")}
_ROLES = (
    (re.compile(r"\.(lora_down|lora_A|lora\.down)(\.default)?\.weight$"), "down"),
    (re.compile(r"\.(lora_up|lora_B|lora\.up)(\.default)?\.weight$"), "up"),
    (re.compile(r"\.alpha$"), "alpha"),
)
_OLD_ATTENTION = re.compile(r"(\.processor)?\.(to_q|to_k|to_v|to_out)_lora\.")
_TEXT_ATTENTION = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA to merge, and how much of it."""

    path: Path
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class EmbeddingFile:
    """A textual inversion to add, and the word that calls it (the file's own where it is None)."""

    path: Path
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Delta:
    """One low-rank change: up (out, r) @ down (r, in), times `scale`; convolutions keep their kernel in `down`."""

    down: Tensor
    up: Tensor
    scale: float

    def added_to(self, weight: Tensor) -> Tensor:
        """`weight` with the change, computed in float32."""
        change = self.up.float().flatten(1) @ self.down.float().flatten(1)
        return (weight.float() + self.scale * change.reshape(weight.shape)).to(weight.dtype)


def read(path: Path) -> tuple[dict[str, Tensor], Mapping[str, str]]:
    """Tensors and metadata of a safetensors file. CheckpointError for a missing file, a pickle or a cut-off one."""
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}")
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path.name} is no .safetensors file", weight_files.PICKLE_HINT)
    weight_files.check(path)
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def read_lora(file: LoraFile, shapes: Mapping[str, Shapes]) -> dict[str, dict[str, Delta]]:
    """The changes in `file`: component -> weight name -> change. `shapes` are those of the components' weights.

    Raises CheckpointError that lists the tensors which belong to no weight, or do not fit it.
    """
    tensors, metadata = read(file.path)
    places = {component: _places(component, names) for component, names in shapes.items()}
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        target = _target(key, places)
        if target is None:
            unknown.append(key)
        else:
            component, name, role = target
            parts.setdefault((component, name), {})[role] = tensor
    unknown += [
        f"{name} (half of a pair)" for (_, name), part in parts.items() if not {"down", "up"} <= part.keys()
    ]
    if unknown or not parts:
        raise CheckpointError(f"{file.path.name}: {_listed(unknown)} belong to no weight of this checkpoint",
                              "is it a LoRA, and made for this family of models?")  # fmt: skip
    deltas: dict[str, dict[str, Delta]] = {}
    for (component, name), part in parts.items():
        scale = file.weight * _alpha(part, component, _adapter_config(metadata)) / part["down"].shape[0]
        delta = Delta(part["down"], part["up"], scale)
        _check_fit(file.path.name, name, delta, shapes[component][name])
        deltas.setdefault(component, {})[name] = delta
    return deltas


def _places(component: str, names: Iterable[str]) -> dict[str, str]:
    """Every spelling of each weight's name, the component's prefix included, to its own name."""
    found: dict[str, str] = {}
    for name in names:
        public = name if component == "unet" or name.startswith("text_model.") else f"text_model.{name}"
        for prefix in _PREFIXES[component]:
            for spelling in {name, public}:
                found[prefix + (spelling if prefix.endswith(".") else spelling.replace(".", "_"))] = name
    return found


def _target(key: str, places: Mapping[str, Mapping[str, str]]) -> tuple[str, str, str] | None:
    """Component, weight name and role (down, up, alpha) of the tensor `key`."""
    plain = _OLD_ATTENTION.sub(_modern_attention, key).replace(".lora_linear_layer.", ".lora.")
    for pattern, role in _ROLES:
        stem = pattern.sub("", plain)
        for component, names in places.items():
            for spelling in (stem, f"unet.{stem}"):
                if stem != plain and spelling in names:
                    return component, names[spelling], role
    return None


def _modern_attention(match: re.Match[str]) -> str:
    name = match[2]
    if ".self_attn" in match.string:
        return f".{_TEXT_ATTENTION[name]}.lora."
    return f".{name}.0.lora." if name == "to_out" else f".{name}.lora."


def _adapter_config(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    """What diffusers stores beside a PEFT LoRA: `unet.lora_alpha`, `unet.r`, ..."""
    return json.loads(metadata.get("lora_adapter_metadata", "{}"))


def _alpha(part: Mapping[str, Tensor], component: str, config: Mapping[str, Any]) -> float:
    rank = part["down"].shape[0]
    if "alpha" in part:
        return float(part["alpha"])
    ratio = config.get(f"{component}.lora_alpha", rank) / config.get(f"{component}.r", rank)
    return rank * ratio


def _check_fit(file: str, name: str, delta: Delta, shape: tuple[int, ...]) -> None:
    rows, inner = delta.up.shape[0], delta.up.shape[1]
    columns = delta.down[0].numel()
    if inner != delta.down.shape[0] or rows != shape[0] or rows * columns != torch.Size(shape).numel():
        raise CheckpointError(
            f"{file}: {name} has shape {shape} in this checkpoint; "
            f"found up {tuple(delta.up.shape)} and down {tuple(delta.down.shape)}",
            "the LoRA was made for another family of models",
        )


def read_embedding(file: EmbeddingFile, width: int) -> tuple[str, Tensor]:
    """The word and its vectors (n, `width`). CheckpointError for files that are no textual inversion, or too wide."""
    tensors, _ = read(file.path)
    if len(tensors) != 1:
        raise CheckpointError(f"{file.path.name}: expected one tensor, found {_listed(sorted(tensors))}",
                              "textual inversions of Stable Diffusion 1 and 2 have one")  # fmt: skip
    ((name, tensor),) = tensors.items()
    token = file.token or (file.path.stem if name == "emb_params" else name)
    vectors = tensor[None] if tensor.ndim == 1 else tensor
    if vectors.ndim != 2 or vectors.shape[1] != width:
        raise CheckpointError(
            f"{file.path.name}: the embedding has shape {tuple(tensor.shape)}, expected vectors of {width}",
            "it was made for another family of models",
        )
    return token, vectors


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8]) or "its tensors"
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown
