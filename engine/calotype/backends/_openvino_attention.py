"""Masked attention of a bundle's graphs, without what OpenVINO's reader puts behind it.

A row of attention in which everything is masked is a division of zero by zero, for which ONNX wants zeros; so the
reader looks for NaN in all that masked attention gives. Behind that, the transpose of heads is no longer part of
attention.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov


def simplify(model: ov.Model) -> int:
    """Take the search for NaN out of `model`, in place, where no row is masked as a whole; how many there were."""
    nodes: Any = model.get_ordered_ops()
    guards = [node for node in nodes if node.get_type_name() == "Select" and _guards(node)]
    for guard in guards:
        attended = guard.input_value(2)
        for use in guard.output(0).get_target_inputs():
            use.replace_source_output(attended)
    return len(guards)


def _guards(select: Any) -> bool:
    """Whether `select` takes something else for NaN in attention that has none."""
    looks, _, attention = (select.input_value(index).get_node() for index in range(3))
    return (
        looks.get_type_name() == "IsNaN"
        and attention.get_type_name() == "ScaledDotProductAttention"
        and looks.input_value(0) == select.input_value(2)
        and attention.get_input_size() > 3
        and _leaves_some(attention.input_value(3).get_node())
    )


def _leaves_some(mask: Any) -> bool:
    """Whether every row of a mask (..., queries, keys) is known, and leaves a key."""
    if mask.get_type_name() != "Constant" or mask.get_element_type() != ov.Type.boolean:
        return False
    return bool(np.any(mask.get_data(dtype="bool"), axis=-1).all())
