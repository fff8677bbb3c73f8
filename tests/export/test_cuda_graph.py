"""Graphs for ONNX Runtime's CUDA provider: operators that it has kernels for, and the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor, nn

from calotype.bundle import Bundle
from calotype.manifest import ProgramSpec
from calotype_export import cuda_graph, signatures, trace
from tests.bundles import bundle
from tests.standin.cuda_kernels import lacking

PROGRAMS = [
    (name, spec) for name in ("plain", "depth") for spec in Bundle.open(bundle(name)).manifest.programs
]
WITH_TWO = [(name, spec) for name, spec in PROGRAMS if spec.cuda_files]


def called(value: object) -> str:
    return f"{value.name}-{value.batch}" if isinstance(value, ProgramSpec) else str(value)


def run(path: Path, given: dict[str, Any]) -> list[Any]:
    return list(onnxruntime.InferenceSession(path).run(None, given))


@pytest.mark.parametrize(("name", "spec"), PROGRAMS, ids=called)
def test_every_program_has_a_graph_that_the_provider_has_kernels_for(name: str, spec: ProgramSpec) -> None:
    for_cpu, for_cuda = (
        bundle(name) / files[0].path for files in (spec.files, spec.cuda_files or spec.files)
    )
    assert lacking(for_cuda) == []
    assert bool(lacking(for_cpu)) == bool(spec.cuda_files)


@pytest.mark.parametrize(("name", "spec"), WITH_TWO, ids=called)
def test_it_computes_what_the_other_does(name: str, spec: ProgramSpec) -> None:
    given = dict(signatures.example(spec.inputs, 0))
    pairs = zip(
        *(run(bundle(name) / files[0].path, given) for files in (spec.files, spec.cuda_files)), strict=True
    )
    for expected, found in pairs:
        np.testing.assert_allclose(found, expected, atol=1e-4 * float(np.abs(expected).max()))
    assert spec.cuda_files[1:] == spec.files[1:]  # one file of weights


class Padded(nn.Module):
    """What a convolutional stem does: padding, and the largest of neighbours."""

    def __init__(self, value: float, pads: tuple[int, int, int, int], kernel: int, stride: int) -> None:
        super().__init__()
        self.pads, self.value = pads, value
        self.pool = nn.MaxPool2d(kernel, stride)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"y": self.pool(nn.functional.pad(inputs["x"], self.pads, value=self.value))}


@pytest.mark.parametrize(
    ("value", "pads", "kernel", "stride"),
    [
        (0.0, (0, 1, 0, 1), 3, 2),
        (-9.0, (1, 1, 1, 1), 3, 2),
        (0.5, (0, 2, 3, 0), 2, 1),
        (2.0, (1, 0, 0, 0), 2, 3),
    ],
)
def test_padding_and_pooling(
    value: float, pads: tuple[int, int, int, int], kernel: int, stride: int, tmp_path: Path
) -> None:
    module = Padded(value, pads, kernel, stride)
    x = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(2))
    model = trace.trace(module, {"x": x}, ("y",))
    assert cuda_graph.replace_unknown(model)
    trace.write_graph(model, tmp_path / "padded.onnx")
    assert lacking(tmp_path / "padded.onnx") == []
    (found,) = run(tmp_path / "padded.onnx", {"x": x.numpy()})
    assert np.array_equal(found, module({"x": x})["y"].numpy())
    assert not cuda_graph.replace_unknown(model)


class Doubled(nn.Module):
    """What is exported in bfloat16 with operators that the provider knows in other types alone."""

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        x = nn.functional.interpolate(inputs["x"].to(torch.bfloat16), scale_factor=2.0)
        return {"y": torch.clamp(x, -0.5, 0.75).float()}


def test_bfloat16_is_chosen_and_repeated_in_float32(tmp_path: Path) -> None:
    x = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(3))
    model = trace.trace(Doubled(), {"x": x}, ("y",))
    trace.write_graph(model, tmp_path / "exported.onnx")
    assert len(lacking(tmp_path / "exported.onnx")) == len(["Resize", "Clip"])
    assert cuda_graph.replace_unknown(model)
    trace.write_graph(model, tmp_path / "doubled.onnx")
    assert lacking(tmp_path / "doubled.onnx") == []
    core: Any = openvino.Core()
    found = core.compile_model(tmp_path / "doubled.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(
        [x.numpy()]
    )
    assert np.array_equal(found["y"], Doubled()({"x": x})["y"].numpy())


def test_what_it_cannot_replace_is_an_error() -> None:
    def pooled(module: nn.Module) -> ir.Model:
        class Named(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.pool = module

            def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
                return {"y": self.pool(inputs["x"])}

        return trace.trace(Named(), {"x": torch.zeros(1, 2, 9, 9)}, ("y",))

    with pytest.raises(RuntimeError, match="pads: expected"):
        cuda_graph.replace_unknown(pooled(nn.MaxPool2d(3, 2, padding=1)))
    with pytest.raises(RuntimeError, match="expected constant padding of every axis, found reflect"):
        cuda_graph.replace_unknown(pooled(nn.ReflectionPad2d(1)))
