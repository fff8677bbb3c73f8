"""The model classes that an export may build, by name: a component's config in, a torch module out.

Nothing outside this list is ever imported because a checkpoint asks for it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from calotype.errors import CheckpointError

DIFFUSERS_WEIGHTS = "diffusion_pytorch_model.safetensors"
TRANSFORMERS_WEIGHTS = "model.safetensors"
_COMPUTED = (
    ".position_ids",
    ".num_batches_tracked",
)  # buffers that are counted out, or of no use outside training
_OTHER = "download the checkpoint again; its config.json may also be that of another model"


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of models, and how public checkpoints store it."""

    name: str  # class name in `library`
    library: str  # as model_index.json says it
    weights: str  # file name
    prefix: tuple[str, str] = ("", "")  # the start of tensor names: in the module, in public files
    unused: tuple[str, ...] = ()  # starts of names of tensors that the module has and never computes with

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
        Kind("DPTForDepthEstimation", "transformers", TRANSFORMERS_WEIGHTS,
             unused=("neck.fusion_stage.layers.0.residual_layer1.",)),  # Intel's checkpoints come without
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
    """The module stored in `folder`, in evaluation mode, on the CPU. Weights come from safetensors alone.

    CheckpointError names the tensors that the config asks for and the files lack or hold in another shape.
    """
    try:
        module, report = model_class(kind.name).from_pretrained(
            folder,
            torch_dtype=dtype,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # which are in the report then
        )
    except ValueError as error:
        raise misfit(folder.name, error) from error
    _check_report(kind, folder.name, report)
    return module.eval().requires_grad_(False)


def misfit(where: str, error: ValueError | KeyError) -> CheckpointError:
    """What to raise for diffusers' own `error`, which names one tensor: of another shape, or not found."""
    reason = str(error).rpartition(" because ")[2].partition(". If you want")[0]
    if isinstance(error, KeyError):
        reason = f"there is no {reason}"
    return CheckpointError(f"{where}: the weights do not fit config.json: {reason}", _OTHER)


def lacking(kind: Kind, where: str, missing: Sequence[str], strange: Sequence[str] = ()) -> CheckpointError:
    """What to raise where nothing holds the tensors `missing`; `strange` are those that the module does not know."""
    names = _some([kind.public_name(name) for name in missing])
    rest = f"; the model has no {_some(strange)}" if strange else ""
    return CheckpointError(f"{where}: the weights lack {names}, which config.json asks for{rest}", _OTHER)


def _check_report(kind: Kind, where: str, report: Mapping[str, Any]) -> None:
    """CheckpointError where `report`, the loading info of diffusers or transformers, tells of a misfit."""
    wrong = [
        f"{kind.public_name(name)} has shape {tuple(found)}, expected {tuple(expected)}"
        for name, found, expected in sorted(report["mismatched_keys"])
    ]
    missing = [
        name
        for name in sorted(report["missing_keys"])
        if not name.startswith(kind.unused) and not name.endswith(_COMPUTED)
    ]
    if wrong:
        raise CheckpointError(f"{where}: the weights do not fit config.json: {_some(wrong)}", _OTHER)
    if missing:
        raise lacking(kind, where, missing, sorted(report["unexpected_keys"]))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
