"""What OpenVINO's rewritings must keep of a graph: small numbers, and all that only looks like what they are for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.backends.test_openvino_norms import computed, group_norm, norm_in_rows

ov = pytest.importorskip("openvino", reason="openvino is not installed")
ops = pytest.importorskip("openvino.opset12", reason="openvino is not installed")
opset10 = pytest.importorskip("openvino.opset10", reason="openvino is not installed")
opset13 = pytest.importorskip("openvino.opset13", reason="openvino is not installed")

from calotype.backends import _openvino_attention, _openvino_norms, _openvino_widening  # noqa: E402

SHAPE = (2, 8, 6, 4)


def of_channels() -> Any:
    return group_norm(SHAPE, np.ones(8, np.float32), np.zeros(8, np.float32), "f32")


@pytest.mark.parametrize("make", [of_channels, norm_in_rows], ids=["of channels", "in rows"])
@pytest.mark.parametrize("deviation", [0.0, 1e-4, 1e-3, 1e-2])
def test_a_norm_of_nearly_the_same_numbers_keeps_its_own_epsilon(make: Any, deviation: float) -> None:
    data = (deviation * np.random.default_rng(0).standard_normal(SHAPE)).astype(np.float32)
    before, after = make(), make()
    assert _openvino_norms.simplify(after) == 1
    expected, found = (computed(each, data) for each in (before, after))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_norm_in_rows_is_known_by_its_mean_its_variance_and_what_it_divides() -> None:
    assert _openvino_norms.simplify(norm_in_rows()) == 1
    assert _openvino_norms.simplify(norm_in_rows(of_mean="others")) == 0
    assert _openvino_norms.simplify(norm_in_rows(axis_of_mean=-1)) == 0
    assert _openvino_norms.simplify(norm_in_rows(axis_of_variance=-1)) == 0
    assert _openvino_norms.simplify(norm_in_rows(normalised="rows")) == 0


def test_a_layer_norm_of_bfloat16_that_is_used_in_float32_too_stays() -> None:
    data = ops.parameter((2, 5, 24), np.float32)
    normal = ops.mvn(ops.convert(ops.convert(data, "bf16"), "f32"), np.array([2]), True, 1e-5, "inside_sqrt")
    narrow = ops.convert(ops.convert(normal, "bf16"), "f32")
    assert _openvino_norms.simplify(ov.Model([narrow, ops.abs(normal)], [data])) == 0


def test_the_bias_of_a_convolution_stays_beside_it() -> None:
    random = np.random.default_rng(0)
    bias = random.standard_normal((2, 8, 1, 1)).astype(np.float32)
    kernel = random.standard_normal((8, 8, 1, 1)).astype(np.float32)
    models = [of_channels() for _ in range(2)]
    for model in models:
        given = next(node for node in model.get_ordered_ops() if node.get_type_name() == "Convert")
        (rows,) = given.output(0).get_target_inputs()
        convolved = ops.convolution(given, ops.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1])
        rows.replace_source_output(ops.add(convolved, ops.constant(bias)).output(0))
    before, after = models
    assert _openvino_norms.simplify(after) == 1
    whole = [node for node in after.get_ops() if list(node.get_output_shape(0)) == list(SHAPE)]
    assert [node.get_type_name() for node in whole].count("Add") == 2
    data = random.standard_normal(SHAPE).astype(np.float32)
    np.testing.assert_allclose(computed(after, data), computed(before, data), atol=1e-4)


def attention(mask: Any = None, looks_at_another: bool = False) -> Any:
    """Attention of 5 tokens, behind which something else is taken for NaN."""
    sides = [ops.parameter((1, 2, 5, 8), np.float32) for _ in range(3)]
    masks = [] if mask is None else [ops.constant(mask)]
    attended = opset13.scaled_dot_product_attention(*sides, *masks)
    looked_at = ops.abs(sides[0]) if looks_at_another else attended
    return ov.Model([ops.select(opset10.is_nan(looked_at), ops.constant(np.float32(0)), attended)], sides)


def test_what_only_looks_like_a_search_for_nan_behind_masked_attention_stays() -> None:
    causal = np.tri(5, dtype=bool)[None, None]
    assert _openvino_attention.simplify(attention(causal)) == 1
    assert _openvino_attention.simplify(attention()) == 0
    assert _openvino_attention.simplify(attention(causal, looks_at_another=True)) == 0


def test_a_mask_is_looked_at_by_queries_and_not_by_keys() -> None:
    no_key_for_the_first, nobody_for_the_first_key = (np.ones((1, 1, 5, 5), bool) for _ in range(2))
    no_key_for_the_first[..., 0, :] = False
    nobody_for_the_first_key[..., :, 0] = False
    assert _openvino_attention.simplify(attention(no_key_for_the_first)) == 0
    assert _openvino_attention.simplify(attention(nobody_for_the_first_key)) == 1


@pytest.mark.parametrize(
    ("capabilities", "processor", "widened"),
    [
        (["FP32", "BF16"], "Some CPU avx2", False),
        (["FP32"], "Some CPU avx2 avx512f", False),
        (["FP32"], "Some CPU avx2", True),
        (["FP32"], "Some CPU asimd", True),
    ],
)
def test_bfloat16_is_made_float32_only_where_neither_openvino_nor_avx_512_computes_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: list[str], processor: str, widened: bool
) -> None:
    data = ops.parameter((2, 3), np.float32)
    model = ov.Model([ops.convert(ops.convert(data, "bf16"), "f32")], [data])
    core = SimpleNamespace(get_property=lambda *_: capabilities)
    monkeypatch.setattr(_openvino_widening, "ov", SimpleNamespace(Core=lambda: core))
    monkeypatch.setattr(_openvino_widening._host, "processor", lambda: processor)
    assert (_openvino_widening.simplify(model) > 0) == widened
