"""Group norms of a graph, written as instance norms of one row a group, for which every runtime has a kernel.

ONNX Runtime 1.31 has none for `GroupNormalization` and computes it by its definition, operator by operator. OpenVINO
computes it in float32 between conversions, and an instance norm in the type that it reads, with statistics in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir


def as_instance_norms(model: ir.Model) -> None:
    """Replace every `GroupNormalization` of `model`, in place; scale and bias are shaped for the product with them."""
    graph = model.graph
    for number, node in enumerate([node for node in graph if node.op_type == "GroupNormalization"]):
        output = node.outputs[0]
        nodes = list(_nodes(graph, node, f"group_norm_{number}"))
        graph.insert_before(node, nodes)
        result = nodes[-1].outputs[0]
        result.shape, result.type = output.shape, output.type
        ir.convenience.replace_all_uses_with(output, result)
        graph.remove(node, safe=True)


def _nodes(graph: ir.Graph, node: ir.Node, name: str) -> Iterator[ir.Node]:
    """x (N, C, ...) as rows (N, G, ...), normalised, in its own shape again, scaled and moved channel by channel."""
    data, scale, bias = node.inputs
    assert data is not None and data.shape is not None and data.dtype is not None
    assert scale is not None and bias is not None
    shape = data.shape.numpy()
    groups = node.attributes["num_groups"].as_int()
    epsilon = node.attributes.get("epsilon")
    numpy_type = data.dtype.numpy()
    rows = _constant(graph, f"{name}_rows", np.array([shape[0], groups, -1], np.int64))
    whole = _constant(graph, f"{name}_whole", np.array(shape, np.int64))
    ones = _constant(graph, f"{name}_ones", np.ones(groups, numpy_type))
    zeros = _constant(graph, f"{name}_zeros", np.zeros(groups, numpy_type))
    yield (folded := ir.node("Reshape", [data, rows]))
    attributes = {"epsilon": 1e-5 if epsilon is None else epsilon.as_float()}
    yield (normal := ir.node("InstanceNormalization", [folded.outputs[0], ones, zeros], attributes))
    yield (unfolded := ir.node("Reshape", [normal.outputs[0], whole]))
    channels = _constant(graph, f"{name}_channels", np.array([-1, *(1 for _ in shape[2:])], np.int64))
    yield (factor := ir.node("Reshape", [scale, channels]))
    yield (summand := ir.node("Reshape", [bias, channels]))
    yield (scaled := ir.node("Mul", [unfolded.outputs[0], factor.outputs[0]]))
    yield ir.node("Add", [scaled.outputs[0], summand.outputs[0]])


def _constant(graph: ir.Graph, name: str, array: Any) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    graph.initializers[name] = value
    return value
