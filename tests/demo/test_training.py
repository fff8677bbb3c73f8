"""The training resumes exactly, starts where it says, and refuses a stage that does not exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from papercut.autoencoder import build_autoencoder, to_tensor
from papercut.colour_start import carry_colours
from papercut.dataset import scale_depth
from papercut.diffusion import add_outer_level, build_inner_unet, build_scheduler, build_unet, grow
from papercut.loop import Schedule, fit
from papercut.masks import box_around, sample_mask
from papercut.stages import QUICK, Training

DEMO = Path(__file__).parents[2] / "demo"


def _trained(folder: Path, *step_counts: int) -> torch.Tensor:
    torch.manual_seed(0)
    module = nn.Linear(3, 1)

    def loss_at(step: int) -> torch.Tensor:
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        return (module(inputs) - inputs.sum(1, keepdim=True)).square().mean()

    for steps in step_counts:
        fit(module, loss_at, Schedule(steps, 0.01, warmup=1, decay=0.0), folder / "linear.pt")
    return module.weight.detach()


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    assert torch.equal(_trained(tmp_path / "two", 6, 12), _trained(tmp_path / "one", 12))


def test_a_grown_unet_ignores_its_new_channels_at_first() -> None:
    unet = build_unet().eval()
    sample, extra = torch.randn(1, 4, 16, 16), torch.randn(1, 5, 16, 16)
    embeddings, time = torch.randn(1, 77, 128), torch.tensor([500])
    with torch.no_grad():
        before = unet(sample, time, embeddings).sample
        after = grow(unet, 5).eval()(torch.cat([sample, extra], dim=1), time, embeddings).sample
    assert torch.allclose(before, after, atol=1e-5)


def test_an_outer_level_leaves_the_inner_weights_as_they_are() -> None:
    inner = build_inner_unet()
    outer = add_outer_level(inner).state_dict()
    moved = {
        name.replace("down_blocks.1", "down_blocks.2").replace("down_blocks.0", "down_blocks.1"): weight
        for name, weight in inner.state_dict().items()
        if not name.startswith("down_blocks.2")
    }
    assert all(torch.equal(outer[name], weight) for name, weight in moved.items())
    assert torch.equal(
        outer["down_blocks.3.resnets.0.conv1.weight"],
        inner.state_dict()["down_blocks.2.resnets.0.conv1.weight"],
    )


def test_an_outer_level_at_first_changes_little_in_what_the_inner_unet_says_of_flat_colours() -> None:
    torch.manual_seed(0)
    inner = build_inner_unet().eval()
    outer = add_outer_level(inner).eval()
    flat = torch.randn(1, 4, 1, 1).expand(1, 4, 64, 64)
    embeddings, time = torch.randn(1, 77, 128), torch.tensor([500])
    with torch.no_grad():
        wanted = inner(flat[:, :, :32, :32], time, embeddings).sample
        found = outer(flat, time, embeddings).sample
    middle = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    found = nn.functional.avg_pool2d(found, 2)
    assert (found[middle] - wanted[middle]).norm() < 0.35 * wanted[middle].norm()


def test_the_noise_schedule_ends_in_noise_alone() -> None:
    assert float(build_scheduler().alphas_cumprod[-1]) ** 0.5 < 0.003


def test_a_new_vae_already_carries_colours() -> None:
    autoencoder = build_autoencoder().eval()
    carry_colours(autoencoder)
    colours = np.full((2, 64, 64, 3), ((214, 48, 44),), dtype=np.uint8)
    colours[1] = (40, 104, 208)
    with torch.no_grad():
        encoded: Any = autoencoder.encode(to_tensor(colours))
    latents = encoded.latent_dist.mode()[:, :3].mean((2, 3))
    assert latents.argmax(1).tolist() == [0, 2]


def test_depth_is_scaled_to_the_range_that_the_unet_sees() -> None:
    scaled = scale_depth(torch.rand(3, 1, 8, 8) * 7 + 2)
    assert scaled.amin((1, 2, 3)).tolist() == [-1] * 3 and scaled.amax((1, 2, 3)).tolist() == [1] * 3


def test_a_box_covers_its_item_and_the_margin() -> None:
    item = np.zeros((32, 32), dtype=np.uint8)
    item[10:14, 20:30] = 255
    mask = box_around(item, 3)
    assert mask.sum() == 10 * 15 and mask[7:17, 17:32].all()


def test_every_mask_covers_something() -> None:
    item = np.zeros((1, 64, 64), dtype=np.uint8)
    item[0, 20:30, 20:30] = 255
    generator = np.random.default_rng(0)
    assert all(sample_mask(item, generator).any() for _ in range(100))


def test_an_unknown_stage_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found 'sculpture'\nhint: see --help"):
        Training(QUICK, 0, tmp_path).run("sculpture", tmp_path)


@pytest.mark.slow
def test_one_command_trains_and_writes_all_three_checkpoints(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(DEMO / "train"),
        "--quick",
        "--cache",
        str(tmp_path / "cache"),
        "--output",
        str(tmp_path),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=800)
    assert {path.parent.name for path in tmp_path.glob("*/model_index.json")} == {
        "text-to-image",
        "inpainting",
        "depth",
    }
