"""What ONNX Runtime's transformer optimiser makes of exported graphs computes what they do."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from calotype import backends
from calotype.backends import BackendOptions
from calotype.bundle import Bundle
from calotype.manifest import ProgramSpec
from calotype_export import bundle_files, fused_biases, fused_plans, ort_optimiser, signatures, trace
from calotype_export.timed_run import run
from tests.bundles import bundle
from tests.export.fused_operators import OPERATORS


def computes_what_is_exported(path: Path, spec: ProgramSpec) -> None:
    """The graph at `path`, by the operators' definitions, since no processor runs them."""
    given = signatures.example(spec.inputs, 0)
    (program,) = backends.load("onnxruntime", bundle("plain"), [spec], BackendOptions(threads=1))
    expected, _ = run(program, given)
    evaluator = ReferenceEvaluator(str(path), new_ops=OPERATORS)
    outputs: Any = evaluator.run([tensor.name for tensor in spec.outputs], dict(given))
    for tensor, value in zip(spec.outputs, outputs, strict=True):
        np.testing.assert_allclose(value, expected[tensor.name], atol=1e-4)


@pytest.mark.parametrize("candidate", fused_plans.GRAPHS)
def test_the_optimisers_step_computes_what_is_exported(candidate: str, tmp_path: Path) -> None:
    spec = Bundle.open(bundle("plain")).program("unet_step")
    fused = ort_optimiser.optimise(bundle("plain"), spec, tmp_path / "made", fused_plans.GRAPHS[candidate])
    path = tmp_path / "made" / fused.files[0].path
    found = ort_optimiser.operators(path)
    assert found["GroupNorm"] > 5
    assert found["SkipGroupNorm"] > 5
    assert found["SkipLayerNormalization"] > 5
    assert bool(found["NhwcConv"]) == (candidate == "fused")
    computes_what_is_exported(path, spec)


def test_what_it_leaves_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With kernels for the tiny step's widths, which there are none for."""
    monkeypatch.setattr(fused_biases, "_GATED", frozenset(range(10000)))
    monkeypatch.setattr(fused_biases, "_SUMMED", frozenset(range(10000)))
    spec = Bundle.open(bundle("plain")).program("unet_step")
    fused = ort_optimiser.optimise(bundle("plain"), spec, tmp_path / "made", {})
    path = tmp_path / "made" / fused.files[0].path
    graph = onnx.load(path, load_external_data=False).graph
    kinds = Counter(node.op_type for node in graph.node)
    attentions = sum(node.op_type == "Attention" for node in graph.node)
    assert kinds["Gelu"] == 0
    assert kinds["BiasSplitGelu"] == kinds["BiasAdd"] == attentions // 2  # one of each behind two attentions
    biased = [node for node in graph.node if node.op_type == "NhwcConv" and len(node.input) > 2]
    assert len(biased) < kinds["NhwcConv"] / 2
    computes_what_is_exported(path, spec)


def test_kernels_that_convolutions_leave_to_their_weights_are_named(tmp_path: Path) -> None:
    """As onnxscript before 0.7.2 leaves them; `NhwcConv` has its weights in another order."""
    root = tmp_path / "bundle"
    shutil.copytree(bundle("plain"), root)
    spec = Bundle.open(root).program("unet_step")
    graph = onnx.load(root / spec.files[0].path, load_external_data=False)
    for node in graph.graph.node:
        kept = [attribute for attribute in node.attribute if attribute.name != "kernel_shape"]
        del node.attribute[:]
        node.attribute.extend(kept)
    onnx.save(graph, root / spec.files[0].path)

    fused = ort_optimiser.optimise(root, spec, tmp_path / "made", {})

    made = onnx.load(tmp_path / "made" / fused.files[0].path)
    weights = {tensor.name: [*tensor.dims] for tensor in made.graph.initializer}
    convolutions = [node for node in made.graph.node if node.op_type == "NhwcConv"]
    assert len(convolutions) > 5
    for node in convolutions:
        (kernel,) = (attribute.ints for attribute in node.attribute if attribute.name == "kernel_shape")
        assert [*kernel] == weights[node.input[1]][1:3]  # (out, height, width, in)


class Normed(nn.Module):
    """A convolution between group norms, the second of which is of three dimensions, as before a VAE's attention."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.norm, self.last = nn.GroupNorm(4, 8), nn.GroupNorm(4, 8)
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5, generator=generator)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        x = self.conv(nn.functional.silu(self.norm(inputs["x"])))
        return {"y": self.last(x.flatten(2))}


def test_half_precision_keeps_what_norms_are_scaled_by(tmp_path: Path) -> None:
    module = Normed().half()
    x = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(6)).half()
    model = trace.trace(module, {"x": x}, ("y",))
    trace.write_graph(model, tmp_path / "normed.onnx")
    given = Bundle.open(bundle("plain")).program("unet_step")
    spec = dataclasses.replace(given, files=(bundle_files.describe(tmp_path / "normed.onnx", tmp_path),))
    made = ort_optimiser.optimise(tmp_path, spec, tmp_path / "made", {})
    graph = onnx.load(tmp_path / "made" / made.files[0].path)
    assert ort_optimiser.operators(tmp_path / "made" / made.files[0].path) == {"GroupNorm": 1, "NhwcConv": 1}
    (norm,) = [node for node in graph.graph.node if node.op_type == "GroupNorm"]
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    for name, expected in zip(norm.input[1:], (module.norm.weight, module.norm.bias), strict=True):
        assert scales[name].dtype == np.float32  # which is the operator's type for them, whatever it norms
        assert np.array_equal(scales[name], expected.detach().float().numpy())
    assert not any(node.op_type == "InstanceNormalization" for node in graph.graph.node)
    expected = module.float()({"x": x.float()})["y"].detach().numpy()
    evaluator: Any = ReferenceEvaluator(graph, new_ops=OPERATORS)
    (found,) = evaluator.run(None, {"x": x.numpy()})
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, expected, atol=2e-2)
