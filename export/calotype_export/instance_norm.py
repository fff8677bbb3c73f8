"""Group norms of a graph, written as instance norms of one row a group, for which every runtime has a kernel.

ONNX Runtime 1.31 has none for `GroupNormalization` and computes it by its definition, operator by operator. OpenVINO
computes it in float32 between conversions, and an instance norm in the type that it reads, with statistics in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

_FILLED = {"ones": np.ones, "zeros": np.zeros}


def as_instance_norms(model: ir.Model) -> None:
    """Replace every `GroupNormalization` of `model`, in place."""
    graph = model.graph
    for number, node in enumerate([node for node in graph if node.op_type == "GroupNormalization"]):
        nodes = _nodes(graph, node, f"group_norm_{number}")
        graph.insert_before(node, nodes)
        ir.convenience.replace_all_uses_with(node.outputs[0], nodes[-1].outputs[0])
        graph.remove(node, safe=True)


def _nodes(graph: ir.Graph, node: ir.Node, name: str) -> list[ir.Node]:
    """x (N, C, ...) as rows (N, G, -1), normalised, in its own shape again, scaled and moved channel by channel."""
    data, scale, bias = node.inputs
    assert data is not None and data.shape is not None and data.dtype is not None
    assert scale is not None and bias is not None
    shape, dtype = data.shape.numpy(), data.dtype
    groups = node.attributes["num_groups"].as_int()
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    rows = (shape[0], groups, math.prod(shape[1:]) // groups)
    channels = (shape[1], *(1 for _ in shape[2:]))
    made: list[ir.Node] = []

    def add(kind: str, inputs: list[ir.Value], sides: tuple[int, ...], **attributes: float) -> ir.Value:
        made.append(ir.node(kind, inputs, attributes))
        output = made[-1].outputs[0]
        output.name = f"{name}_{len(made)}"
        output.shape, output.type = ir.Shape(sides), ir.TensorType(dtype)
        return output

    def constant(what: str, array: NDArray[Any]) -> ir.Value:
        tensor = ir.tensor(array, name=f"{name}_{what}")
        kind = ir.TensorType(tensor.dtype)
        value = ir.Value(name=tensor.name, shape=ir.Shape(array.shape), type=kind, const_value=tensor)
        graph.initializers[f"{name}_{what}"] = value
        return value

    def reshaped(value: ir.Value, what: str, sides: tuple[int, ...]) -> ir.Value:
        return add("Reshape", [value, constant(what, np.array(sides, np.int64))], sides)

    ones, zeros = (constant(what, fill(groups, dtype.numpy())) for what, fill in _FILLED.items())
    folded = reshaped(data, "rows", rows)
    normal = add("InstanceNormalization", [folded, ones, zeros], rows, epsilon=epsilon)
    unfolded = reshaped(normal, "whole", shape)
    scaled = add("Mul", [unfolded, reshaped(scale, "scale", channels)], shape)
    add("Add", [scaled, reshaped(bias, "bias", channels)], shape)
    return made
