"""What OpenVINO alone does: precision, and the devices it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from calotype import backends
from calotype.backends import BackendOptions
from calotype.errors import BackendError
from tests.backends import step_programs
from tests.backends.contract_cases import step_inputs
from tests.bundles import bundle

ov = pytest.importorskip("openvino", reason="openvino is not installed")
ops = pytest.importorskip("openvino.opset12", reason="openvino is not installed")
opset10 = pytest.importorskip("openvino.opset10", reason="openvino is not installed")
opset13 = pytest.importorskip("openvino.opset13", reason="openvino is not installed")

from calotype.backends import _openvino_attention, _openvino_norms  # noqa: E402  (need OpenVINO)
from calotype.backends.openvino import Compiler  # noqa: E402

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def compiled(tmp_path: Path, precision: str, threads: int | None = 1) -> Any:
    spec = step_programs.write(tmp_path, precision)
    program: Any = backends.load("openvino", tmp_path, [spec], BackendOptions(threads=threads))[0]
    return program._engine._request.get_compiled_model()


def precisions(model: Any) -> dict[str, str]:
    """The type in which each kind of operation runs."""
    operations = (operation.get_rt_info() for operation in model.get_runtime_model().get_ordered_ops())
    return {text(found["layerType"]): text(found["runtimePrecision"]) for found in operations}


def text(value: Any) -> str:
    return str(getattr(value, "value", value))


@pytest.mark.skipif(
    "BF16" not in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"), reason="no bf16"
)
def test_a_bf16_graph_runs_its_unet_in_bf16_and_its_solver_in_float32(tmp_path: Path) -> None:
    found = precisions(compiled(tmp_path, "bf16"))
    assert (found["Convolution"], found["FullyConnected"], found["Reduce"]) == ("bf16", "bf16", "f32")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_fp32_and_fp16_graphs_run_in_float32(tmp_path: Path, precision: str) -> None:
    found = precisions(compiled(tmp_path, precision))
    assert {found["Convolution"], found["FullyConnected"], found["Reduce"]} == {"f32"}


def test_an_fp16_graph_is_the_fp32_one_with_rounded_weights(tmp_path: Path) -> None:
    found = {}
    for precision in ("fp32", "fp16"):
        spec = step_programs.write(tmp_path / precision, precision)
        (program,) = backends.load("openvino", tmp_path / precision, [spec], BackendOptions(threads=1))
        found[precision] = program.run(step_inputs())["prediction"]
    error = np.linalg.norm(found["fp16"] - found["fp32"]) / np.linalg.norm(found["fp32"])
    assert 0 < error < 1e-3


def test_the_settings_are_those_of_the_options(tmp_path: Path) -> None:
    model = compiled(tmp_path, "fp32")
    assert model.get_property("INFERENCE_NUM_THREADS") == 1
    assert model.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
    assert model.get_property("NUM_STREAMS") == 1


def test_another_device_is_refused(tmp_path: Path) -> None:
    spec = step_programs.write(tmp_path)
    with pytest.raises(
        BackendError, match=r"(?s)openvino runs on cpu, found device cuda.*onnxruntime for cuda"
    ):
        backends.load("openvino", tmp_path, [spec], BackendOptions("cuda"))


def masked_attention(mask: Any) -> Any:
    """Attention of 2 heads, 5 tokens, with its heads side by side, as OpenVINO reads it from a graph."""
    sides = [ops.parameter((1, 5, 16), np.float32) for _ in range(3)]
    heads = [
        ops.transpose(ops.reshape(side, np.array([1, 5, 2, 8]), False), np.array([0, 2, 1, 3]))
        for side in sides
    ]
    attended = opset13.scaled_dot_product_attention(*heads, ops.constant(mask))
    guarded = ops.select(opset10.is_nan(attended), ops.constant(np.float32(0)), attended)
    merged = ops.reshape(ops.transpose(guarded, np.array([0, 2, 1, 3])), np.array([1, 5, 16]), False)
    return ov.Model([merged], sides)


def test_what_looks_for_nan_behind_masked_attention_goes_and_the_numbers_stay() -> None:
    random = np.random.default_rng(0)
    data = [random.standard_normal((1, 5, 16)).astype(np.float32) for _ in range(3)]
    before, after = (masked_attention(np.tri(5, dtype=bool)[None, None]) for _ in range(2))
    assert _openvino_attention.simplify(after) == 1
    assert {"IsNaN", "Select"}.isdisjoint(node.get_type_name() for node in after.get_ops())
    expected, found = (
        next(iter(ov.compile_model(each, "CPU", SETTINGS)(data).values())) for each in (before, after)
    )
    assert np.array_equal(found, expected)


def test_attention_with_a_row_that_is_masked_as_a_whole_keeps_it() -> None:
    mask = np.tri(5, k=-1, dtype=bool)[None, None]  # of the first row nothing is left
    assert _openvino_attention.simplify(masked_attention(mask)) == 0


def test_a_bundle_s_text_encoder_keeps_none() -> None:
    path = bundle("plain") / "onnx" / "text_encoder.onnx"
    nodes = onnx.load(path, load_external_data=False).graph.node
    layers = sum(node.op_type == "Attention" for node in nodes)
    assert _openvino_attention.simplify(ov.Core().read_model(path)) == layers > 0


@pytest.mark.parametrize("program", ["text_encoder", "unet_step_1", "vae_encoder", "vae_decoder"])
def test_a_bundle_s_graph_is_read_with_nothing_left_to_simplify(program: str) -> None:
    path = bundle("plain") / "onnx" / f"{program}.onnx"
    compiler = Compiler(1)
    found, as_it_is = compiler.read(path), compiler.read_as_it_is(path)
    simplify = (_openvino_norms.simplify, _openvino_attention.simplify)
    assert [each(found) for each in simplify] == [0, 0]
    assert sum(each(as_it_is) for each in simplify) > 0
