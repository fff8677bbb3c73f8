"""A program's graph in operators that ONNX Runtime's CUDA provider has kernels for, where what is exported is not.

A kernel is registered for the versions of an operator that it knows (`docs/OperatorKernels.md` of ONNX Runtime). Of
what is exported at opset 23, 1.31.1 knows `InstanceNormalization` and `MaxPool` in older versions alone, other releases
`Pad` too (microsoft/onnxruntime issues 26393 and 27729), and `Clip` and `Resize` in other types than bfloat16; sessions
on a GPU have no other provider to fall back to.
"""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import onnx_ir as ir

from calotype_export import attention_heads
from calotype_export.new_nodes import NewNodes


def adapt(model: ir.Model) -> bool:
    """Make of `model` what the provider has kernels for, and fewer to launch; whether anything changed."""
    replaced = replace_unknown(model)
    joined = attention_heads.join(model)
    return attention_heads.own(model) or joined or replaced


def replace_unknown(model: ir.Model) -> bool:
    """Replace in `model` what the provider has no kernel for; whether there was anything."""
    graph = model.graph
    ones = dict[tuple[object, ...], ir.Value]()
    makers = {"InstanceNormalization": partial(_layer_norm, ones), "MaxPool": _largest, "Pad": _joined}
    makers_of_bfloat16 = {**makers, "Clip": _in_float32, "Resize": _in_float32}
    found = [
        (node, known[node.op_type])
        for node in graph
        if node.op_type in (known := makers_of_bfloat16 if _is_bfloat16(node) else makers) and not node.domain
    ]
    for number, (node, make) in enumerate(found):
        made = NewNodes(graph, f"cuda_{number}")
        made.replace(node, make(made, node))
    return bool(found)


def _is_bfloat16(node: ir.Node) -> bool:
    value = node.inputs[0] if node.inputs else None
    return value is not None and value.dtype == ir.DataType.BFLOAT16


def _in_float32(made: NewNodes, node: ir.Node) -> ir.Value:
    """The same node between conversions. What only chooses among numbers rounds none of them, and what resizes a plane
    would compute in float32 too.
    """
    (output,) = node.outputs
    if output.shape is None or not output.shape.is_static():
        raise RuntimeError(f"{node.name}: its output has no fixed shape")
    wide = [
        made.add("Cast", [value], value.shape.numpy(), ir.DataType.FLOAT, to=ir.DataType.FLOAT)
        if value is not None and value.shape is not None and value.dtype == ir.DataType.BFLOAT16
        else value
        for value in node.inputs
    ]
    settings = {name: attribute.value for name, attribute in node.attributes.items()}
    sides = output.shape.numpy()
    result = made.add(node.op_type, wide, sides, ir.DataType.FLOAT, **settings)
    return made.add("Cast", [result], sides, ir.DataType.BFLOAT16, to=ir.DataType.BFLOAT16)


def _layer_norm(ones: dict[tuple[object, ...], ir.Value], made: NewNodes, node: ir.Node) -> ir.Value:
    """An instance norm of rows (N, G, K) without a scale of its own is a layer norm of K numbers, scaled by `ones`."""
    rows, shape, dtype = _input(node)
    scale, bias = (value.const_value.numpy() for value in node.inputs[1:] if value and value.const_value)
    if len(shape) != 3 or not (np.all(scale == 1) and np.all(bias == 0)):
        raise RuntimeError(f"{node.name}: expected an instance norm of rows, scaled by ones alone")
    if (shape[2], dtype) not in ones:
        one, sides = (
            made.constant("one", np.ones(1, dtype.numpy())),
            made.constant("sides", np.array(shape[2:])),
        )
        ones[shape[2], dtype] = made.add("Expand", [one, sides], shape[2:], dtype)
    epsilon = node.attributes["epsilon"].as_float()
    return made.add(
        "LayerNormalization", [rows, ones[shape[2], dtype]], shape, dtype, axis=-1, epsilon=epsilon
    )


def _largest(made: NewNodes, node: ir.Node) -> ir.Value:
    """The largest of k x k slices of the picture, each moved by a pixel."""
    data, shape, dtype = _input(node)
    settings = {name: attribute.value for name, attribute in node.attributes.items()}
    plain = {"auto_pad": "NOTSET", "ceil_mode": 0, "dilations": (1, 1), "pads": (0, 0, 0, 0)}
    for name, expected in plain.items():
        found = settings.get(name, expected)
        if (tuple(found) if isinstance(expected, tuple) else found) != expected:
            raise RuntimeError(f"{node.name}: {name}: expected {expected}, found {found}")
    kernel, strides = tuple(settings["kernel_shape"]), tuple(settings.get("strides", (1, 1)))
    sides = [(side - k) // step + 1 for side, k, step in zip(shape[2:], kernel, strides, strict=True)]
    axes, steps = made.constant("axes", np.array([2, 3])), made.constant("steps", np.array(strides))
    slices: list[ir.Value] = []
    for start in product(*map(range, kernel)):
        ends = [s + (side - 1) * step + 1 for s, side, step in zip(start, sides, strides, strict=True)]
        where = [
            made.constant(f"{what}_{start[0]}_{start[1]}", np.array(numbers))
            for what, numbers in (("starts", start), ("ends", ends))
        ]
        slices.append(made.add("Slice", [data, *where, axes, steps], (*shape[:2], *sides), dtype))
    return made.add("Max", slices, (*shape[:2], *sides), dtype)


def _joined(made: NewNodes, node: ir.Node) -> ir.Value:
    """The picture between blocks of the value that it is padded with, axis by axis."""
    data, shape, dtype = _input(node)
    pads = node.inputs[1]
    value = node.inputs[2] if len(node.inputs) > 2 else None
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "constant"
    if mode != "constant" or axes is not None or pads is None or pads.const_value is None:
        raise RuntimeError(f"{node.name}: expected constant padding of every axis, found {mode}")
    counts = pads.const_value.numpy().reshape(2, -1)
    value = value or made.constant("value", np.zeros((), dtype.numpy()))
    for axis, (before, after) in enumerate(counts.T.tolist()):
        blocks = dict[int, ir.Value]()
        for count in {before, after} - {0}:
            sides = (*shape[:axis], count, *shape[axis + 1 :])
            size = made.constant(f"size_{axis}_{count}", np.array(sides))
            blocks[count] = made.add("Expand", [value, size], sides, dtype)
        if blocks:
            shape = (*shape[:axis], shape[axis] + before + after, *shape[axis + 1 :])
            parts = [part for part in (blocks.get(before), data, blocks.get(after)) if part is not None]
            data = made.add("Concat", parts, shape, dtype, axis=axis)
    return data


def _input(node: ir.Node) -> tuple[ir.Value, tuple[int, ...], ir.DataType]:
    """The first input, with its fixed shape and its type."""
    value = node.inputs[0]
    if value is None or value.shape is None or value.dtype is None or not value.shape.is_static():
        raise RuntimeError(f"{node.name}: its input has no fixed shape")
    return value, value.shape.numpy(), value.dtype
