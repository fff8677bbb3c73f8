"""What OpenVINO alone does: precision, and the devices it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype import backends
from calotype.backends import BackendOptions
from calotype.errors import BackendError
from tests.backends import step_programs
from tests.backends.contract_cases import step_inputs

ov = pytest.importorskip("openvino", reason="openvino is not installed")
ops = pytest.importorskip("openvino.opset12", reason="openvino is not installed")

from calotype.backends import _openvino_norms  # noqa: E402  (needs OpenVINO)

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


def group_norm(shape: tuple[int, ...], scale: Any, bias: Any, whole: bool = True) -> Any:
    """A group norm of 4 groups in float32 between bfloat16 tensors, as OpenVINO reads it from ONNX."""
    data = ops.parameter(shape, np.float32)
    rounded = ops.convert(data, "bf16")
    affine = [ops.convert(ops.constant(value, ov.Type.bf16), "f32") for value in (scale, bias)]
    normal = ops.group_normalization(ops.convert(rounded, "f32"), *affine, 4, 1e-5)
    ends = [ops.convert(normal, "bf16" if whole else "f16")]
    return ov.Model([ops.convert(end, "f32") for end in ends], [data])


@pytest.mark.parametrize("shape", [(1, 8, 4, 6), (2, 16, 96, 96)])
def test_group_norms_of_bf16_keep_statistics_in_float32(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    scale, bias = (random.uniform(0.5, 2, shape[1]).astype(np.float32) for _ in range(2))
    data = (20 + random.standard_normal(shape)).astype(np.float32)  # bfloat16 sums would lose the deviation
    models = [group_norm(shape, scale, bias) for _ in range(2)]
    assert _openvino_norms.in_bfloat16(models[1]) == 1
    before, after = (next(iter(ov.compile_model(model, "CPU", SETTINGS)(data).values())) for model in models)
    error = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert 0 < error < 2**-8  # one rounding more
    assert "GroupNormalization" not in {node.get_type_name() for node in models[1].get_ops()}


def test_group_norms_that_do_not_lie_between_bf16_stay() -> None:
    model = group_norm((1, 8, 4, 6), np.ones(8), np.zeros(8), whole=False)
    assert _openvino_norms.in_bfloat16(model) == 0
