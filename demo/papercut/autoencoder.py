"""The VAE: built, trained on crops of renders, and used to turn pictures (B, 3, H, W) in [-1, 1] into latents."""

# diffusers, transformers and torch annotate less than they take and give.
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false
from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch.nn import functional

from papercut.colour_start import carry_colours
from papercut.loop import Schedule, fit
from papercut.rendering import render_picture
from papercut.scenes import sample_scene

_POOL: Final = 768
_PIXELS_PER_BATCH: Final = 8 * 128 * 128


# Weight of the KL divergence (nats, mean over latent elements), and of L1 after 8x8 averaging, beside L1 + L2.
_KL_WEIGHT: Final = 1e-5
_COLOUR_WEIGHT: Final = 1.0
# Small crops teach edges quickly; large ones then settle the normalisation layers' statistics.
_SMALL_CROP, _LARGE_CROP = 128, 256
_SMALL_SHARE: Final = 0.75


def build_autoencoder() -> AutoencoderKL:
    """A small `AutoencoderKL`: 8x down, 4 latent channels, few channels where there are many pixels."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(12, 24, 48, 80),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
        sample_size=512,
        mid_block_add_attention=False,
    )


def train_autoencoder(steps: int, seed: int, cache: Path) -> AutoencoderKL:
    """Train from scratch, then set `scaling_factor` so that scaled latents have unit variance."""
    torch.manual_seed(seed)
    autoencoder = build_autoencoder()
    carry_colours(autoencoder)
    autoencoder.to(device())
    pool = _render_pool(seed)

    def loss_at(step: int) -> torch.Tensor:
        generator = np.random.default_rng((seed, step))
        side = _SMALL_CROP if step < _SMALL_SHARE * steps else _LARGE_CROP
        count = _PIXELS_PER_BATCH // side**2
        crops = [_crop(pool[index], side, generator) for index in generator.integers(len(pool), size=count)]
        pictures = to_tensor(np.stack(crops)).to(device())
        with torch.autocast(device().type, torch.bfloat16):
            posterior = autoencoder.encode(pictures).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(seed + step))
            latents = posterior.mean + posterior.std * noise.to(device())
            decoded = autoencoder.decode(latents).sample.float()
        kl = posterior.kl().float().mean() / posterior.mean[0].numel()
        colour = functional.l1_loss(functional.avg_pool2d(decoded, 8), functional.avg_pool2d(pictures, 8))
        sharp = functional.l1_loss(decoded, pictures) + functional.mse_loss(decoded, pictures)
        return sharp + _KL_WEIGHT * kl + _COLOUR_WEIGHT * colour

    fit(autoencoder, loss_at, Schedule(steps, 1.5e-3, warmup=50, decay=0.7, average=0.99), cache / "vae.pt")
    _measure_scaling(autoencoder, pool)
    return autoencoder


def device() -> torch.device:
    """The GPU if torch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def to_tensor(pictures: NDArray[np.uint8] | NDArray[np.float32]) -> torch.Tensor:
    """(B, H, W, 3) uint8 (or the same range in float32) becomes (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def encode(autoencoder: AutoencoderKL, pictures: NDArray[np.uint8] | NDArray[np.float32]) -> torch.Tensor:
    """Scaled latents (B, 4, H/8, W/8) of pictures (B, H, W, 3): the posterior's mean."""
    with torch.autocast(autoencoder.device.type, torch.bfloat16):
        latents = autoencoder.encode(to_tensor(pictures).to(autoencoder.device)).latent_dist.mode()
    return (latents.float() * autoencoder.config["scaling_factor"]).cpu()


def _render_pool(seed: int) -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng((seed, 0, 1))
    return [
        render_picture(sample_scene(generator, "train"), 512 if index % 2 else 256) for index in range(_POOL)
    ]


def _crop(picture: NDArray[np.uint8], side: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """The busiest of three random crops: most of a picture is plain background."""
    corners = generator.integers(0, picture.shape[0] - side + 1, size=(3, 2))
    crops = [picture[top : top + side, left : left + side] for top, left in corners]
    return max(crops, key=lambda crop: float(crop[::4, ::4].std()))


def _measure_scaling(autoencoder: AutoencoderKL, pool: list[NDArray[np.uint8]]) -> None:
    autoencoder.register_to_config(scaling_factor=1.0)
    pictures = np.stack([picture for picture in pool if picture.shape[0] == 512][:64])
    latents = torch.cat(
        [encode(autoencoder, pictures[start : start + 8]) for start in range(0, len(pictures), 8)]
    )
    autoencoder.register_to_config(scaling_factor=round(1.0 / latents.std().item(), 5))
