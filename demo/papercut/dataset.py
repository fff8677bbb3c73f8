"""Examples: latents with captions, and what inpainting and depth checkpoints see besides; encoded once, kept."""

# diffusers, transformers and torch annotate less than they take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false, reportCallIssue=false
from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from tqdm import tqdm
from transformers import CLIPTokenizer

from papercut.autoencoder import device, encode
from papercut.captions import sample_caption
from papercut.masks import sample_mask
from papercut.rendering import Render, render
from papercut.scenes import sample_scene
from papercut.text import tokenise

Condition = Callable[[Render, AutoencoderKL, np.random.Generator], torch.Tensor]
_CAPTIONS_PER_PICTURE: Final = 8


@dataclass(frozen=True, slots=True)
class Examples:
    """Scaled latents (N, 4, H, W), extra channels (N, E, H, W), token ids (N, captions, 77)."""

    latents: torch.Tensor
    extras: torch.Tensor
    tokens: torch.Tensor

    def without_extras(self) -> Examples:
        """The same pictures for text-to-image: no extra channel."""
        return Examples(self.latents, self.extras[:, :0], self.tokens)

    def pooled(self) -> Examples:
        """Latents averaged over 2 x 2, (N, 4, H/2, W/2), without extra channels."""
        return Examples(
            functional.avg_pool2d(self.latents.float(), 2).half(), self.extras[:, :0, ::2, ::2], self.tokens
        )


def mask_condition(drawn: Render, autoencoder: AutoencoderKL, generator: np.random.Generator) -> torch.Tensor:
    """Inpainting: the mask and the latents of the picture grey under it, (5, H/8, W/8), in diffusers' order."""
    mask = sample_mask(drawn.masks, generator)
    side = mask.shape[0] // 8
    small = functional.interpolate(torch.from_numpy(mask)[None, None].float(), size=(side, side))[0]
    return torch.cat([small, encode(autoencoder, hide(drawn.picture, mask)[None])[0]])


def hide(picture: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The picture with 127.5, which is 0 in [-1, 1], wherever the mask is set."""
    return np.where(mask[:, :, None], np.float32(127.5), picture).astype(np.float32)


def depth_condition(
    drawn: Render, autoencoder: AutoencoderKL, generator: np.random.Generator
) -> torch.Tensor:
    """Depth: the disparity in [-1, 1], (1, H/8, W/8), blurred at random as an estimate would be."""
    del autoencoder
    depth = torch.from_numpy(drawn.depth)[None, None]
    blur = int(generator.choice((1, 1, 9, 17, 25)))
    depth = functional.avg_pool2d(depth, blur, stride=1, padding=blur // 2, count_include_pad=False)
    return scale_depth(
        functional.interpolate(depth, scale_factor=1 / 8, mode="bicubic", align_corners=False)
    )[0]


def scale_depth(depth: torch.Tensor) -> torch.Tensor:
    """Each map of (B, 1, H, W) to [-1, 1], as `StableDiffusionDepth2ImgPipeline.prepare_depth_map` does."""
    low, high = depth.amin((1, 2, 3), keepdim=True), depth.amax((1, 2, 3), keepdim=True)
    return 2 * (depth - low) / (high - low) - 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to encode: `count` pictures of `side` pixels with one condition; `name` is the cache file's."""

    name: str
    count: int
    side: int
    condition: Condition
    seed: int


def load_examples(
    recipe: Recipe, autoencoder: AutoencoderKL, tokenizer: CLIPTokenizer, cache: Path
) -> Examples:
    """Read the examples from `cache`, or render and encode them first."""
    path = cache / f"{recipe.name}.examples.pt"
    if not path.exists():
        examples = _encode_examples(recipe, autoencoder, tokenizer)
        torch.save((examples.latents, examples.extras, examples.tokens), path)
    return Examples(*torch.load(path, weights_only=True))


def _encode_examples(recipe: Recipe, autoencoder: AutoencoderKL, tokenizer: CLIPTokenizer) -> Examples:
    autoencoder = autoencoder.to(device()).eval()
    generator = np.random.default_rng((recipe.seed, 4))
    latents: list[torch.Tensor] = []
    extras: list[torch.Tensor] = []
    captions: list[str] = []
    print(f"encoding {recipe.count} pictures for {recipe.name}", file=sys.stderr, flush=True)
    nn.Module.to(autoencoder, memory_format=torch.channels_last)
    for _ in tqdm(range(recipe.count), desc=f"{recipe.name} pictures", disable=None):
        scene = sample_scene(generator, "train")
        drawn = render(scene, recipe.side)
        latents.append(encode(autoencoder, drawn.picture[None])[0].half())
        extras.append(recipe.condition(drawn, autoencoder, generator).half())
        captions += [sample_caption(scene, generator) for _ in range(_CAPTIONS_PER_PICTURE)]
    tokens = tokenise(tokenizer, captions).reshape(recipe.count, _CAPTIONS_PER_PICTURE, -1)
    return Examples(torch.stack(latents), torch.stack(extras), tokens.short())
