"""Group norms as instance norms: the same numbers, in graphs where ONNX Runtime's optimiser finds them."""

from __future__ import annotations

import importlib
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from calotype_export import trace


class Normalised(nn.Module):
    """Two group norms of one layer, and one behind, which is an output."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.GroupNorm(32, 64)
        self.middle = nn.Conv2d(64, 64, 3, padding=1)
        self.last = nn.GroupNorm(8, 64, eps=1e-6)
        for parameter in (*self.first.parameters(), *self.last.parameters()):
            nn.init.normal_(parameter)
        self.to(dtype)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        once = nn.functional.silu(self.first(self.middle(inputs["x"])))
        return {"y": self.last(self.middle(self.first(self.middle(once))))}


class Chained(nn.Module):
    """The one, and a layer behind it."""

    def __init__(self, first: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.last = first, last

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"y": self.last(self.first(inputs)["y"])}


def write(module: nn.Module, x: Tensor, folder: Path) -> Path:
    with trace.weights(folder / "norms.data") as stored:
        trace.write(trace.trace(module, {"x": x}, ("y",)), folder / "norms.onnx", stored)
    return folder / "norms.onnx"


@pytest.mark.parametrize("shape", [(2, 64, 6, 5), (1, 64, 32, 32)])
def test_they_give_torchs_numbers(tmp_path: Path, shape: tuple[int, ...]) -> None:
    module, x = Normalised(), torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 5
    path = write(module, x, tmp_path)
    with torch.no_grad():
        expected = module({"x": x})["y"].numpy()
    (found,) = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(np.asarray(found), expected, atol=1e-4)
    kinds = Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
    assert kinds["InstanceNormalization"] == 3
    assert "GroupNormalization" not in kinds


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_what_it_is(tmp_path: Path, dtype: torch.dtype) -> None:
    path = write(Normalised(dtype), torch.randn(1, 64, 6, 6).to(dtype), tmp_path)
    onnx.checker.check_model(path)
    types = {tensor.data_type for tensor in onnx.load(path).graph.initializer if len(tensor.dims) in (1, 3)}
    code = onnx.TensorProto.FLOAT16 if dtype == torch.float16 else onnx.TensorProto.BFLOAT16
    assert types == {code, onnx.TensorProto.INT64}


def test_scales_are_kept_once_and_in_the_weights_own_memory(tmp_path: Path) -> None:
    path = write(Normalised(), torch.randn(1, 64, 6, 6), tmp_path)
    shapes = [tuple(tensor.dims) for tensor in onnx.load(path, load_external_data=False).graph.initializer]
    assert shapes.count((64, 1, 1)) == 4  # scale and bias of two layers
    assert shapes.count((64,)) == 1  # the convolution's bias
    assert (tmp_path / "norms.data").stat().st_size < 1.1 * 4 * (64 * 64 * 9)


def test_onnx_runtimes_optimiser_finds_them(tmp_path: Path) -> None:
    path = write(Chained(Normalised(), nn.Conv2d(64, 64, 1)), torch.randn(1, 64, 6, 6), tmp_path)
    optimizer: Any = importlib.import_module("onnxruntime.transformers.optimizer")
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    model = optimizer.optimize_model(str(path), "unet", opt_level=0, use_gpu=True)
    found = Counter(node.op_type for node in model.model.graph.node)
    assert found["GroupNorm"] == 3
    assert not found["InstanceNormalization"] + found["Sigmoid"]


def test_each_keeps_its_own_epsilon(tmp_path: Path) -> None:
    path = write(Normalised(), torch.randn(1, 64, 6, 6), tmp_path)
    nodes = onnx.load(path, load_external_data=False).graph.node
    norms = [node for node in nodes if node.op_type == "InstanceNormalization"]
    found = [attribute.f for node in norms for attribute in node.attribute if attribute.name == "epsilon"]
    np.testing.assert_allclose(found, [1e-5, 1e-5, 1e-6], rtol=1e-6)
