"""A bundle's weights with LoRA files added: the exported bytes in, what programs compute with instead out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotype import lora, tensor_files
from calotype.bundle import Bundle
from calotype.errors import BundleError
from calotype.lora import LoraFile
from calotype.manifest import ParameterSpec, ProgramSpec

Array = NDArray[Any]

COMPONENTS = {"unet_step": "unet", "text_encoder": "text_encoder"}  # program -> what LoRA files call it


def with_loras(bundle: Bundle, files: Sequence[LoraFile]) -> dict[str, dict[str, Array]]:
    """Program -> initializer -> weight, of every weight that `files` change, in the exported shape and type.

    Changes add up in float32 and are rounded once. CheckpointError for files that do not fit the bundle, BundleError
    where another has taken its place since it was opened.
    """
    bundle.check_kept()
    programs = {spec.name: spec for spec in bundle.manifest.programs if spec.name in COMPONENTS}
    if files and not any(spec.parameters for spec in programs.values()):
        raise BundleError(f"{bundle.root.name} does not say where its weights lie", "export the bundle again")
    shapes = {
        COMPONENTS[name]: {each.name: each.shape for each in spec.parameters}
        for name, spec in programs.items()
    }
    changes = [lora.read(file, shapes) for file in files]
    found: dict[str, dict[str, Array]] = {}
    for name, spec in programs.items():
        component = [change.get(COMPONENTS[name], {}) for change in changes]
        found[name] = _changed(bundle.root, spec, component)
    return found


def _changed(root: Path, spec: ProgramSpec, changes: Sequence[Mapping[str, lora.Delta]]) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for parameter in spec.parameters:
        deltas = [change[parameter.name] for change in changes if parameter.name in change]
        if not deltas:
            continue
        weight = _as_float32(tensor_files.stored(root / spec.files[1].path, parameter), parameter)
        for delta in deltas:
            weight = delta.added_to(weight)
        found[parameter.initializer] = _as_exported(weight, parameter)
    return found


def _as_float32(weight: Array, parameter: ParameterSpec) -> Array:
    values = tensor_files.widened(weight) if parameter.dtype == "bfloat16" else weight.astype(np.float32)
    return values.T if parameter.transposed else values


def _as_exported(weight: Array, parameter: ParameterSpec) -> Array:
    stored = np.ascontiguousarray(weight.T if parameter.transposed else weight)
    return tensor_files.narrowed(stored) if parameter.dtype == "bfloat16" else stored.astype(parameter.dtype)
