"""How much memory the values between a graph's nodes take, if it is run node by node in its order."""

from __future__ import annotations

from collections import Counter
from math import prod

import onnx_ir as ir

# They give their input another shape, without a copy.
_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
# They may write over an input that nobody reads afterwards.
_IN_PLACE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Sigmoid", "Gelu", "Erf", "Relu", "Tanh", "Clip", "Softmax"}
)


def activation_bytes(graph: ir.Graph) -> int:
    """The most that is alive at once, in bytes: what nodes make, until its last use.

    The graph's inputs, outputs and weights are not counted; attention is one node, and a convolution needs no space of
    its own. RuntimeError for a value without a fixed shape.
    """
    outside = {id(value) for value in (*graph.inputs, *graph.outputs, *graph.initializers.values())}
    owner = _owners(graph)
    working = [node for node in graph if node.op_type not in _VIEWS]
    left = Counter(owner[id(value)] for node in working for value in _read(node) if id(value) in owner)
    alive: dict[int, int] = {}
    peak = 0
    for node in working:
        made = {id(value): _bytes(value) for value in node.outputs if id(value) not in outside}
        used = Counter(owner[id(value)] for value in _read(node) if id(value) in owner)
        ended = sum(alive.pop(each, 0) for each, count in used.items() if left[each] == count)
        left.subtract(used)
        during = sum(alive.values()) + sum(made.values()) + ended
        peak = max(peak, during - (min(ended, sum(made.values())) if node.op_type in _IN_PLACE else 0))
        alive |= {value: size for value, size in made.items() if left[value]}
    return peak


def _owners(graph: ir.Graph) -> dict[int, int]:
    """Of every value that a node makes, the value whose memory it lies in."""
    owner: dict[int, int] = {}
    for node in graph:
        source = _read(node)[0] if node.op_type in _VIEWS else None
        for value in node.outputs:
            owner[id(value)] = id(value) if source is None else owner.get(id(source), id(source))
    return owner


def _read(node: ir.Node) -> list[ir.Value]:
    """The values that a node reads, what it could do without left out."""
    return [value for value in node.inputs if value is not None]


def _bytes(value: ir.Value) -> int:
    if value.dtype is None or value.shape is None or not value.shape.is_static():
        raise RuntimeError(f"{value.name} has no fixed shape")
    return -(-prod(value.shape.numpy()) * value.dtype.bitwidth // 8)
