"""Floating-point operations of an ONNX graph with fixed shapes: a multiplication and an addition are two.

Counted are convolutions, matrix products and attention, which is nearly everything; the rest is memory traffic.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path

import onnx_ir as ir

Shape = tuple[int, ...]


def count(graph: Path) -> Counter[str]:
    """Operations by kind of operator: `Conv`, `MatMul`, `Gemm` and `Attention`."""
    found: Counter[str] = Counter()
    for node in ir.load(graph).graph:
        counter = _COUNTERS.get(node.op_type)
        if counter is not None:
            found[node.op_type] += counter(node)
    return found


def _convolution(node: ir.Node) -> int:
    """Each output takes a kernel over the channels of its group: weight (out, in / groups, ...)."""
    return 2 * prod(_shape(node.outputs[0])) * prod(_shape(node.inputs[1])[1:])


def _product(node: ir.Node) -> int:
    """(..., n, k) @ (..., k, m)."""
    return 2 * prod(_shape(node.outputs[0])) * _shape(node.inputs[0])[-1]


def _gemm(node: ir.Node) -> int:
    """(n, k) @ (k, m), each of which may come transposed."""
    rows = _shape(node.inputs[0])
    transposed = node.attributes.get_int("transA", 0)
    return 2 * prod(_shape(node.outputs[0])) * rows[0 if transposed else -1]


def _attention(node: ir.Node) -> int:
    """q (b, heads, n, d), k and v (b, heads, m, d): two products, with scores (b, heads, n, m) between them."""
    *batch, queries, width = _shape(node.inputs[0])
    keys = _shape(node.inputs[1])[-2]
    return 2 * prod(batch) * queries * keys * (width + _shape(node.inputs[2])[-1])


_COUNTERS = {"Conv": _convolution, "MatMul": _product, "Gemm": _gemm, "Attention": _attention}


def _shape(value: ir.Value | None) -> Shape:
    if value is None or value.shape is None or not value.shape.is_static():
        raise ValueError(f"{value} has no fixed shape")
    return tuple(value.shape.numpy())
