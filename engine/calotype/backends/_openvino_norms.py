"""Group norms of a bfloat16 graph as OpenVINO computes them fastest: numbers in bfloat16, their statistics in float32.

ONNX asks for float32 in the statistics alone. OpenVINO's reader converts to float32 before the whole operator and back
behind it, and so reorders twice the bytes; its kernel for MVN adds up in float32 whatever it reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset12 as ops


def in_bfloat16(model: ov.Model) -> int:
    """Rewrite the group norms of `model` that lie between bfloat16 tensors, in place; how many there were."""
    nodes: Any = model.get_ops()
    found = [node for node in nodes if node.get_type_name() == "GroupNormalization" and _is_between(node)]
    for node in found:
        replacement = _normalised(node)
        for use in node.output(0).get_target_inputs():
            use.get_node().output(0).replace(replacement)
    if found:
        model.validate_nodes_and_infer_types()
    return len(found)


def _is_between(node: Any) -> bool:
    """Whether all that `node` reads was converted from bfloat16, and all that it writes is converted back."""
    uses = [use.get_node() for use in node.output(0).get_target_inputs()]
    converted = [*(node.input_value(place).get_node() for place in range(3)), *uses]
    if any(each.get_type_name() != "Convert" for each in converted):
        return False
    ends = [*(each.input_value(0) for each in converted[:3]), *(use.output(0) for use in uses)]
    return all(end.get_element_type() == ov.Type.bf16 for end in ends)


def _normalised(node: Any) -> Any:
    """The output of other nodes that compute what `node` does."""
    data, scale, bias = (node.input_value(place).get_node().input_value(0) for place in range(3))
    settings = node.get_attributes()
    shape = [int(side) for side in node.output(0).get_shape()]
    channels = _numbers([1, -1, *[1] * (len(shape) - 2)])
    groups = ops.reshape(data, _numbers([shape[0], settings["num_groups"], -1]), False)
    normal = ops.mvn(groups, _numbers([2]), True, settings["epsilon"], "inside_sqrt")
    scaled = ops.multiply(ops.reshape(normal, _numbers(shape), False), ops.reshape(scale, channels, False))
    return ops.add(scaled, ops.reshape(bias, channels, False)).output(0)


def _numbers(values: list[int]) -> Any:
    return ops.constant(np.array(values, np.int64))
