"""Joined operators compute what was there before."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import infer_shapes

from calotype_export import fused_biases
from tests.export.fused_operators import OPERATORS

Array = NDArray[Any]
DOMAIN = "com.microsoft"
RANDOM = np.random.default_rng(0)


def given(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def join(nodes: list[Any], inputs: dict[str, Array], constants: dict[str, Array]) -> Counter[str]:
    """The operators of the graph of `nodes` afterwards, which computes the `out` that it did before."""
    values = [helper.make_tensor_value_info(name, 1, each.shape) for name, each in inputs.items()]
    tensors = [helper.make_tensor(name, 1, each.shape, each.ravel()) for name, each in constants.items()]
    graph = helper.make_graph(nodes, "g", values, [helper.make_tensor_value_info("out", 1, None)], tensors)
    opsets = [helper.make_opsetid("", 23), helper.make_opsetid(DOMAIN, 1)]
    model = infer_shapes(helper.make_model(graph, opset_imports=opsets))
    expected: Any = ReferenceEvaluator(model, new_ops=OPERATORS).run(["out"], inputs)
    changed = ir.serde.deserialize_model(model)
    fused_biases.join(changed)
    joined = ir.serde.serialize_model(changed)
    found: Any = ReferenceEvaluator(joined, new_ops=OPERATORS).run(["out"], inputs)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-4)
    biased = sum(node.op_type == "NhwcConv" and len(node.input) == 3 for node in joined.graph.node)
    return Counter(node.op_type for node in joined.graph.node) + Counter(biased=biased)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    standard = kind in ("Add", "MatMul", "Split", "Gelu", "Mul", "Transpose")
    return helper.make_node(
        kind, inputs.split(), outputs.split(), outputs, domain="" if standard else DOMAIN, **attributes
    )


CONVOLUTIONS = {"w": given(4, 1, 1, 4), "b": given(4), "w2": given(4, 1, 1, 4), "b2": given(4)}
SETTINGS = {"groups": 2, "epsilon": 1e-5, "activation": 1}
NORM = {"g": given(4), "h": given(4)}
PICTURES = {"x": given(2, 3, 3, 4), "y": given(2, 3, 3, 4)}


@pytest.mark.parametrize("skip", ["y", "two"])
def test_a_norm_adds_the_biases_of_convolutions(skip: str) -> None:
    nodes = [
        node("NhwcConv", "x w b", "one"),
        node("NhwcConv", "y w2 b2", "two"),
        node("SkipGroupNorm", f"one g h {skip}", "out sum", **SETTINGS),
    ]
    found = join(nodes if skip == "two" else [nodes[0], nodes[2]], PICTURES, CONVOLUTIONS | NORM)
    assert found["biased"] == 0


@pytest.mark.parametrize(("back", "biased"), [([0, 2, 3, 1], 0), ([0, 3, 2, 1], 1)])
def test_transposes_between_them_must_undo_each_other(back: list[int], biased: int) -> None:
    nodes = [
        node("NhwcConv", "x w b", "one"),
        node("Transpose", "one", "turned", perm=[0, 3, 1, 2]),
        node("Transpose", "turned", "back", perm=back),
        node("SkipGroupNorm", "back g h y", "out sum", **SETTINGS),
    ]
    assert join(nodes, PICTURES, CONVOLUTIONS | NORM)["biased"] == biased


def test_what_others_read_keeps_its_bias() -> None:
    nodes = [
        node("NhwcConv", "x w b", "one"),
        node("SkipGroupNorm", "one g h y", "norm sum", **SETTINGS),
        node("Add", "norm one", "out"),
    ]
    assert join(nodes, PICTURES, CONVOLUTIONS | NORM)["biased"] == 1


def test_of_two_convolutions_that_are_added_one_has_a_bias() -> None:
    turned = {"perm": [0, 3, 1, 2]}
    nodes = [
        node("NhwcConv", "x w b", "one"),
        node("NhwcConv", "y w2 b2", "two"),
        node("Transpose", "one", "left", **turned),
        node("Transpose", "two", "right", **turned),
        node("Add", "left right", "out"),
    ]
    assert join(nodes, PICTURES, CONVOLUTIONS)["biased"] == 1


@pytest.mark.parametrize(("width", "kinds"), [(2560, {"MatMul", "BiasSplitGelu"}), (64, None)])
def test_a_gated_unit_is_one_operator_where_there_is_a_kernel(width: int, kinds: set[str] | None) -> None:
    nodes = [
        node("MatMul", "x m", "product"),
        node("Add", "b product", "added"),
        node("Split", "added", "kept gate", axis=-1, num_outputs=2),
        node("Gelu", "gate", "curve"),
        node("Mul", "kept curve", "out"),
    ]
    found = join(nodes, {"x": given(1, 2, 3)}, {"m": given(3, width), "b": given(width)})
    assert set(found) == (kinds or {"MatMul", "Add", "Split", "Gelu", "Mul"})


@pytest.mark.parametrize(("axis", "sides"), [(1, (1, 4, 3)), (1, (2, 3))])
def test_halves_of_other_axes_or_ranks_stay(axis: int, sides: tuple[int, ...]) -> None:
    nodes = [
        node("MatMul", "x m", "product"),
        node("Add", "b product", "added"),
        node("Split", "added", "kept gate", axis=axis, num_outputs=2),
        node("Gelu", "gate", "curve"),
        node("Mul", "kept curve", "out"),
    ]
    assert "Gelu" in join(nodes, {"x": given(*sides)}, {"m": given(3, 2560), "b": given(2560)})


@pytest.mark.parametrize("sides", [(1, 1, 320), (320,)])
def test_a_residual_that_is_repeated_is_added_by_itself(sides: tuple[int, ...]) -> None:
    nodes = [
        node("MatMul", "x m", "product"),
        node("Add", "product b", "added"),
        node("Add", "added y", "out"),
    ]
    inputs = {"x": given(1, 2, 3), "y": given(*sides)}
    assert "BiasAdd" not in join(nodes, inputs, {"m": given(3, 320), "b": given(320)})


@pytest.mark.parametrize("sum_of", ["added y", "y added"])
def test_a_bias_is_added_with_the_residual(sum_of: str) -> None:
    nodes = [
        node("MatMul", "x m", "product"),
        node("Add", "product b", "added"),
        node("Add", sum_of, "out"),
    ]
    inputs = {"x": given(1, 2, 3), "y": given(1, 2, 320)}
    assert set(join(nodes, inputs, {"m": given(3, 320), "b": given(320)})) == {"MatMul", "BiasAdd"}
