"""Eager diffusers objects of a checkpoint: the reference that every program is compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.errors import CheckpointError

if TYPE_CHECKING:
    from calotype_export.checkpoint import Checkpoint

SCHEDULERS = (
    "DDIMScheduler", "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler", "EulerDiscreteScheduler",
    "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler", "LCMScheduler",
    "LMSDiscreteScheduler", "PNDMScheduler", "TCDScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
_PIPELINES = {
    4: "StableDiffusionPipeline",
    5: "StableDiffusionDepth2ImgPipeline",
    9: "StableDiffusionInpaintPipeline",
}


def tokenizer(folder: Path) -> Any:
    """transformers' CLIPTokenizer from the vocabulary in `folder`."""
    from transformers import CLIPTokenizer

    for name in ("vocab.json", "merges.txt"):
        if not (folder / name).is_file() and not (folder / "tokenizer.json").is_file():
            raise CheckpointError(f"{folder.name}/{name} is missing", "is this a complete checkpoint?")
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def feature_extractor(path: Path) -> Any:
    """The image processor that `path` (preprocessor_config.json) describes, in its PIL form."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

    config = json.loads(path.read_text(encoding="utf-8"))
    name = config.get("image_processor_type") or config.get("feature_extractor_type", "CLIPImageProcessor")
    return (DPTImageProcessorPil if name.startswith("DPT") else CLIPImageProcessorPil).from_dict(config)


def pipeline(checkpoint: Checkpoint, models: Mapping[str, Any]) -> Any:
    """The pipeline of the UNet's own class, built of `models` and nothing else."""
    import diffusers

    config = checkpoint.scheduler
    parts: dict[str, Any] = {name: models.get(name) for name in checkpoint.models}
    parts["tokenizer"] = checkpoint.tokenizer()
    parts["scheduler"] = getattr(diffusers, str(config["_class_name"])).from_config(dict(config))
    described = checkpoint.root / "feature_extractor" / "preprocessor_config.json"
    parts["feature_extractor"] = feature_extractor(described) if described.is_file() else None
    if checkpoint.channels != 5:
        parts.setdefault("safety_checker", None)
        parts["requires_safety_checker"] = parts["safety_checker"] is not None
    built = getattr(diffusers, _PIPELINES[checkpoint.channels])(**parts)
    built.set_progress_bar_config(disable=True)
    return built
