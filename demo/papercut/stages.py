"""The stages of `demo/train`, in order. In: a budget, a seed and a cache folder; out: three checkpoint folders."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTokenizer

from papercut import checkpoints
from papercut.autoencoder import train_autoencoder
from papercut.dataset import Condition, Recipe, depth_condition, load_examples, mask_condition, no_condition
from papercut.depth_estimator import build_processor, train_depth_estimator
from papercut.diffusion import Course, Painter, build_unet, grow, train_jointly, train_unet
from papercut.loop import Schedule
from papercut.text import pretrain_text_encoder, train_tokenizer

STAGES: Final = ("vae", "text", "base", "text-to-image", "inpainting", "depth")


@dataclass(frozen=True, slots=True)
class Budget:
    """Steps of the VAE, text encoder and depth estimator; (steps, pictures, batch) of each UNet stage."""

    vae: int
    text: int
    base: tuple[int, int, int]
    text_to_image: tuple[int, int, int]
    inpainting: tuple[int, int, int]
    depth: tuple[int, int, int]
    estimator: int
    side: int


FULL: Final = Budget(
    vae=900,
    text=1000,
    base=(9000, 8000, 32),
    text_to_image=(2000, 3000, 16),
    inpainting=(1200, 2000, 16),
    depth=(800, 2000, 16),
    estimator=1200,
    side=512,
)
QUICK: Final = Budget(
    vae=4,
    text=4,
    base=(2, 2, 2),
    text_to_image=(2, 2, 1),
    inpainting=(2, 2, 1),
    depth=(2, 2, 1),
    estimator=2,
    side=512,
)


class Training:
    """One run of the stages; each is trained when first asked for, and read from `cache` after that."""

    def __init__(self, budget: Budget, seed: int, cache: Path) -> None:
        cache.mkdir(parents=True, exist_ok=True)
        self.budget, self.seed, self.cache = budget, seed, cache

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        """The byte-pair tokenizer."""
        return train_tokenizer(self.seed)

    @cached_property
    def autoencoder(self) -> AutoencoderKL:
        """The trained VAE."""
        return train_autoencoder(self.budget.vae, self.seed, self.cache)

    @cached_property
    def base(self) -> Painter:
        """UNet and text encoder, trained together on 32x32 latents."""
        encoder = pretrain_text_encoder(self.tokenizer, self.budget.text, self.seed, self.cache)
        painter = Painter(build_unet(), encoder)
        steps, pictures, batch = self.budget.base
        course = Course("base", batch, Schedule(steps, 1.2e-3, decay=0.3, average=0.99), self.seed)
        recipe = Recipe("base", pictures, self.budget.side // 2, no_condition, self.seed)
        examples = load_examples(recipe, self.autoencoder, self.tokenizer, self.cache)
        train_jointly(painter, examples, self.tokenizer, course, self.cache)
        return painter

    @cached_property
    def text_to_image(self) -> Painter:
        """The same, its UNet trained on 64x64 latents."""
        return self._refine(
            "text-to-image", self.budget.text_to_image, no_condition, copy.deepcopy(self.base.unet)
        )

    @cached_property
    def inpainting(self) -> UNet2DConditionModel:
        """The UNet that sees a mask and masked latents besides."""
        unet = grow(self.text_to_image.unet, 5)
        return self._refine("inpainting", self.budget.inpainting, mask_condition, unet).unet

    @cached_property
    def depth(self) -> UNet2DConditionModel:
        """The UNet that sees a depth map besides."""
        unet = grow(self.text_to_image.unet, 1)
        return self._refine("depth", self.budget.depth, depth_condition, unet).unet

    def _refine(
        self, name: str, work: tuple[int, int, int], condition: Condition, unet: UNet2DConditionModel
    ) -> Painter:
        steps, pictures, batch = work
        painter = Painter(unet, self.base.text_encoder)
        recipe = Recipe(name, pictures, self.budget.side, condition, self.seed + len(name))
        examples = load_examples(recipe, self.autoencoder, self.tokenizer, self.cache)
        course = Course(name, batch, Schedule(steps, 1e-3, warmup=20, decay=0.8, average=0.98), self.seed)
        train_unet(painter, examples, self.tokenizer, course, self.cache)
        return painter

    def run(self, stage: str, folder: Path) -> None:
        """Run one stage with whatever it needs, and write its checkpoint into `folder` if it has one."""
        match stage:
            case "vae":
                _ = self.autoencoder
            case "text" | "base":
                _ = self.base
            case "text-to-image":
                checkpoints.write_text_to_image(folder, self.autoencoder, self.text_to_image, self.tokenizer)
            case "inpainting":
                checkpoints.write_inpainting(folder, self.inpainting)
            case "depth":
                estimator = train_depth_estimator(self.budget.estimator, self.seed, self.cache)
                checkpoints.write_depth(folder, self.depth, estimator, build_processor())
            case _:
                raise ValueError(
                    f"stage: expected one of {', '.join(STAGES)}, found {stage!r}\nhint: see --help"
                )
