"""Bundles of other sizes: any multiple of 8 passes its gate, and draws what eager diffusers draws."""

from __future__ import annotations

from pathlib import Path

import pytest

from calotype import Pipeline
from calotype_export.build import BuildOptions, build
from tests.bundles import checkpoint
from tests.parity.eager import Eager, compare

SIZES = [(480, 480), (768, 768), (96, 168)]  # (height, width)


@pytest.mark.parametrize("size", SIZES, ids=[f"{height}x{width}" for height, width in SIZES])
def test_a_bundle_of_another_size_draws_what_eager_diffusers_draws(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    build(BuildOptions(checkpoint=checkpoint("plain"), output=tmp_path / "bundle", size=size))
    pipeline = Pipeline.load(tmp_path / "bundle", "onnxruntime", threads=1)
    request = {
        "prompt": "a red circle",
        "height": size[0],
        "width": size[1],
        "num_inference_steps": 3,
        "seed": 4,
    }

    compare(Eager(checkpoint("plain"), "text-to-image"), pipeline, "dpmpp_2m", request).check()
