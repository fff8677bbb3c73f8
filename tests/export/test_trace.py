"""Traced graphs: what they compute, what lies in their files, and how much memory writing them takes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from calotype.manifest import ParameterSpec
from calotype_export import signatures, trace, unet_step
from calotype_export.programs import Program, Tensors
from tests.export import modules

BATCHES = (1, 2)


@pytest.fixture(scope="module")
def step() -> unet_step.UnetStep:
    return unet_step.UnetStep(modules.unet())


def write(step: unet_step.UnetStep, folder: Path, batches: tuple[int, ...]) -> None:
    with trace.weights(folder / "step.data") as stored:
        for batch in batches:
            given = {name: torch.from_numpy(value) for name, value in example(batch, 0).items()}
            trace.write(trace.trace(step, given, step.outputs), folder / f"step_{batch}.onnx", stored)


def example(batch: int, seed: int) -> Mapping[str, np.ndarray]:
    specs = signatures.inputs("unet_step", batch, modules.manifest(), modules.SIZES)
    return signatures.example(specs, seed)


@pytest.fixture(scope="module")
def folder(step: unet_step.UnetStep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx")
    write(step, path, BATCHES)
    return path


def parameter_bytes(module: torch.nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.parameters())


@pytest.mark.parametrize("batch", BATCHES)
def test_the_graph_computes_what_the_module_computes(
    step: unet_step.UnetStep, folder: Path, batch: int
) -> None:
    given = example(batch, 1)
    session = onnxruntime.InferenceSession(folder / f"step_{batch}.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = step({name: torch.from_numpy(value) for name, value in given.items()})[
            "next_state"
        ].numpy()
    (found,) = session.run(["next_state"], dict(given))
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_graphs_of_several_batches_share_one_file_of_weights(step: unet_step.UnetStep, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["step.data", "step_1.onnx", "step_2.onnx"]
    assert (folder / "step.data").stat().st_size < 1.05 * parameter_bytes(step)


@pytest.mark.parametrize("batch", BATCHES)
def test_external_data_is_named_without_a_folder_and_only_for_large_tensors(folder: Path, batch: int) -> None:
    graph = onnx.load(folder / f"step_{batch}.onnx", load_external_data=False).graph
    for tensor in graph.initializer:
        fields = {entry.key: entry.value for entry in tensor.external_data}
        size = int(np.prod(tensor.dims)) * 4
        assert fields.get("location", "step.data") == "step.data"
        assert bool(fields) == (size >= trace.EXTERNAL_BYTES), tensor.name


def test_onnx_itself_accepts_the_files(folder: Path) -> None:
    onnx.checker.check_model(str(folder / "step_2.onnx"))


def test_the_graph_holds_no_path_and_no_stack_trace(folder: Path) -> None:
    content = (folder / "step_1.onnx").read_bytes()
    assert not re.search(rb"site-packages|stack_trace|\.py\b|" + str(Path.cwd()).encode(), content)


def test_every_shape_is_fixed(folder: Path) -> None:
    graph = onnx.load(folder / "step_2.onnx", load_external_data=False).graph
    for value in (*graph.input, *graph.output):
        assert all(dimension.dim_value > 0 for dimension in value.type.tensor_type.shape.dim), value.name


def test_the_same_module_gives_the_same_bytes(step: unet_step.UnetStep, folder: Path, tmp_path: Path) -> None:
    write(step, tmp_path, BATCHES[:1])
    assert (tmp_path / "step_1.onnx").read_bytes() == (folder / "step_1.onnx").read_bytes()


def test_outputs_are_described_from_the_graph(step: unet_step.UnetStep) -> None:
    given = {name: torch.from_numpy(value) for name, value in example(1, 0).items()}
    (spec,) = trace.outputs(trace.trace(step, given, step.outputs))
    assert (spec.name, spec.dtype, spec.shape) == ("next_state", "float32", (1, 5, 4, 8, 6))


class Layers(Program):
    """Linear layers with these weights, one after another."""

    outputs = ("y",)

    def __init__(self, *weights: torch.Tensor) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            *(torch.nn.Linear(*weight.T.shape, bias=False) for weight in weights)
        )
        for layer, weight in zip(self.layers, weights, strict=True):
            layer.weight = torch.nn.Parameter(weight)

    def forward(self, inputs: Tensors) -> dict[str, torch.Tensor]:
        return {"y": self.layers(inputs["x"])}


def placed(folder: Path, *weights: torch.Tensor) -> tuple[ParameterSpec, ...]:
    with trace.weights(folder / "layers.data") as stored:
        given = {"x": torch.ones(1, 2, weights[0].shape[1])}
        graph = trace.trace(Layers(*weights), given, Layers.outputs)
        return trace.write(graph, folder / "layers.onnx", stored)


def test_matrices_lie_where_the_manifest_says_transposed_and_aligned_however_small(tmp_path: Path) -> None:
    weights = [torch.randn(7, 3), torch.randn(5, 7), torch.randn(3, 5)]
    found = sorted(placed(tmp_path, *weights), key=lambda each: each.name)
    data = (tmp_path / "layers.data").read_bytes()
    assert [each.name for each in found] == [f"layers.{index}.weight" for index in range(3)]
    for each, weight in zip(found, weights, strict=True):
        assert (each.dtype, each.shape, each.transposed) == ("float32", tuple(weight.shape), True)
        stored = np.frombuffer(data, np.float32, weight.numel(), each.offset).reshape(weight.T.shape)
        np.testing.assert_array_equal(stored, weight.T.numpy())
        assert each.offset % trace.ALIGNMENT == 0
    assert trace.ALIGNMENT % 64 == 0


def test_a_symmetric_matrix_was_transposed_like_every_other(tmp_path: Path) -> None:
    (found,) = placed(tmp_path, torch.ones(16, 16))
    assert found.transposed


# A module whose weights, about 400 MB, are large beside what the exporter itself needs. The reading before is taken
# after a first export, so that libraries are loaded.
MEASURED = """
import resource, sys
from pathlib import Path
import torch
from torch import nn
from calotype_export import trace
torch.set_num_threads(1)

