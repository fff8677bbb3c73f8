"""Write a random-weight checkpoint with the architecture and layout of a public model: a name in, a folder out.

Weights are drawn and written one tensor at a time, so that memory stays at the size of the largest tensor.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from calotype.errors import CheckpointError
from calotype_export import components, vocabulary
from calotype_export.architectures import NAMES as PUBLIC_NAMES
from calotype_export.architectures import Architecture, architecture
from calotype_export.initial_weights import initial
from calotype_export.progress import Progress, silent
from calotype_export.staging import staged

NAMES = (*PUBLIC_NAMES, *(f"tiny-{name}" for name in PUBLIC_NAMES))
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_SAFETENSORS_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def write(
    name: str,
    folder: Path | str,
    *,
    seed: int = 0,
    dtype: str = "fp32",
    progress: Progress = silent,
) -> Path:
    """Write the checkpoint `name` into the new folder `folder`; nothing is left there when it fails.

    Raises CheckpointError for an unknown name or dtype, a folder that exists already, or a disk that is full.
    """
    if name not in NAMES:
        raise CheckpointError(f"there is no synthetic checkpoint {name!r}", f"names: {', '.join(NAMES)}")
    if dtype not in DTYPES:
        raise CheckpointError(f"weights cannot be written as {dtype!r}", f"dtypes: {', '.join(DTYPES)}")
    target = Path(folder)
    blueprint = architecture(name)
    with staged(target) as draft:
        for component in blueprint.models:
            _write_model(blueprint, component, draft / component, _Weights(seed, DTYPES[dtype], progress))
        vocabulary.write(draft / "tokenizer", blueprint.vocabulary, blueprint.pad_token)
        _write_json(draft / "scheduler" / "scheduler_config.json", blueprint.scheduler)
        _write_json(draft / "feature_extractor" / "preprocessor_config.json", blueprint.feature_extractor)
        _write_json(draft / "model_index.json", _index(blueprint))
    return target


@dataclass(frozen=True, slots=True)
class _Weights:
    """How a component's tensors are drawn and stored."""

    seed: int
    dtype: torch.dtype
    progress: Progress


def _write_model(blueprint: Architecture, component: str, folder: Path, weights: _Weights) -> None:
    config = blueprint.models[component]
    kind = components.kind_of(config)
    folder.mkdir(parents=True)
    _write_json(folder / "config.json", config)
    shapes = {name: tuple(tensor.shape) for name, tensor in components.skeleton(config).state_dict().items()}
    facts = {**config, "prediction_type": blueprint.scheduler["prediction_type"]}
    with (folder / kind.weights).open("wb") as file:
        _write_header(file, {kind.public_name(name): shape for name, shape in shapes.items()}, weights.dtype)
        for done, (name, shape) in enumerate(shapes.items(), start=1):
            values = initial(kind.name, facts, name, shape, weights.seed).to(weights.dtype)
            file.write(values.contiguous().view(torch.uint8).numpy().data)
            weights.progress(f"writing {component}", done, len(shapes))


def _write_header(file: BinaryIO, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> None:
    """The head of a safetensors file: its length in 8 bytes, then JSON padded with spaces to 8 bytes."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": _SAFETENSORS_NAMES[dtype], "shape": shape, "data_offsets": [start, end]}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    file.write(len(header).to_bytes(8, "little") + header)


def _index(blueprint: Architecture) -> dict[str, Any]:
    """`model_index.json`: the pipeline's class, and library and class of each component."""
    index: dict[str, Any] = {"_class_name": blueprint.pipeline, "_diffusers_version": "0.10.0"}
    for component, config in blueprint.models.items():
        kind = components.kind_of(config)
        index[component] = [kind.library, kind.name]
    if "safety_checker" not in index and "depth_estimator" not in index:
        index |= {"safety_checker": [None, None], "requires_safety_checker": False}
    index["feature_extractor"] = ["transformers", blueprint.feature_extractor["image_processor_type"]]
    index["scheduler"] = ["diffusers", blueprint.scheduler["_class_name"]]
    index["tokenizer"] = ["transformers", "CLIPTokenizer"]
    return dict(sorted(index.items()))


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
