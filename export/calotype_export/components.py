"""The model classes that an export may build, by name: a component's config in, a torch module out.

Nothing outside this list is ever imported because a checkpoint asks for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from calotype.errors import CheckpointError

DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
TRANSFORMERS_WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of models, and how public checkpoints store it."""

    name: str  # class name in `library`
    library: str  # as model_index.json says it
    weights: str  # file name
    prefix: tuple[str, str] = ("", "")  # the start of tensor names: in the module, in public files

    def public_name(self, name: str) -> str:
        """The tensor's name in public checkpoints, which are older than the flat CLIP modules."""
        ours, theirs = self.prefix
        return theirs + name.removeprefix(ours) if name.startswith(ours) else name


KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("UNet2DConditionModel", "diffusers", DIFFUSERS_WEIGHTS),
        Kind("AutoencoderKL", "diffusers", DIFFUSERS_WEIGHTS),
        Kind("CLIPTextModel", "transformers", TRANSFORMERS_WEIGHTS, ("", "text_model.")),
        Kind("StableDiffusionSafetyChecker", "stable_diffusion", TRANSFORMERS_WEIGHTS,
             ("vision_model.", "vision_model.vision_model.")),
        Kind("DPTForDepthEstimation", "transformers", TRANSFORMERS_WEIGHTS),
        Kind("CLIPSegForImageSegmentation", "transformers", TRANSFORMERS_WEIGHTS),
    )
}  # fmt: skip


def kind_of(config: Mapping[str, Any]) -> Kind:
    """The kind that a component's config names. CheckpointError for a class that is not on the list."""
    name = str(config.get("_class_name") or next(iter(config.get("architectures") or []), None))
    if name in KINDS:
        return KINDS[name]
    near = difflib.get_close_matches(name, KINDS, n=1)
    raise CheckpointError(
        f"a component is a {name!r}, which cannot be exported",
        (f"did you mean {near[0]}? " if near else "") + f"classes that can be: {', '.join(KINDS)}",
    )


def model_class(name: str) -> Any:
    """The class called `name`, imported from where it is known to live."""
    if name in {"UNet2DConditionModel", "AutoencoderKL"}:
        from diffusers import AutoencoderKL, UNet2DConditionModel

        return {"UNet2DConditionModel": UNet2DConditionModel, "AutoencoderKL": AutoencoderKL}[name]
    if name == "StableDiffusionSafetyChecker":
        from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

        return StableDiffusionSafetyChecker
    from transformers import CLIPSegForImageSegmentation, CLIPTextModel, DPTForDepthEstimation

    return {
        "CLIPTextModel": CLIPTextModel,
        "DPTForDepthEstimation": DPTForDepthEstimation,
        "CLIPSegForImageSegmentation": CLIPSegForImageSegmentation,
    }[name]


def skeleton(config: Mapping[str, Any]) -> torch.nn.Module:
    """The module that `config` describes, on the meta device: names and shapes, no weights."""
    kind = kind_of(config)
    found = model_class(kind.name)
    with torch.device("meta"):
        if kind.library == "diffusers":
            return found.from_config(dict(config))
        return found(found.config_class.from_dict(dict(config)))


def load(kind: Kind, folder: Path, dtype: torch.dtype, variant: str | None) -> torch.nn.Module:
    """The module stored in `folder`, in evaluation mode, on the CPU. Weights come from safetensors alone."""
    module = model_class(kind.name).from_pretrained(
        folder, torch_dtype=dtype, variant=variant, use_safetensors=True, local_files_only=True
    )
    return module.eval().requires_grad_(False)
