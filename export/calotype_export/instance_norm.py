"""Group norms of a graph, written as instance norms of one row a group, for which every runtime has a kernel.

ONNX Runtime 1.31 has none for `GroupNormalization` and computes it by its definition, operator by operator. OpenVINO
computes it in float32 between conversions, and an instance norm in the type that it reads, with statistics in float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnx_ir.tensor_adapters import TorchTensor

_FILLED = {"ones": np.ones, "zeros": np.zeros}


def as_instance_norms(model: ir.Model) -> None:
    """Replace every `GroupNormalization` of `model`, in place."""
    graph = model.graph
    for number, node in enumerate([node for node in graph if node.op_type == "GroupNormalization"]):
        nodes = _nodes(graph, node, f"group_norm_{number}")
        graph.insert_before(node, nodes)
        (output,), result = node.outputs, nodes[-1].outputs[0]
        ir.convenience.replace_all_uses_with(output, result, replace_graph_outputs=True)
        result.name, output.name = output.name, None
        affine = node.inputs[1:]
        graph.remove(node, safe=True)
        for value in affine:
            if value is not None and value.name is not None and not value.uses():
                graph.initializers.pop(value.name, None)


def _nodes(graph: ir.Graph, node: ir.Node, name: str) -> list[ir.Node]:
    """x (N, C, ...) as rows (N, G, -1), normalised, in its own shape again, scaled and moved channel by channel.

    ONNX Runtime's transformer optimiser looks for these very nodes, `Shape` included (`fusion_group_norm.py`).
    """
    data, scale, bias = node.inputs
    assert data is not None and data.shape is not None and data.dtype is not None
    assert scale is not None and bias is not None
    shape, dtype = data.shape.numpy(), data.dtype
    groups = node.attributes["num_groups"].as_int()
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    rows = (shape[0], groups, math.prod(shape[1:]) // groups)
    channels = (shape[1], *(1 for _ in shape[2:]))
    made: list[ir.Node] = []

    def add(
        kind: str,
        inputs: list[ir.Value],
        sides: tuple[int, ...],
        of: ir.DataType = dtype,
        **attributes: float,
    ) -> ir.Value:
        made.append(ir.node(kind, inputs, attributes, name=f"{name}_{kind}_{len(made)}"))
        output = made[-1].outputs[0]
        output.name = f"{name}_{len(made)}"
        output.shape, output.type = ir.Shape(sides), ir.TensorType(of)
        return output

    def constant(what: str, array: NDArray[Any]) -> ir.Value:
        tensor = ir.tensor(array, name=f"{name}_{what}")
        kind = ir.TensorType(tensor.dtype)
        value = ir.Value(name=tensor.name, shape=ir.Shape(array.shape), type=kind, const_value=tensor)
        graph.initializers[f"{name}_{what}"] = value
        return value

    ones, zeros = (constant(what, fill(groups, dtype.numpy())) for what, fill in _FILLED.items())
    folded = add("Reshape", [data, constant("rows", np.array(rows, np.int64))], rows)
    normal = add("InstanceNormalization", [folded, ones, zeros], rows, epsilon=epsilon)
    whole = add("Shape", [data], (len(shape),), ir.DataType.INT64)
    unfolded = add("Reshape", [normal, whole], shape)
    scaled = add("Mul", [unfolded, _shaped(graph, scale, channels)], shape)
    add("Add", [scaled, _shaped(graph, bias, channels)], shape)
    return made


def _shaped(graph: ir.Graph, value: ir.Value, sides: tuple[int, ...]) -> ir.Value:
    """The initializer `value` in another shape, and in the same memory."""
    tensor = value.const_value
    assert tensor is not None
    if isinstance(tensor.raw, torch.Tensor):
        same: ir.TensorProtocol = TorchTensor(tensor.raw.reshape(sides))
    else:
        same = ir.tensor(tensor.numpy().reshape(sides))
    kind = ir.TensorType(tensor.dtype)
    name = f"{value.name}_of_channels"
    if name not in graph.initializers:
        graph.initializers[name] = ir.Value(name=name, shape=ir.Shape(sides), type=kind, const_value=same)
    return graph.initializers[name]
