"""A checkpoint in one .safetensors file, in the original LDM naming: the file and a config folder in, a Checkpoint out.

The config folder has diffusers' layout; weights of the UNet, the VAE and the text encoder are not looked for in it.
diffusers' own converters rename the tensors (`diffusers.loaders.single_file_utils`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from calotype import tensor_files
from calotype.errors import CheckpointError
from calotype_export import checkpoint, components, weight_files
from calotype_export.checkpoint import Checkpoint, Component
from calotype_export.weight_files import WeightFiles

_PARTS = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.",),
    "text_encoder": ("cond_stage_model.transformer.", "cond_stage_model.model."),
}


def open_single_file(path: Path | str, config_folder: Path | str) -> Checkpoint:
    """The checkpoint in `path`, described by the folder `config_folder` in diffusers' layout.

    A depth estimator comes from the config folder; so does a safety checker whose weights lie there, otherwise
    there is none. Raises CheckpointError for a pickle, a cut-off file, and a file without a model that it needs.
    """
    file, root = Path(path).expanduser(), Path(config_folder).expanduser()
    if not file.is_file():
        raise CheckpointError(f"there is no file {path}")
    if file.suffix != ".safetensors":
        raise CheckpointError(f"{file.name} is no .safetensors file", tensor_files.PICKLE_HINT)
    if not root.is_dir():
        raise CheckpointError(
            f"there is no folder {config_folder}", "--config takes a checkpoint's folder, weights left out"
        )
    tensor_files.check(file)
    names = _tensor_names(file)
    layout = checkpoint.read_layout(root)
    models: dict[str, Component] = {}
    for component, (kind, config) in layout.models.items():
        if component in _PARTS:
            _require(file.name, component, names)
            weights = WeightFiles((file,), None)
        elif component == "safety_checker" and not (root / component / kind.weights).exists():
            continue
        else:
            weights = weight_files.find(root / component, kind.weights)
        models[component] = Component(component, kind, root / component, config, weights)
    return Checkpoint(root, file.name, None, models, layout.scheduler, read=_read)


def _tensor_names(file: Path) -> Sequence[str]:
    with file.open("rb") as opened:
        return list(json.loads(opened.read(int.from_bytes(opened.read(8), "little"))))


def _require(name: str, component: str, tensors: Sequence[str]) -> None:
    if not any(tensor.startswith(_PARTS[component]) for tensor in tensors):
        raise CheckpointError(
            f"{name} has no {component}: no tensor's name starts with {' or '.join(_PARTS[component])}",
            "a whole Stable Diffusion checkpoint is needed, in the original naming",
        )


def _read(component: Component, dtype: torch.dtype) -> torch.nn.Module:
    """Convert one component out of the file, or read it from the config folder as usual.

    CheckpointError where the file lacks tensors of it, or they have shapes that the config does not say.
    """
    if component.name not in _PARTS:
        return components.load(component.kind, component.folder, dtype, component.weights.variant)
    where = f"{component.weights.paths[0].name}: {component.name}"
    try:
        module = _converted(component, dtype)
    except NotImplementedError as error:  # torch's, from moving a tensor that has no data
        raise components.lacking(component.kind, where, _missing(component)) from error
    except (KeyError, ValueError) as error:
        raise components.misfit(where, error) from error
    if missing := [name for name, tensor in module.named_parameters() if tensor.is_meta]:
        raise components.lacking(component.kind, where, missing)
    return module.eval().requires_grad_(False)


def _missing(component: Component) -> Sequence[str]:
    """Names of the tensors of a UNet or a VAE that its file has not."""
    from diffusers.loaders import single_file_utils
    from safetensors.torch import load_file

    convert: Callable[[Any, Any], Mapping[str, Any]] = (
        single_file_utils.convert_ldm_unet_checkpoint
        if component.name == "unet"
        else single_file_utils.convert_ldm_vae_checkpoint
    )
    wanted: Any = components.skeleton(component.config)
    found = convert(load_file(component.weights.paths[0]), dict(wanted.config))
    return sorted(set(wanted.state_dict()) - set(found))


def _converted(component: Component, dtype: torch.dtype) -> torch.nn.Module:
    file, folder = component.weights.paths[0], str(component.folder.parent)
    model = components.model_class(component.kind.name)
    if component.name == "text_encoder":
        from diffusers.loaders.single_file_utils import create_diffusers_clip_model_from_ldm
        from safetensors.torch import load_file

        return create_diffusers_clip_model_from_ldm(
            model,
            load_file(file),
            subfolder=component.name,
            config=folder,
            torch_dtype=dtype,
            local_files_only=True,
        )
    return model.from_single_file(
        str(file), config=folder, subfolder=component.name, torch_dtype=dtype, local_files_only=True
    )
