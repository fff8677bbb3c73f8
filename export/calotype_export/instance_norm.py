"""Group norms of a graph, written as instance norms of one row a group, for which every runtime has a kernel.

ONNX Runtime 1.31 has none for `GroupNormalization` and computes it by its definition, operator by operator. OpenVINO
computes it in float32 between conversions, and an instance norm in the type that it reads, with statistics in float32.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.tensor_adapters import TorchTensor

from calotype_export.new_nodes import NewNodes

_FILLED = {"ones": np.ones, "zeros": np.zeros}


def as_instance_norms(model: ir.Model) -> None:
    """Replace every `GroupNormalization` of `model`, in place."""
    found = [node for node in model.graph if node.op_type == "GroupNormalization"]
    for number, node in enumerate(found):
        made = NewNodes(model.graph, f"group_norm_{number}")
        made.replace(node, _instance_norm(model.graph, made, node))


def _instance_norm(graph: ir.Graph, made: NewNodes, node: ir.Node) -> ir.Value:
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
    ones, zeros = (made.constant(what, fill(groups, dtype.numpy())) for what, fill in _FILLED.items())
    folded = made.add("Reshape", [data, made.constant("rows", np.array(rows, np.int64))], rows, dtype)
    normal = made.add("InstanceNormalization", [folded, ones, zeros], rows, dtype, epsilon=epsilon)
    whole = made.add("Shape", [data], (len(shape),), ir.DataType.INT64)
    unfolded = made.add("Reshape", [normal, whole], shape, dtype)
    scaled = made.add("Mul", [unfolded, _shaped(graph, scale, channels)], shape, dtype)
    return made.add("Add", [scaled, _shaped(graph, bias, channels)], shape, dtype)


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
