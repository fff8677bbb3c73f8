"""A depth estimator in bfloat16: what it keeps that rounding all of it loses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.bit.modeling_bit import WeightStandardizedConv2d

from calotype_export import build, depth_network, gates
from calotype_export.build import BuildOptions
from calotype_export.programs import DepthEstimator, dtype_of
from calotype_export.sources import Sources
from tests import bundles


@pytest.fixture(params=["tiny", "demo"])
def opened(request: pytest.FixtureRequest, depth_folder: Path) -> Sources:
    """A hybrid of random weights, and one without convolutions before it that was trained."""
    folder = depth_folder if request.param == "tiny" else bundles.ROOT / "demo" / "depth"
    return build.opened(BuildOptions(folder, Path()))


def pixels_for(sources: Sources) -> torch.Tensor:
    height, width = sources.sizes.pixels["depth_estimator"]
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))


def depth(model: Any, pixels: torch.Tensor) -> gates.Array:
    """As a bundle's program gives it."""
    with torch.no_grad():
        return DepthEstimator(model)({"pixel_values": pixels})["depth"].numpy()


def test_it_is_nearer_to_float32_than_eagers(opened: Sources) -> None:
    pixels = pixels_for(opened)
    exact = depth(opened.load("depth_estimator", "fp32"), pixels)
    ours = depth(opened.load("depth_estimator", "bf16"), pixels)
    eager = depth(opened.checkpoint.load("depth_estimator", torch.bfloat16), pixels)
    assert (
        0 < gates.distance([ours], [exact]).relative_l2 < gates.distance([eager], [exact]).relative_l2 < 0.1
    )
    assert ours.dtype == np.float32
    assert len(np.unique(ours)) > 4 * len(np.unique(eager))  # depths near each other are not made equal


def test_kernels_standardised_once_are_those_of_each_run(depth_folder: Path) -> None:
    opened = build.opened(BuildOptions(depth_folder, Path()))
    model: Any = opened.checkpoint.load("depth_estimator")
    pixels = pixels_for(opened)
    exact = depth(model, pixels)
    layers = [each for each in model.modules() if isinstance(each, WeightStandardizedConv2d)]
    before = [each.weight.clone() for each in layers]
    assert np.array_equal(depth(depth_network.rounded(model, torch.float32), pixels), exact)
    assert layers
    assert not any(torch.equal(one, each.weight) for one, each in zip(before, layers, strict=True))


def test_all_but_the_last_layer_and_transposed_convolutions_is_rounded(opened: Sources) -> None:
    model: Any = opened.load("depth_estimator", "bf16")
    assert dtype_of(model) == torch.bfloat16
    exact: Any = opened.load("depth_estimator", "fp32")
    transposed = {name for name, each in exact.named_modules() if isinstance(each, torch.nn.ConvTranspose2d)}
    assert bool(transposed) != exact.config.is_hybrid
    kept = {name: each for name, each in model.named_parameters() if each.dtype != torch.bfloat16}
    layers = {"head.head.4", *transposed}
    assert {*kept} == {f"{name}.layer.{kind}" for name in layers for kind in ("weight", "bias")}
    for name, weight in kept.items():
        assert torch.equal(weight, exact.get_parameter(name.replace(".layer.", ".")))
