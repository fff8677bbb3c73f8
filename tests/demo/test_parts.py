"""The VAE and the depth estimator as shipped: the figures of `demo/README.md`, with some room."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import DPTForDepthEstimation

from papercut.depth_estimator import measure_depth_error
from papercut.rendering import render
from papercut.round_trip import measure_psnr
from papercut.scoring import held_out_scenes

DEMO = Path(__file__).parents[2] / "demo"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_the_vae_gives_renders_back() -> None:
    renders = [
        render(scene, 512).picture for _, (_, scene, _) in zip(range(24), held_out_scenes(20), strict=False)
    ]
    found = measure_psnr(DEMO / "text-to-image", renders)
    print(f"round trip: {found:.1f} dB")  # noqa: T201
    assert found > 31.0


def test_the_depth_estimator_sees_what_is_near() -> None:
    estimator = DPTForDepthEstimation.from_pretrained(DEMO / "depth" / "depth_estimator").eval()
    found = measure_depth_error(estimator, seed=20, pictures=40)
    print(f"mean absolute error: {found:.3f}")  # noqa: T201
    assert found < 0.03
