"""What a bundle is made from: a checkpoint, and the segmenter that may be put beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from calotype.errors import CheckpointError
from calotype_export import components, configs, depth_network, eager, processors, programs, weight_files
from calotype_export.checkpoint import Checkpoint
from calotype_export.group_norm import steady
from calotype_export.programs import Program
from calotype_export.signatures import Sizes
from calotype_export.unet_step import UnetStep

DTYPES: Mapping[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
LOOK_AT_PICTURES = ("depth_estimator", "safety_checker", "segmenter")
# The precisions of a bundle in which a component is float32 all the same: those that look at pictures were not trained
# in float16, whose range they may leave, and CLIPSeg is seldom part of the work.
STAYS_FP32: Mapping[str, tuple[str, ...]] = {
    "depth_estimator": ("fp16",),
    "segmenter": ("fp16", "bf16"),
    "safety_checker": ("fp16",),
}
SEGMENTER = "CLIPSegForImageSegmentation"


@dataclass(frozen=True, slots=True)
class Sources:
    """Models by component name, one loaded at a time."""

    checkpoint: Checkpoint
    segmenter: Path | None = None

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the components that there are."""
        return (*self.checkpoint.components, *(("segmenter",) if self.segmenter else ()))

    @property
    def sizes(self) -> Sizes:
        """Sizes of the components that the manifest does not state."""
        pixels: dict[str, tuple[int, int]] = {}
        for component in (name for name in LOOK_AT_PICTURES if name in self.components):
            settings = self.processor(component)
            height, width = settings["crop"] or (settings["height"], settings["width"])
            pixels[component] = (int(height), int(width))
        return Sizes(int(self.checkpoint.configs["text_encoder"]["hidden_size"]), pixels)

    def load(self, component: str, precision: str) -> torch.nn.Module:
        """The component as its programs are traced, in `precision` (fp32, fp16, bf16), in evaluation mode.

        Group norms of a VAE's encoder keep float32's digits in every runtime (`group_norm.py`); in bf16 they stay as
        they are, since no order of adding up loses what that has. Some layers of a depth estimator are replaced, and
        its last stays float32 (`depth_network.py`). Of a safety checker the network alone is rounded: what its scores
        are made from after it stays float32.
        """
        if component == "vae":
            vae = self.eager(component, precision)
            if precision != "bf16":
                steady(vae.get_submodule("encoder"))
            return vae
        if component == "depth_estimator":
            return depth_network.prepared(self.eager(component, "fp32"), DTYPES[precision])
        if component == "safety_checker":
            checker = self.eager(component, "fp32")
            checker.get_submodule("vision_model").to(DTYPES[precision])
            return checker
        return self.eager(component, precision)

    def eager(self, component: str, precision: str) -> torch.nn.Module:
        """The component as diffusers loads it, all of it in `precision`, in evaluation mode."""
        dtype = DTYPES[precision]
        if component != "segmenter":
            return self.checkpoint.load(component, dtype)
        if self.segmenter is None:
            raise CheckpointError("there is no segmenter", "name one with --segmenter")
        kind = components.KINDS[SEGMENTER]
        files = weight_files.find(self.segmenter, kind.weights)
        return components.load(kind, self.segmenter, dtype, files.variant)

    def processor(self, component: str) -> Mapping[str, Any]:
        """How `component` wants its pictures."""
        if component == "segmenter" and self.segmenter is not None:
            return processors.record(configs.read(self.segmenter / "preprocessor_config.json"))
        return self.checkpoint.processor(component)

    def tokenizer(self, component: str) -> Any:
        """The tokenizer of the text encoder or the segmenter."""
        if component == "segmenter" and self.segmenter is not None:
            return eager.tokenizer(self.segmenter)
        return self.checkpoint.tokenizer()


def with_segmenter(checkpoint: Checkpoint, folder: Path | None) -> Sources:
    """The sources, once the config in `folder` was found to be CLIPSeg's. CheckpointError otherwise."""
    if folder is not None:
        found = components.kind_of(configs.read(folder / "config.json")).name
        if found != SEGMENTER:
            raise CheckpointError(f"--segmenter: expected a {SEGMENTER}, found a {found}")
    return Sources(checkpoint, folder)


def wrapped(program: str, model: Any) -> Program:
    """`model` as the program called `program`."""
    wrappers: Mapping[str, Callable[[Any], Program]] = {
        "text_encoder": programs.TextEncoder,
        "unet_step": UnetStep,
        "vae_encoder": programs.VaeEncoder,
        "vae_decoder": programs.VaeDecoder,
        "depth_estimator": programs.DepthEstimator,
        "safety_checker": programs.SafetyChecker,
        "segmenter": programs.Segmenter,
    }
    return wrappers[program](model)
