"""Bfloat16 in a bundle's graphs, where OpenVINO has no kernels for it.

On x86 without AVX-512 OpenVINO computes bfloat16 nodes in float32 (`hasBF16HardwareSupport` in its CPU plugin), of
which it learns after a graph has been rewritten: what is rewritten for float32 alone would be left out. So such a graph
is made float32 first. With AVX-512, but without instructions for bfloat16, it computes bfloat16 all the same.
"""

from __future__ import annotations

from typing import Any

import openvino as ov
from openvino import opset12 as ops

from calotype.backends import _host

_BF16 = ov.Type.bf16


def simplify(model: ov.Model) -> int:
    """`widen`, where the processor has nothing that bfloat16 is computed with; how many places were changed."""
    capabilities: list[str] = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    computed = "BF16" in capabilities or "avx512f" in _host.processor().split()
    return 0 if computed else widen(model)


def widen(model: ov.Model) -> int:
    """Make the bfloat16 constants and conversions of `model` float32, in place; how many there were."""
    nodes: Any = model.get_ordered_ops()
    narrow = [
        node
        for node in nodes
        if node.get_type_name() in ("Constant", "Convert") and node.get_element_type() == _BF16
    ]
    for node in narrow:
        if node.get_type_name() == "Constant":
            wide = ops.constant(node.get_data(dtype="float32"))
        else:
            wide = ops.convert(node.input_value(0), "f32")
        node.output(0).replace(wide.output(0))
    if narrow:
        model.validate_nodes_and_infer_types()
        _leave_out_conversions_to_the_same(model)
    return len(narrow)


def _leave_out_conversions_to_the_same(model: ov.Model) -> None:
    nodes: Any = model.get_ordered_ops()
    for node in nodes:
        if node.get_type_name() in ("Convert", "ConvertLike"):
            data = node.input_value(0)
            if data.get_element_type() == node.get_element_type():
                for use in node.output(0).get_target_inputs():
                    use.replace_source_output(data)
