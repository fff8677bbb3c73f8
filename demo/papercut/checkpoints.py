"""Checkpoints on disk. In: trained modules; out: folders that diffusers' pipelines load, shared parts stored once."""

# diffusers, transformers and torch annotate less than they take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    StableDiffusionDepth2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from transformers import DPTForDepthEstimation, DPTImageProcessor

from papercut.diffusion import Painter, build_scheduler
from papercut.text import CLIPTokenizer

TEXT_TO_IMAGE: Final = "text-to-image"
INPAINTING: Final = "inpainting"
DEPTH: Final = "depth"
_SHARED: Final = ("vae", "text_encoder", "tokenizer", "scheduler")


def write_text_to_image(
    folder: Path, autoencoder: AutoencoderKL, painter: Painter, tokenizer: CLIPTokenizer
) -> None:
    """Write the checkpoint that owns what all share: `folder/text-to-image`."""
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=painter.text_encoder,
        tokenizer=tokenizer,
        unet=painter.unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    tokenizer.backend_tokenizer.no_truncation()  # which training switched on
    tokenizer.backend_tokenizer.no_padding()
    _save(pipeline, folder / TEXT_TO_IMAGE)
    tokenizer.backend_tokenizer.model.save(str(folder / TEXT_TO_IMAGE / "tokenizer"))


def write_inpainting(folder: Path, unet: UNet2DConditionModel) -> None:
    """Write `folder/inpainting`; the text-to-image checkpoint must be there already."""
    base = read_text_to_image(folder)
    pipeline = StableDiffusionInpaintPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=unet,
        scheduler=base.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    _save(pipeline, folder / INPAINTING)
    _share(folder / INPAINTING)


def write_depth(
    folder: Path, unet: UNet2DConditionModel, estimator: DPTForDepthEstimation, processor: DPTImageProcessor
) -> None:
    """Write `folder/depth`; the text-to-image checkpoint must be there already."""
    base = read_text_to_image(folder)
    pipeline = StableDiffusionDepth2ImgPipeline(
        vae=base.vae,
        text_encoder=base.text_encoder,
        tokenizer=base.tokenizer,
        unet=unet,
        scheduler=base.scheduler,
        depth_estimator=estimator,
        feature_extractor=processor,
    )
    _save(pipeline, folder / DEPTH)
    _share(folder / DEPTH)


def read_text_to_image(folder: Path) -> StableDiffusionPipeline:
    """The text-to-image pipeline in float32."""
    return StableDiffusionPipeline.from_pretrained(folder / TEXT_TO_IMAGE, torch_dtype=torch.float32)


def _save(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Save in float16, leaving the modules of `pipeline` in float32 on the CPU."""
    if folder.exists():
        shutil.rmtree(folder)  # links in it are removed, not what they point to
    pipeline.to("cpu", torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    pipeline.to(torch.float32)
    _name_as_published(folder / "text_encoder" / "model.safetensors")
    for path in folder.rglob("*.json"):
        _tidy(path)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)


def _name_as_published(weights: Path) -> None:
    """Put `text_model.` before every name, as in public checkpoints, which every release of transformers reads.

    Some read no other names, and leave the weights random without an error.
    """
    tensors = {
        f"text_model.{name.removeprefix('text_model.')}": value for name, value in load_file(weights).items()
    }
    save_file(tensors, weights, {"format": "pt"})


def _tidy(path: Path) -> None:
    """Leave out where a configuration was read from; name processor and dtype so that every release loads them."""
    if path.name not in ("config.json", "model_index.json", "scheduler_config.json"):
        return
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key != "_name_or_path"}
    if (
        "dtype" in kept
    ):  # of transformers' modules, which load as it says: like those of diffusers, in float32
        kept["dtype"] = "float32"
    if "feature_extractor" in kept and kept["feature_extractor"][0] is not None:
        kept["feature_extractor"] = ["transformers", "DPTImageProcessor"]
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


def _share(folder: Path) -> None:
    """Replace what is the same in every checkpoint by links into the text-to-image one."""
    for part in _SHARED:
        shutil.rmtree(folder / part)
        (folder / part).symlink_to(Path("..") / TEXT_TO_IMAGE / part)
