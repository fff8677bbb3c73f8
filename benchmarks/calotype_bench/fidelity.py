"""How far what one engine drew is from what another drew of the same request."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# PSNR in dB from float32's that rounding can explain at least: fp32 is at 60 and more, bf16 at 40 on trained weights
# and at 30 on random ones; other weights, prompts or noise are at 12.
SAME_PICTURE: Mapping[str, float] = {"fp32": 45, "fp16": 30, "bf16": 20}
# Relative L2 of latents from float32's that rounding can explain at most. In fp16 they were 4e-3 away after 50 steps on
# an H200, and those of a wrong kernel 0.34.
PLAUSIBLE: Mapping[str, float] = {"fp32": 1e-3, "fp16": 2e-2, "bf16": 2e-1}


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Of the final latents, where both show them, and of the pictures in eight bits. `psnr` None: no pixel differs."""

    latents: float | None  # relative L2
    cosine: float | None  # of the latents
    psnr: float | None  # dB
    ssim: float
    largest: int  # difference of a pixel value, of 255

    def plausible(self, precision: str) -> bool:
        """Whether rounding to `precision` explains the distance: ratios of seconds take one picture for granted."""
        near = self.latents is None or self.latents <= PLAUSIBLE[precision]
        return near and (self.psnr is None or self.psnr >= SAME_PICTURE[precision])


def of_files(reference: Path, found: Path) -> Fidelity:
    """Between two files that `worker.save_drawn` left. ValueError where the pictures are of different sizes."""
    with np.load(reference) as expected, np.load(found) as actual:
        latents = (
            (expected["latents"], actual["latents"])
            if "latents" in expected and "latents" in actual
            else None
        )
        return compare(expected["pictures"], actual["pictures"], latents)


def compare(expected: Array, found: Array, latents: tuple[Array, Array] | None = None) -> Fidelity:
    """Of pictures (n, h, w, 3) in [0, 1], and of (expected, found) latents of one shape.

    ValueError where shapes differ, or a number is not finite.
    """
    if expected.shape != found.shape:
        raise ValueError(f"pictures: expected {expected.shape}, found {found.shape}")
    if not all(np.isfinite(each).all() for each in (expected, found, *(latents or ()))):
        raise ValueError("pictures or latents are not finite")
    metrics: Any = importlib.import_module("skimage.metrics")  # not where only a GPU is measured
    left, right = (eight_bits(pictures) for pictures in (expected, found))
    largest = int(np.abs(left.astype(int) - right).max())
    similar = [
        float(metrics.structural_similarity(*pair, channel_axis=2, data_range=255))
        for pair in zip(left, right, strict=True)
    ]
    return Fidelity(
        latents=None if latents is None else relative(*latents),
        cosine=None if latents is None else _cosine(*latents),
        psnr=float(metrics.peak_signal_noise_ratio(left, right, data_range=255)) if largest else None,
        ssim=min(similar),
        largest=largest,
    )


def relative(expected: Array, found: Array) -> float:
    """Relative L2, in float64."""
    exact = expected.astype(np.float64)
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def eight_bits(pictures: Array) -> NDArray[np.uint8]:
    """As a picture file holds them."""
    return np.round(np.clip(pictures, 0, 1) * 255).astype(np.uint8)


def _cosine(expected: Array, found: Array) -> float:
    left, right = (each.astype(np.float64).ravel() for each in (expected, found))
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))
