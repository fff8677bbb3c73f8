"""Graphs for ONNX Runtime's CUDA provider: operators that it has kernels for, and the same numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import openvino
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from calotype.bundle import Bundle
from calotype.manifest import ProgramSpec
from calotype_export import cuda_graph, signatures, trace
from tests.bundles import bundle
from tests.export.fused_operators import OPERATORS
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
    for_cpu, for_cuda = (bundle(name) / files[0].path for files in (spec.files, spec.cuda_files))
    assert lacking(for_cuda) == []
    transposed = [
        node.op_type
        for node in onnx.load(for_cuda, load_external_data=False).graph.node
        if node.op_type == "Transpose" and [*node.attribute[0].ints] == [0, 2, 1, 3]
    ]
    assert not transposed  # heads of attention stay where they are
    assert bool(lacking(for_cpu)) == (spec.name in ("unet_step", "vae_decoder", "depth_estimator"))


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
    # without AVX-512 OpenVINO rounds nothing to bfloat16, before these operators or after, which comes to the same
    rounded = torch.from_numpy(found["y"]).bfloat16().float()
    assert torch.equal(rounded, Doubled()({"x": x})["y"])


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


class Attending(nn.Module):
    """Attention of three heads, as diffusers and transformers write it."""

    def __init__(self, mask: Tensor | None, scale: float | None = None) -> None:
        super().__init__()
        self.mask, self.scale = mask, scale

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        tokens = inputs["x"]
        batch, count, width = tokens.shape
        parted = [(k * tokens).view(batch, count, 3, width // 3).transpose(1, 2) for k in (1, 2, 3)]
        found = nn.functional.scaled_dot_product_attention(*parted, attn_mask=self.mask, scale=self.scale)
        return {"y": found.transpose(1, 2).reshape(batch, count, width)}


@pytest.mark.parametrize(
    ("mask", "inputs"),
    [
        (None, 3),
        (torch.ones(5, 5).tril().bool(), 3),
        (torch.ones(5, 5).triu().bool(), 4),
    ],
    ids=["none", "causal", "another"],
)
def test_heads_of_attention_stay_side_by_side(mask: Tensor | None, inputs: int, tmp_path: Path) -> None:
    module = Attending(mask)
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(4))
    model = trace.trace(module, {"x": x}, ("y",))
    assert cuda_graph.adapt(model)
    trace.write_graph(model, tmp_path / "attending.onnx")
    (attention,) = [node for node in model.graph if node.op_type == "Attention"]
    assert (len(attention.inputs), [node for node in model.graph if node.op_type == "Transpose"]) == (
        inputs,
        [],
    )
    (found,) = run(tmp_path / "attending.onnx", {"x": x.numpy()})
    np.testing.assert_allclose(found, module({"x": x})["y"].numpy(), atol=1e-5)


def adapted(module: nn.Module, dtype: torch.dtype, path: Path) -> tuple[ir.Model, Tensor]:
    """The second graph of `module`, written to `path`, and the tokens that it was traced with."""
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(4)).to(dtype)
    model = trace.trace(module, {"x": x}, ("y",))
    cuda_graph.adapt(model)
    trace.write_graph(model, path)
    return model, x


def attends_as(module: nn.Module, x: Tensor, path: Path) -> None:
    """The graph at `path`, by the operators' definitions."""
    found: Any = ReferenceEvaluator(str(path), new_ops=OPERATORS).run(None, {"x": x.numpy()})
    np.testing.assert_allclose(found[0], module({"x": x.float()})["y"].numpy(), atol=5e-3)


@pytest.mark.parametrize(
    ("dtype", "own"), [(torch.float16, True), (torch.bfloat16, True), (torch.float32, False)]
)
def test_attention_in_half_precision_is_the_providers_own(
    dtype: torch.dtype, own: bool, tmp_path: Path
) -> None:
    path = tmp_path / "attending.onnx"
    module = Attending(None)
    model, x = adapted(module, dtype, path)
    assert lacking(path) == []
    kinds = {node.op_type for node in model.graph}
    assert ("MultiHeadAttention" in kinds, "Attention" in kinds) == (own, not own)
    if dtype == torch.float16:
        attends_as(module, x, path)


def test_a_scale_is_kept(tmp_path: Path) -> None:
    module = Attending(None, scale=0.3)
    _, x = adapted(module, torch.float16, tmp_path / "attending.onnx")
    attends_as(module, x, tmp_path / "attending.onnx")


def test_masked_attention_in_half_precision_stays(tmp_path: Path) -> None:
    masked = Attending(torch.ones(5, 5).tril().bool())
    model, _ = adapted(masked, torch.float16, tmp_path / "attending.onnx")
    assert "Attention" in {node.op_type for node in model.graph}
