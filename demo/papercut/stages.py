"""The stages of `demo/train`, in order. In: a budget, a seed and a cache folder; out: three checkpoint folders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from papercut import checkpoints
from papercut.autoencoder import train_autoencoder
from papercut.dataset import Condition, Examples, Recipe, depth_condition, load_examples, mask_condition
from papercut.depth_estimator import build_processor, train_depth_estimator
from papercut.diffusion import Course, Painter, add_outer_level, build_inner_unet, grow, train_unet
from papercut.loop import Schedule
from papercut.text import pretrain_text_encoder, train_tokenizer

STAGES: Final = ("vae", "text", "base", "text-to-image", "inpainting", "depth")


@dataclass(frozen=True, slots=True)
class Budget:
    """How many pictures are rendered, with and without a mask; steps of every stage; (steps, batch) of each UNet's."""

    pictures: int
    masked_pictures: int
    vae: int
    text: int
    base: tuple[int, int]
    text_to_image: tuple[int, int]
    inpainting: tuple[int, int]
    depth: tuple[int, int]
    estimator: int


FULL: Final = Budget(
    pictures=4000,
    masked_pictures=1500,
    vae=900,
    text=1000,
    base=(4800, 32),
    text_to_image=(6600, 16),
    inpainting=(2400, 16),
    depth=(2900, 16),
    estimator=2000,
)
QUICK: Final = Budget(
    pictures=2,
    masked_pictures=2,
    vae=4,
    text=4,
    base=(2, 2),
    text_to_image=(2, 1),
    inpainting=(2, 1),
    depth=(2, 1),
    estimator=2,
)
_SIDE: Final = 512


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
    def text_encoder(self) -> CLIPTextModel:
        """The trained text encoder."""
        return pretrain_text_encoder(self.tokenizer, self.budget.text, self.seed, self.cache)

    @cached_property
    def pictures(self) -> Examples:
        """Pictures with their depth maps."""
        return self._examples("pictures", self.budget.pictures, depth_condition, self.seed)

    @cached_property
    def base(self) -> UNet2DConditionModel:
        """The inner UNet, trained on latents averaged over 2 x 2."""
        torch.manual_seed(self.seed + 2)
        unet = build_inner_unet()
        schedule = Schedule(self.budget.base[0], 1.5e-3, decay=0.5, average=0.995)
        return self._train(
            unet, self.pictures.pooled(), Course("base", self.budget.base[1], schedule, self.seed, 0.5)
        )

    @cached_property
    def text_to_image(self) -> UNet2DConditionModel:
        """The inner UNet and a level around it, trained on the latents themselves."""
        base = self.base
        torch.manual_seed(self.seed + 3)
        return self._refine(
            "text-to-image",
            self.budget.text_to_image,
            self.pictures.without_extras(),
            add_outer_level(base),
        )

    @cached_property
    def inpainting(self) -> UNet2DConditionModel:
        """The UNet that sees a mask and masked latents besides."""
        masked = self._examples("inpainting", self.budget.masked_pictures, mask_condition, self.seed + 10)
        return self._refine("inpainting", self.budget.inpainting, masked, grow(self.text_to_image, 5))

    @cached_property
    def depth(self) -> UNet2DConditionModel:
        """The UNet that sees a depth map besides."""
        return self._refine("depth", self.budget.depth, self.pictures, grow(self.text_to_image, 1))

    def _examples(self, name: str, count: int, condition: Condition, seed: int) -> Examples:
        recipe = Recipe(name, count, _SIDE, condition, seed)
        return load_examples(recipe, self.autoencoder, self.tokenizer, self.cache)

    def _refine(
        self, name: str, work: tuple[int, int], examples: Examples, unet: UNet2DConditionModel
    ) -> UNet2DConditionModel:
        steps, batch = work
        schedule = Schedule(steps, 1e-3, warmup=50, decay=0.8, average=0.99)
        return self._train(unet, examples, Course(name, batch, schedule, self.seed + len(name)))

    def _train(self, unet: UNet2DConditionModel, examples: Examples, course: Course) -> UNet2DConditionModel:
        train_unet(Painter(unet, self.text_encoder), examples, self.tokenizer, course, self.cache)
        return unet

    def _write_text_to_image(self, folder: Path) -> None:
        painter = Painter(self.text_to_image, self.text_encoder)
        checkpoints.write_text_to_image(folder, self.autoencoder, painter, self.tokenizer)

    def _write_shared(self, folder: Path) -> None:
        """Write what the other checkpoints link to, unless it is there."""
        if not (folder / checkpoints.TEXT_TO_IMAGE / "model_index.json").is_file():
            self._write_text_to_image(folder)

    def run(self, stage: str, folder: Path) -> None:
        """Run one stage with whatever it needs, and write its checkpoint into `folder` if it has one."""
        match stage:
            case "vae":
                _ = self.autoencoder
            case "text":
                _ = self.text_encoder
            case "base":
                _ = self.base
            case "text-to-image":
                self._write_text_to_image(folder)
            case "inpainting":
                self._write_shared(folder)
                checkpoints.write_inpainting(folder, self.inpainting)
            case "depth":
                self._write_shared(folder)
                estimator = train_depth_estimator(self.budget.estimator, self.seed, self.cache)
                checkpoints.write_depth(folder, self.depth, estimator, build_processor())
            case _:
                raise ValueError(
                    f"stage: expected one of {', '.join(STAGES)}, found {stage!r}\nhint: see --help"
                )
