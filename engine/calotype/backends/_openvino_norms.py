"""Norms of a bundle's graphs, as OpenVINO computes them fastest.

Group norms in a bundle are instance norms of one row a group, whose scale is ones and whose bias zeros, scaled channel
by channel behind it. OpenVINO multiplies by the ones and adds the zeros all the same. What is left it computes as it
stands, with sums in float32: its own group norm in one operator is slower where a group is one channel.

Layer norms of bfloat16 come out of its reader between conversions to float32 and back. Its kernel computes in float32
all the same: without them the numbers are equal to the last bit.
"""

from __future__ import annotations

from typing import Any

import openvino as ov

_BEHIND = ("Multiply", "Add", "Reshape", "Multiply", "Add")  # ones, zeros, the data's own shape, scale, bias
_BF16 = ov.Type.bf16


def simplify(model: ov.Model) -> int:
    """Rewrite the group norms of `model`, and layer norms of bfloat16, in place; how many there were."""
    nodes: Any = model.get_ops()
    normals = [node for node in nodes if node.get_type_name() == "MVN"]
    widened = [normal for normal in normals if _narrow(normal)]
    groups = [(normal, unfolded) for normal in normals if (unfolded := _unfolded(normal))]
    for normal, unfolded in groups:
        unfolded.input(0).replace_source_output(normal.output(0))
    if groups or widened:
        model.validate_nodes_and_infer_types()
    return len(groups) + len(widened)


def _narrow(normal: Any) -> bool:
    """Take conversions from bfloat16 to float32 before `normal` and back behind it out; whether they were there."""
    before = normal.input_value(0).get_node()
    uses = [use.get_node() for use in normal.output(0).get_target_inputs()]
    if before.get_type_name() != "Convert" or len(uses) != 1:
        return False
    (behind,) = uses
    types = (before.get_input_element_type(0), before.get_element_type(), behind.get_element_type())
    if behind.get_type_name() not in ("Convert", "ConvertLike") or types != (_BF16, ov.Type.f32, _BF16):
        return False
    normal.input(0).replace_source_output(before.input_value(0))
    for use in behind.output(0).get_target_inputs():
        use.replace_source_output(normal.output(0))
    return True


def _unfolded(normal: Any) -> Any | None:
    """The reshape of `normal` (N, G, ...) to (N, C, ...) behind ones and zeros; None where that is no group norm."""
    chain = [normal]
    for kind in _BEHIND:
        uses = [use.get_node() for use in chain[-1].output(0).get_target_inputs()]
        following = [node for node in uses if node.get_type_name() != "ShapeOf"]
        if len(following) != 1 or following[0].get_type_name() != kind:
            return None
        chain.append(following[0])
    _, ones, zeros, unfolded, _, _ = chain
    if normal.input_value(0).get_node().get_type_name() != "Reshape":
        return None
    if not (_is_filled(ones.input_value(1), 1.0) and _is_filled(zeros.input_value(1), 0.0)):
        return None
    return unfolded


def _is_filled(output: Any, number: float) -> bool:
    """Whether `output` is a constant, shaped or not, that holds `number` alone."""
    node = output.get_node()
    while node.get_type_name() == "Reshape":
        node = node.input_value(0).get_node()
    if node.get_type_name() != "Constant":
        return False
    data = node.get_data(dtype="float32")
    return bool((data == number).all())
