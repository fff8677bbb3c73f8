"""The depth estimator: a small DPT, trained on renders to give their disparity (B, 256, 256)."""

# diffusers, transformers and torch annotate less than they take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

from papercut.autoencoder import device
from papercut.loop import Schedule, fit
from papercut.rendering import render
from papercut.scenes import Split, sample_scene

_SIDE: Final = 256
_BATCH: Final = 8
_POOL: Final = 1200
# Disparity is learnt and given in these units, so that the loss is about one.
_SCALE: Final = 10.0


def build_depth_estimator() -> DPTForDepthEstimation:
    """A small `DPTForDepthEstimation` on a ViT with patches of 16 pixels, of about 0.6 M parameters."""
    return DPTForDepthEstimation(
        DPTConfig(
            hidden_size=96,
            num_hidden_layers=4,
            num_attention_heads=4,
            intermediate_size=192,
            image_size=_SIDE,
            patch_size=16,
            is_hybrid=False,
            backbone_out_indices=[0, 1, 2, 3],
            neck_hidden_sizes=[16, 24, 48, 48],
            fusion_hidden_size=24,
            reassemble_factors=[4, 2, 1, 0.5],
            use_auxiliary_head=False,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    )


def build_processor() -> DPTImageProcessor:
    """The image processor beside it: 256 x 256 pixels in [-1, 1]."""
    return DPTImageProcessor(
        size={"height": _SIDE, "width": _SIDE}, image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5]
    )


def train_depth_estimator(steps: int, seed: int, cache: Path) -> DPTForDepthEstimation:
    """Train from scratch with L1 on disparity and on its differences between neighbouring pixels."""
    torch.manual_seed(seed + 4)
    estimator = build_depth_estimator().to(device())
    pixels, depths = _pool(seed, "train", min(_POOL, 4 * steps))

    def loss_at(step: int) -> torch.Tensor:
        rows = np.random.default_rng((seed, 6, step)).integers(len(pixels), size=_BATCH)
        with torch.autocast(device().type, torch.bfloat16):
            predicted = estimator(_normalise(pixels[rows])).predicted_depth
        error = predicted.float() - torch.from_numpy(depths[rows]).float().to(device()) * _SCALE
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        return error.abs().mean() + 2 * edges

    fit(estimator, loss_at, Schedule(steps, 1.5e-3, decay=0.7, average=0.99), cache / "depth-estimator.pt")
    return estimator


@torch.no_grad()
def measure_depth_error(estimator: DPTForDepthEstimation, seed: int, pictures: int) -> float:
    """Mean absolute error of disparity (0 far, 1 near) on held-out renders."""
    pixels, depths = _pool(seed + 1, "held-out", pictures)
    errors = [
        functional.l1_loss(
            estimator(_normalise(pixels[row : row + 1])).predicted_depth / _SCALE,
            torch.from_numpy(depths[row : row + 1]).float(),
        )
        for row in range(pictures)
    ]
    return float(torch.stack(errors).mean())


def _pool(seed: int, split: Split, count: int) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    generator = np.random.default_rng((seed, 7))
    drawn = [render(sample_scene(generator, split), _SIDE) for _ in range(count)]
    return np.stack([one.picture for one in drawn]), np.stack([one.depth.astype(np.float16) for one in drawn])


def _normalise(pixels: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().to(device()) / 127.5 - 1
