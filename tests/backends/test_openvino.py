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


def group_norm(shape: tuple[int, ...], scale: Any, bias: Any, dtype: str, ones: float = 1.0) -> Any:
    """A group norm of 4 groups, as OpenVINO reads it from a bundle's graph; float32 goes in and comes out."""
    data = ops.parameter(shape, np.float32)
    given = ops.convert(data, dtype)
    rows = ops.reshape(given, np.array([shape[0], 4, -1]), False)
    normal = ops.mvn(rows, np.array([2]), True, 1e-5, "inside_sqrt")
    kind = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}[dtype]

    def shaped(values: Any, behind: int = len(shape) - 2) -> Any:
        return ops.constant(values.reshape(-1, *[1] * behind), kind)

    affine = ops.add(ops.multiply(normal, shaped(np.full(4, ones), 1)), shaped(np.zeros(4), 1))
    scaled = ops.multiply(ops.reshape(affine, np.array(shape), False), shaped(scale))
    return ov.Model([ops.convert(ops.add(scaled, shaped(bias)), "f32")], [data])


@pytest.mark.parametrize("shape", [(1, 8, 4, 6), (2, 16, 96, 96)])
@pytest.mark.parametrize(("dtype", "bound"), [("f32", 1e-5), ("bf16", 2**-7)])
def test_group_norms_are_simplified_and_keep_statistics_in_float32(
    shape: tuple[int, ...], dtype: str, bound: float
) -> None:
    random = np.random.default_rng(0)
    scale, bias = (random.uniform(0.5, 2, shape[1]).astype(np.float32) for _ in range(2))
    data = (20 + random.standard_normal(shape)).astype(np.float32)  # bfloat16 sums would lose the deviation
    read, exact = group_norm(shape, scale, bias, dtype), group_norm(shape, scale, bias, "f32")
    assert _openvino_norms.simplify(read) == 1
    kinds = [node.get_type_name() for node in read.get_ops()]
    if dtype == "f32":
        assert "MVN" not in kinds  # written out
        assert kinds.count("AvgPool") == (4 if shape[2] == 96 else 2)  # of means and of variances
    else:
        # scale and bias; of ones and zeros nothing is left
        assert (kinds.count("Multiply"), kinds.count("Add")) == (1, 1)
    if dtype == "bf16":
        data = rounded(data)
        scale, bias = rounded(scale), rounded(bias)
        exact = group_norm(shape, scale, bias, "f32")
    found, expected = (
        next(iter(ov.compile_model(each, "CPU", SETTINGS)(data).values())) for each in (read, exact)
    )
    assert np.linalg.norm(found - expected) < bound * np.linalg.norm(expected)


@pytest.mark.parametrize("first", [True, False])
def test_what_is_added_to_channels_before_a_norm_goes_into_its_terms(first: bool) -> None:
    """As a time embedding is, of which the mean of a group must know."""
    random = np.random.default_rng(0)
    shape = (2, 8, 6, 4)
    scale, bias = (random.uniform(0.5, 2, 8).astype(np.float32) for _ in range(2))
    models = [group_norm(shape, scale, bias, "f32") for _ in range(2)]
    for model in models:
        given = next(node for node in model.get_ordered_ops() if node.get_type_name() == "Convert")
        (rows,) = given.output(0).get_target_inputs()
        embedding = ops.parameter((2, 8, 1, 1), np.float32)
        sides = (given, embedding) if first else (embedding, given)
        rows.replace_source_output(ops.add(*sides).output(0))
        model.add_parameters([embedding])
    before, after = models
    assert _openvino_norms.simplify(after) == 1
    whole = [node for node in after.get_ops() if list(node.get_output_shape(0)) == list(shape)]
    assert [node.get_type_name() for node in whole].count("Add") == 1  # the last, of the summand
    inputs = [random.standard_normal(size).astype(np.float32) * 3 for size in (shape, (2, 8, 1, 1))]
    expected, found = (
        next(iter(ov.compile_model(each, "CPU", SETTINGS)(inputs).values())) for each in (before, after)
    )
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def layer_norm(dtype: str, behind: str) -> Any:
    """A layer norm in float32 of what is of `dtype`, and as `behind` afterwards, as OpenVINO reads it from a graph."""
    data = ops.parameter((2, 5, 24), np.float32)
    wide = ops.convert(ops.convert(data, dtype), "f32")
    normal = ops.mvn(wide, np.array([2]), True, 1e-5, "inside_sqrt")
    return ov.Model([ops.convert(ops.convert(normal, behind), "f32")], [data])


def test_layer_norms_of_bfloat16_need_no_conversions_and_give_the_same_numbers() -> None:
    data = (20 + np.random.default_rng(0).standard_normal((2, 5, 24))).astype(np.float32)
    before, after = layer_norm("bf16", "bf16"), layer_norm("bf16", "bf16")
    assert _openvino_norms.simplify(after) == 1
    kinds = [[node.get_type_name() for node in model.get_ops()].count("Convert") for model in (before, after)]
    assert kinds == [4, 2]
    expected, found = (
        next(iter(ov.compile_model(each, "CPU", SETTINGS)(data).values())) for each in (before, after)
    )
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(("dtype", "behind"), [("f32", "bf16"), ("f16", "f16"), ("bf16", "f16")])
def test_other_layer_norms_stay(dtype: str, behind: str) -> None:
    assert _openvino_norms.simplify(layer_norm(dtype, behind)) == 0


def rounded(values: Any) -> Any:
    """float32 with the digits of bfloat16."""
    return (values.view(np.uint32) + 0x8000 & 0xFFFF0000).astype(np.uint32).view(np.float32)


def test_what_only_looks_like_a_group_norm_stays() -> None:
    model = group_norm((1, 8, 4, 6), np.ones(8), np.zeros(8), "f32", ones=2.0)
    assert _openvino_norms.simplify(model) == 0


@pytest.mark.parametrize("program", ["unet_step_1", "vae_decoder"])
def test_every_group_norm_of_a_bundle_is_simplified(program: str) -> None:
    path = bundle("plain") / "onnx" / f"{program}.onnx"
    nodes = onnx.load(path, load_external_data=False).graph.node
    norms = sum(node.op_type == "InstanceNormalization" for node in nodes)
    assert _openvino_norms.simplify(ov.Core().read_model(path)) == norms > 0


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
