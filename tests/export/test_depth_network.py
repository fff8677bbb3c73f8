"""Depth estimators as they are exported: what was replaced, and what bfloat16 keeps that rounding all of it loses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from torch import nn
from transformers.models.bit.modeling_bit import WeightStandardizedConv2d

from calotype_export import build, cuda_graph, depth_network, gates, trace
from calotype_export.build import BuildOptions
from calotype_export.programs import DepthEstimator, dtype_of
from calotype_export.sources import DTYPES, Sources
from tests import bundles
from tests.export import modules
from tests.standin.cuda_kernels import lacking

SEEDS = range(12)


@pytest.fixture(params=["tiny", "demo"])
def opened(request: pytest.FixtureRequest, depth_folder: Path) -> Sources:
    """A hybrid of random weights, and one without convolutions before it that was trained."""
    folder = depth_folder if request.param == "tiny" else bundles.ROOT / "demo" / "depth"
    return build.opened(BuildOptions(folder, Path()))


def pixels_for(sources: Sources, seed: int = 0) -> torch.Tensor:
    height, width = sources.sizes.pixels["depth_estimator"]
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def depth(model: Any, pixels: torch.Tensor) -> gates.Array:
    """As a bundle's program gives it."""
    with torch.no_grad():
        return DepthEstimator(model)({"pixel_values": pixels})["depth"].numpy()


def test_the_median_of_its_distances_from_float32_is_less_than_eagers(opened: Sources) -> None:
    exact = opened.eager("depth_estimator", "fp32")
    ours, eager = (load("depth_estimator", "bf16") for load in (opened.load, opened.eager))
    distances: dict[str, list[float]] = {"ours": [], "eager": []}
    for seed in SEEDS:
        pixels = pixels_for(opened, seed)
        expected, found, rounded = (depth(model, pixels) for model in (exact, ours, eager))
        distances["ours"].append(gates.distance([found], [expected]).relative_l2)
        distances["eager"].append(gates.distance([rounded], [expected]).relative_l2)
        assert found.dtype == np.float32
        # depths near each other are not made equal
        assert len(np.unique(found)) > 4 * len(np.unique(rounded))
    assert 0 < np.median(distances["ours"]) < np.median(distances["eager"])
    assert max(*distances["ours"], *distances["eager"]) < 0.1


def test_kernels_standardised_once_are_those_of_each_run(depth_folder: Path) -> None:
    opened = build.opened(BuildOptions(depth_folder, Path()))
    eager, ours = (load("depth_estimator", "fp32") for load in (opened.eager, opened.load))
    pixels = pixels_for(opened)
    assert np.array_equal(depth(ours, pixels), depth(eager, pixels))
    before, after = (
        [each.weight for each in model.modules() if isinstance(each, WeightStandardizedConv2d)]
        for model in (eager, ours)
    )
    assert before
    assert not any(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("with_norms", [False, True])
def test_replaced_layers_compute_what_those_before_did(with_norms: bool) -> None:
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = modules.depth_estimator(use_batch_norm_in_fusion_residual=with_norms)
    replaced = {nn.ConvTranspose2d, nn.BatchNorm2d} if with_norms else {nn.ConvTranspose2d}
    assert replaced <= {type(each) for each in model.modules()}
    exact = depth(model, pixels)
    found = depth(depth_network.prepared(model, torch.float32), pixels)
    assert gates.distance([found], [exact]).relative_l2 < 1e-6
    assert not replaced & {type(each) for each in model.modules()}


def test_all_but_the_last_layer_is_rounded(opened: Sources) -> None:
    model: Any = opened.load("depth_estimator", "bf16")
    assert dtype_of(model) == torch.bfloat16
    exact: Any = opened.eager("depth_estimator", "fp32")
    kept = {name: each for name, each in model.named_parameters() if each.dtype != torch.bfloat16}
    assert {*kept} == {"head.head.4.layer.weight", "head.head.4.layer.bias"}
    for name, weight in kept.items():
        assert torch.equal(weight, exact.get_parameter(name.replace(".layer.", ".")))


def written(model: Any, given: dict[str, torch.Tensor], path: Path) -> Path:
    """The graph for GPUs of the program of `model`, in `path`."""
    graph = trace.trace(DepthEstimator(model), given, DepthEstimator.outputs)
    cuda_graph.adapt(graph)
    trace.write_graph(graph, path)
    return path


@pytest.mark.parametrize("with_norms", [False, True])
def test_every_layer_of_its_graph_is_one_that_backends_have(with_norms: bool, tmp_path: Path) -> None:
    def model() -> Any:
        return modules.depth_estimator(use_batch_norm_in_fusion_residual=with_norms)

    given = {"pixel_values": torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))}
    exact = depth(model(), given["pixel_values"])
    eager = depth(model().to(torch.bfloat16), given["pixel_values"])
    limits = {"fp32": 1e-5, "bf16": 1.5 * gates.distance([eager], [exact]).relative_l2}
    core: Any = openvino.Core()
    for precision, limit in limits.items():
        path = written(
            depth_network.prepared(model(), DTYPES[precision]), given, tmp_path / f"{precision}.onnx"
        )
        assert lacking(path) == []
        program = core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = program([given["pixel_values"].numpy()])["depth"]
        assert gates.distance([found], [exact]).relative_l2 < limit