class Program(nn.Module):
    def __init__(self, width, layers):
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(layers)))
    def forward(self, inputs):
        return {"y": self.layers(inputs["x"])}

def export(width, layers, name):
    program = Program(width, layers)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    folder = Path(sys.argv[1])
    with trace.weights(folder / f"{name}.data") as stored:
        for batch in (1, 2):
            graph = trace.trace(program, {"x": torch.randn(batch, 4, width)}, ("y",))
            trace.write(graph, folder / f"{name}_{batch}.onnx", stored)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) * 1024, (folder / f"{name}.data").stat().st_size

export(8, 2, "small")
used, size = export(2048, 24, "large")
print(used, size)
"""


@pytest.mark.slow
def test_tracing_and_writing_take_less_than_one_and_a_half_times_the_exported_size(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURED, tmp_path], check=True, capture_output=True, text=True
    )
    used, size = (int(word) for word in answer.stdout.split()[-2:])
    assert size > 350e6
    assert used < 1.5 * size


def test_an_operator_with_an_outputs_name_does_not_take_it() -> None:
    class Mean(Program):
        outputs = ("mean",)

        def forward(self, inputs: Tensors) -> dict[str, torch.Tensor]:
            return {"mean": inputs["x"] - inputs["x"].mean(dim=-1, keepdim=True)}

    x = torch.arange(6.0).reshape(2, 3)
    graph = trace.trace(Mean(), {"x": x}, Mean.outputs)
    session = onnxruntime.InferenceSession(ir.to_proto(graph).SerializeToString())
    found = np.asarray(session.run(["mean"], {"x": x.numpy()})[0])
    np.testing.assert_allclose(found, [[-1, 0, 1]] * 2)
