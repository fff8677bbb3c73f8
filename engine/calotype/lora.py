"""LoRA files: a safetensors file in, low-rank changes under the names of the models' weights out.

Hu et al. 2021, eq. 3: W + weight * alpha / rank * up @ down; Kalajdzievski 2023 divides by the rank's square root
instead. Names of kohya's scripts, of PEFT and of older diffusers are understood.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotype import tensor_files
from calotype.errors import CheckpointError, RequestError

Array = NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]  # weight name without `.weight` -> shape

_PREFIXES = {"unet": ("lora_unet_", "unet."), "text_encoder": ("lora_te_", "lora_te1_", "text_encoder.")}
_ROLES = (
    (re.compile(r"\.(lora_down|lora_A|lora\.down)(\.default)?\.weight$"), "down"),
    (re.compile(r"\.(lora_up|lora_B|lora\.up)(\.default)?\.weight$"), "up"),
    (re.compile(r"\.alpha$"), "alpha"),
)
_OLD_ATTENTION = re.compile(r"(\.processor)?\.(to_q|to_k|to_v|to_out)_lora\.")
_METADATA_HINT = "save the LoRA again, or take lora_adapter_metadata out of the file"
_TEXT_ATTENTION = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A LoRA, and how much of it."""

    path: Path
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> LoraFile:
        """`FILE[:WEIGHT]`, 1 by default. ValueError for a weight that is no finite number."""
        path, colon, weight = text.rpartition(":")
        if not colon or weight.endswith(".safetensors"):
            return cls(Path(text))
        try:
            found = cls(Path(path), float(weight))
        except ValueError:
            raise ValueError(f"expected FILE[:WEIGHT], where {weight!r} is no number") from None
        if not math.isfinite(found.weight):
            raise ValueError(f"expected FILE[:WEIGHT], where {weight!r} is not finite")
        return found


def files(adapters: Sequence[tuple[str | Path, float]]) -> tuple[LoraFile, ...]:
    """Pairs of a path and a weight as LoRA files. RequestError for what is neither."""
    found: list[LoraFile] = []
    for pair in adapters:
        try:
            path, weight = pair
            found.append(LoraFile(Path(path), float(weight)))
        except (TypeError, ValueError, OverflowError) as error:
            raise RequestError(
                f"`adapters`: expected pairs of a path and a weight, found {pair!r}"
            ) from error
        if not math.isfinite(found[-1].weight):
            raise RequestError(f"`adapters`: expected a finite weight, found {pair!r}")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Delta:
    """One low-rank change: up (out, r) @ down (r, in), times `scale`; convolutions keep their kernel in `down`."""

    down: Array
    up: Array
    scale: float

    def added_to(self, weight: Array) -> Array:
        """`weight` with the change, in float32."""
        up, down = (half.astype(np.float32).reshape(len(half), -1) for half in (self.up, self.down))
        return weight.astype(np.float32) + np.float32(self.scale) * (up @ down).reshape(weight.shape)


def read(file: LoraFile, shapes: Mapping[str, Shapes]) -> dict[str, dict[str, Delta]]:
    """The changes in `file`: component -> weight name -> change. `shapes` are those of the components' weights.

    Raises CheckpointError that lists the tensors which belong to no weight, or do not fit it.
    """
    tensors, metadata = tensor_files.read(file.path)
    places = {component: _places(component, names) for component, names in shapes.items()}
    parts: dict[tuple[str, str], dict[str, Array]] = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        target = _target(key, places)
        if target is None or target[2] in parts.get(target[:2], {}):
            unknown.append(key)
        else:
            component, name, role = target
            parts.setdefault((component, name), {})[role] = tensor
    unknown += [
        f"{name} (half of a pair)" for (_, name), part in parts.items() if not {"down", "up"} <= part.keys()
    ]
    if unknown or not parts:
        raise CheckpointError(
            f"{file.path.name}: {', '.join(unknown) or 'its tensors'} belong to no weight of this checkpoint",
            "is it a LoRA, and made for this family of models?",
        )
    deltas: dict[str, dict[str, Delta]] = {}
    settings = {component: _settings(file.path.name, metadata, component) for component in shapes}
    for (component, name), part in parts.items():
        _check_fit(file.path.name, name, part, shapes[component][name])
        scale = file.weight * _scale(part, name, settings[component])
        deltas.setdefault(component, {})[name] = Delta(part["down"], part["up"], scale)
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


