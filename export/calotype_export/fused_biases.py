"""Sums and gates that ONNX Runtime's transformer optimiser leaves by themselves, in operators of its CUDA provider.

They take a kernel each, and most of a half-precision step's time is such kernels' reading and writing: biases of
convolutions go into the group norm behind them, a gated linear unit (GEGLU, Shazeer 2020) becomes one operator, and a
product's bias is added together with the residual.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from calotype_export.graph_walk import maker, reader, sides
from calotype_export.new_nodes import NewNodes

# What the provider's kernels are written for (ONNX Runtime, contrib_ops/cuda/diffusion).
_GATED = frozenset({2560, 5120, 6144, 10240, 12288})
_SUMMED = frozenset({320, 640, 1280})
_AS_THEY_ARE = (0, 1, 2, 3)


def join(model: ir.Model) -> bool:
    """Join what can be joined in `model`; whether there was anything."""
    changed = [_into_norm(model.graph, node) for node in _named(model, "SkipGroupNorm")]
    changed += [_gated(model.graph, node) for node in _named(model, "Gelu")]
    changed += [
        _of_one(model.graph, node) or _with_residual(model.graph, node) for node in _named(model, "Add")
    ]
    return any(changed)


def _named(model: ir.Model, kind: str) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == kind]


def _into_norm(graph: ir.Graph, norm: ir.Node) -> bool:
    """Let `norm` add the biases of convolutions that it alone reads."""
    found = [_convolution(norm.inputs[at]) for at in (0, 3)]
    convolutions = [node for node, axes in found if node is not None and axes == _AS_THEY_ARE]
    total = _summed(convolutions)
    if total is None or len(norm.inputs) > 4:
        return False
    for node in convolutions:
        node.resize_inputs(2)
    norm.resize_inputs(5)
    norm.replace_input_with(4, _initializer(graph, total))
    return True


def _of_one(graph: ir.Graph, added: ir.Node) -> bool:
    """Let one of two convolutions that `added` adds have the biases of both."""
    (one, axes), (other, other_axes) = (_convolution(value) for value in added.inputs)
    if one is None or other is None or axes != other_axes:
        return False
    total = _summed([one, other])
    if total is None:
        return False
    one.replace_input_with(2, _initializer(graph, total))
    other.resize_inputs(2)
    return True


def _summed(convolutions: list[ir.Node]) -> np.ndarray | None:
    """The sum of their biases, rounded once; None where there are none, or not all are constants."""
    biases = [_constant(node.inputs[2]) for node in convolutions]
    known = [bias for bias in biases if bias is not None]
    if not known or len(known) < len(biases):
        return None
    return np.sum([bias.astype(np.float32) for bias in known], axis=0).astype(known[0].dtype)


def _initializer(graph: ir.Graph, bias: np.ndarray) -> ir.Value:
    return NewNodes(graph, f"joined_{len(graph.initializers)}").constant("bias", bias)


def _convolution(value: ir.Value | None) -> tuple[ir.Node | None, tuple[int, ...]]:
    """The convolution with a bias that alone makes `value`, and which of its axes are where there."""
    node, axes = maker(value), _AS_THEY_ARE
    while node is not None and node.op_type == "Transpose":
        turned = tuple(node.attributes.get_ints("perm", ()))
        if len(turned) != len(axes):
            return None, axes
        axes = tuple(turned[axis] for axis in axes)
        node = maker(node.inputs[0])
    biased = node is not None and node.op_type == "NhwcConv" and len(node.inputs) > 2
    return (node if biased else None), axes


def _gated(graph: ir.Graph, gelu: ir.Node) -> bool:
    """One operator in place of the bias, the halves of a product, and one half times what `gelu` makes of the other."""
    if gelu.attributes.get_string("approximate", "none") != "none":
        return False
    split = gelu.inputs[0].producer() if gelu.inputs[0] is not None else None
    times = reader(gelu)
    if split is None or split.op_type != "Split" or len(split.outputs) != 2 or times is None:
        return False
    kept, gate = split.outputs
    if times.op_type != "Mul" or gelu.inputs[0] is not gate or kept not in times.inputs:
        return False
    if maker(kept) is None or maker(gate) is None or not _halves_tokens(split):
        return False
    added = maker(split.inputs[0])
    parts = None if added is None else _bias_and_product(added)
    if added is None or parts is None or _width(parts[0]) not in _GATED:
        return False
    bias, product = parts
    _replace(graph, times, "BiasSplitGelu", [product, bias], [gelu, split, added])
    return True


def _halves_tokens(split: ir.Node) -> bool:
    """Whether it parts the last of three axes in two equal halves."""
    shapes = [sides(value) for value in (*split.inputs[:1], *split.outputs)]
    whole, *halves = shapes
    return (
        len(whole) == 3
        and split.attributes.get_int("axis", 0) in (-1, 2)
        and all(half == (*whole[:2], whole[2] // 2) for half in halves)
    )


def _with_residual(graph: ir.Graph, last: ir.Node) -> bool:
    """One operator in place of a product's bias and the residual that `last` adds."""
    for at, value in enumerate(last.inputs):
        added = maker(value)
        parts = None if added is None else _bias_and_product(added)
        residual = last.inputs[1 - at]
        if added is None or parts is None or residual is None or _constant(residual) is not None:
            continue
        bias, product = parts
        tokens = sides(added.outputs[0])
        if _width(bias) not in _SUMMED or len(tokens) != 3 or sides(residual) != tokens:
            continue  # the operator repeats nothing
        _replace(graph, last, "BiasAdd", [product, bias, residual], [added])
        return True
    return False


def _bias_and_product(added: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """The constant and the product that `added` adds."""
    if added.op_type != "Add":
        return None
    for bias, product in (added.inputs, reversed(added.inputs)):
        if bias is None or product is None or _constant(bias) is None:
            continue
        source = product.producer()
        if source is not None and source.op_type == "MatMul":
            return bias, product
    return None


def _replace(
    graph: ir.Graph, last: ir.Node, kind: str, inputs: list[ir.Value], others: list[ir.Node]
) -> None:
    """Put an operator in place of `last` and the `others` before it."""
    NewNodes(graph, f"{last.name}_joined").instead(last, kind, inputs)
    for node in others:
        graph.remove(node, safe=True)


def _width(bias: ir.Value) -> int:
    """How many numbers a bias has; 0 where it is something else."""
    known = sides(bias)
    return known[0] if len(known) == 1 else 0


def _constant(value: ir.Value | None) -> np.ndarray | None:
    return value.const_value.numpy() if value is not None and value.const_value is not None else None
