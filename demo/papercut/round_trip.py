"""The VAE's own round trip: a picture encoded and decoded again, both (H, W, 3) uint8."""

# diffusers, transformers and torch annotate less than they take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from papercut.autoencoder import to_tensor
from papercut.drawing import Picture


def round_trip(checkpoint: Path) -> Callable[[Picture], Picture]:
    """The round trip through the VAE in `checkpoint`."""
    autoencoder = AutoencoderKL.from_pretrained(checkpoint / "vae", torch_dtype=torch.float32)

    @torch.no_grad()
    def through(picture: Picture) -> Picture:
        latents = autoencoder.encode(to_tensor(picture[None])).latent_dist.mode()
        decoded = autoencoder.decode(latents).sample[0].permute(1, 2, 0)
        return ((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()

    return through


def measure_psnr(checkpoint: Path, pictures: list[Picture]) -> float:
    """The round trip's mean PSNR in dB."""
    through = round_trip(checkpoint)
    errors = [np.mean((through(picture).astype(np.float32) - picture) ** 2) for picture in pictures]
    return float(np.mean(10 * np.log10(255**2 / np.asarray(errors))))