@dataclass(frozen=True, slots=True)
class _Settings:
    """What PEFT's LoraConfig says of scales; None and empty where the file says nothing."""

    alpha: float | None
    patterns: Mapping[str, float]  # regular expression for the end of a layer's name -> its alpha
    root: bool  # divide by the rank's square root


def _settings(file: str, metadata: Mapping[str, str], component: str) -> _Settings:
    """What diffusers stores beside a PEFT LoRA: `unet.lora_alpha`, `unet.alpha_pattern`, `unet.use_rslora`, ...

    Ranks are not read from it, since the tensors have them. CheckpointError for what is no JSON or no setting.
    """
    where = f"{file}: lora_adapter_metadata"
    try:
        content = json.loads(metadata.get("lora_adapter_metadata", "{}"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is no JSON: {error}", _METADATA_HINT) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{where} holds a {type(content).__name__}, expected an object", _METADATA_HINT)
    alpha = content.get(f"{component}.lora_alpha")
    patterns = content.get(f"{component}.alpha_pattern") or {}
    root = content.get(f"{component}.use_rslora") or False
    for name, value, fits in (
        ("lora_alpha", alpha, alpha is None or _is_number(alpha)),
        (
            "alpha_pattern",
            patterns,
            isinstance(patterns, dict)
            and all(map(_is_number, patterns.values()))
            and all(map(_is_pattern, patterns)),
        ),
        ("use_rslora", root, isinstance(root, bool)),
    ):
        if not fits:
            raise CheckpointError(f"{where}: {component}.{name} cannot be {value!r}", _METADATA_HINT)
    return _Settings(alpha, patterns, root)


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _is_number(value: Any) -> bool:
    """Whether it is one that a float can hold: JSON's may be NaN, infinite, or have any number of digits."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _scale(part: Mapping[str, Array], name: str, settings: _Settings) -> float:
    """What `up @ down` of the layer `name` is multiplied with: by its own `alpha`, else as PEFT does it."""
    rank = part["down"].shape[0]
    if "alpha" in part:
        return float(part["alpha"].reshape(())) / rank
    alpha = rank if settings.alpha is None else settings.alpha
    for pattern, value in settings.patterns.items():
        if any(re.match(rf"(.*\.)?({pattern})$", spelling) for spelling in (name, f"text_model.{name}")):
            alpha = value
            break
    return alpha / (math.sqrt(rank) if settings.root else rank)


def _check_fit(file: str, name: str, part: Mapping[str, Array], shape: tuple[int, ...]) -> None:
    """CheckpointError unless the halves are finite, their product has the weight's shape, and alpha is one number."""
    up, down, alpha = part["up"], part["down"], part.get("alpha", np.ones(()))
    if (
        not all(half.dtype.kind in "fiu" and np.isfinite(half).all() for half in (up, down, alpha))
        or alpha.size != 1
    ):
        raise CheckpointError(
            f"{file}: {name}: expected finite numbers, and one alpha of shape {alpha.shape}"
        )
    rank = down.shape[0] if down.ndim > 1 else 0
    fits = up.ndim > 1 and up.shape[:2] == (shape[0], rank) and up.size == shape[0] * rank
    if not rank or not fits or down.size * shape[0] != rank * math.prod(shape):
        raise CheckpointError(
            f"{file}: {name} has shape {shape} in this checkpoint; found up {up.shape} and down {down.shape}",
            "the LoRA was made for another family of models",
        )
