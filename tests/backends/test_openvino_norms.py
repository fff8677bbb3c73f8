"""Norms as OpenVINO computes them fastest."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tests.bundles import bundle

ov = pytest.importorskip("openvino", reason="openvino is not installed")
ops = pytest.importorskip("openvino.opset12", reason="openvino is not installed")

from calotype.backends import _openvino_norms  # noqa: E402  (needs OpenVINO)

SETTINGS = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}


def computed(model: Any, inputs: Any) -> Any:
    """The model's one output."""
    return next(iter(ov.compile_model(model, "CPU", SETTINGS)(inputs).values()))


def group_norm(
    shape: tuple[int, ...], scale: Any, bias: Any, dtype: str, ones: float = 1.0, zeros: float = 0.0
) -> Any:
    """A group norm of 4 groups, as OpenVINO reads it from a bundle's graph; float32 goes in and comes out."""
    data = ops.parameter(shape, np.float32)
    given = ops.convert(data, dtype)
    rows = ops.reshape(given, np.array([shape[0], 4, -1]), False)
    normal = ops.mvn(rows, np.array([2]), True, 1e-5, "inside_sqrt")
    kind = {"f32": ov.Type.f32, "bf16": ov.Type.bf16}[dtype]

    def shaped(values: Any, behind: int = len(shape) - 2) -> Any:
        return ops.constant(values.reshape(-1, *[1] * behind), kind)

    affine = ops.add(ops.multiply(normal, shaped(np.full(4, ones), 1)), shaped(np.full(4, zeros), 1))
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
        for_pixels = [node for node in read.get_ops() if list(node.get_output_shape(0)) == list(shape)]
        arithmetic = sorted(
            {node.get_type_name() for node in for_pixels} - {"Parameter", "Convert", "Result"}
        )
        assert arithmetic == ["Add", "Multiply", "SquaredDifference"]
        (divided,) = [node for node in read.get_ops() if node.get_type_name() == "Divide"]
        assert list(divided.get_output_shape(0)) == list(shape[:2])  # and not anew for every pixel
    else:
        # scale and bias; of ones and zeros nothing is left
        assert (kinds.count("Multiply"), kinds.count("Add")) == (1, 1)
    if dtype == "bf16":
        data = rounded(data)
        scale, bias = rounded(scale), rounded(bias)
        exact = group_norm(shape, scale, bias, "f32")
    found, expected = (computed(each, data) for each in (read, exact))
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
    expected, found = (computed(each, inputs) for each in (before, after))
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
    expected, found = (computed(each, data) for each in (before, after))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(("dtype", "behind"), [("f32", "bf16"), ("f16", "f16"), ("bf16", "f16")])
def test_other_layer_norms_stay(dtype: str, behind: str) -> None:
    assert _openvino_norms.simplify(layer_norm(dtype, behind)) == 0


def rounded(values: Any) -> Any:
    """float32 with the digits of bfloat16."""
    return (values.view(np.uint32) + 0x8000 & 0xFFFF0000).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("other", [{"ones": 2.0}, {"zeros": 0.5}], ids=["scaled", "moved"])
def test_what_only_looks_like_a_group_norm_stays(other: dict[str, float]) -> None:
    model = group_norm((1, 8, 4, 6), np.ones(8), np.zeros(8), "f32", **other)
    assert _openvino_norms.simplify(model) == 0


@pytest.mark.parametrize("program", ["unet_step_1", "vae_decoder"])
def test_every_group_norm_of_a_bundle_is_simplified(program: str) -> None:
    path = bundle("plain") / "onnx" / f"{program}.onnx"
    nodes = onnx.load(path, load_external_data=False).graph.node
    norms = sum(node.op_type == "InstanceNormalization" for node in nodes)
    assert _openvino_norms.simplify(ov.Core().read_model(path)) == norms > 0


def norm_in_rows(
    ones: float = 1.0,
    squared: bool = True,
    normalised: str = "centred",
    of_mean: str = "rows",
    axis_of_mean: int = -2,
    axis_of_variance: int = -2,
) -> Any:
    """A group norm of 4 groups of (2, 8, 6, 4), as bundles have them in a VAE's encoder, but for the arguments."""
    data, other = (ops.parameter((2, 8, 6, 4), np.float32) for _ in range(2))
    rows, others = (ops.reshape(each, np.array([2, 4, -1, 4]), False) for each in (data, other))

    def mean(values: Any, last: int) -> Any:
        return ops.reduce_mean(ops.reduce_mean(values, np.array([-1]), True), np.array([last]), True)

    centred = ops.subtract(rows, mean({"rows": rows, "others": others}[of_mean], axis_of_mean))
    square = ops.multiply(centred, centred if squared else rows)
    root = ops.sqrt(ops.add(mean(square, axis_of_variance), np.float32(1e-6)))
    divided = {"centred": centred, "rows": rows}[normalised]
    normal = ops.multiply(divided, ops.divide(np.float32(ones), root))
    affine = ops.multiply(ops.reshape(normal, np.array([2, 8, 6, 4]), False), _channels(1))
    parameters = [data] if of_mean == "rows" else [data, other]
    return ov.Model([ops.add(affine, _channels(2))], parameters)


def _channels(seed: int) -> Any:
    return ops.constant(np.random.default_rng(seed).uniform(0.5, 2, (8, 1, 1)).astype(np.float32))


def test_norms_in_rows_are_simplified_and_give_the_same_numbers() -> None:
    data = (20 + np.random.default_rng(0).standard_normal((2, 8, 6, 4))).astype(np.float32)
    before, after = norm_in_rows(), norm_in_rows()
    assert _openvino_norms.simplify(after) == 1
    assert {"AvgPool"} <= {node.get_type_name() for node in after.get_ops()}
    expected, found = (computed(each, data) for each in (before, after))
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("other", [norm_in_rows(ones=2.0), norm_in_rows(squared=False)])
def test_what_only_looks_like_a_norm_in_rows_stays(other: Any) -> None:
    assert _openvino_norms.simplify(other) == 0


def test_every_norm_of_pictures_in_a_bundle_s_vae_encoder_is_simplified() -> None:
    path = bundle("plain") / "onnx" / "vae_encoder.onnx"
    nodes = onnx.load(path, load_external_data=False).graph.node
    norms = sum(node.op_type == "Reciprocal" for node in nodes)
    model = ov.Core().read_model(path)
    assert _openvino_norms.simplify(model) == norms - 1  # before attention one is of positions, and stays
    pooled = sum(node.get_type_name() == "AvgPool" for node in model.get_ops())
    assert pooled >= 2 * (norms - 1)  # a mean and a variance each
