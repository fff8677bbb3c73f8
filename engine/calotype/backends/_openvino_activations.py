"""Activations behind products, as OpenVINO computes them fastest on x86 without AVX-512.

OpenVINO computes a product with constant weights with MLAS, but fuses an activation into the product before it, and
then it is oneDNN's, which is the slower one there. What uses the product twice is not fused: so activations are written
out, in a form that OpenVINO does not know them by.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from openvino import opset12 as ops

from calotype.backends import _host


def simplify(model: ov.Model) -> int:
    """`write_out`, where the processor has AVX2 and no AVX-512; how many places were changed."""
    extensions = _host.processor().split()
    return write_out(model) if "avx2" in extensions and "avx512f" not in extensions else 0


def write_out(model: ov.Model) -> int:
    """Write out the activations behind float32 products of `model`, in place; how many there were."""
    nodes: Any = model.get_ops()
    found = [parts for node in nodes if (parts := _gelu(node) or _quick_gelu(node))]
    for activation, written in found:
        activation.output(0).replace(written.output(0))
    return len(found)


def _gelu(node: Any) -> tuple[Any, Any] | None:
    """`node` and x / 2 + x / 2 * erf(x / sqrt(2)), where it is the Gelu of a product x."""
    if node.get_type_name() != "Gelu" or node.get_attributes()["approximation_mode"] != "ERF":
        return None
    product = node.input_value(0)
    if not _is_product(product, {node}):
        return None
    half = ops.multiply(product, ops.constant(np.float32(0.5)))
    error = ops.erf(ops.multiply(product, ops.constant(np.float32(2**-0.5))))
    return node, ops.add(half, ops.multiply(half, error))


def _quick_gelu(node: Any) -> tuple[Any, Any] | None:
    """x * sigmoid(factor * x), of which `node` is the sigmoid, and x / (1 + exp(-factor * x)), where x is a product."""
    if node.get_type_name() != "Sigmoid":
        return None
    scaled, following = node.input_value(0).get_node(), _uses(node)
    if scaled.get_type_name() != "Multiply" or _uses(scaled) != {node} or len(following) != 1:
        return None
    product, factor = scaled.input_values()
    (activation,) = following
    if activation.get_type_name() != "Multiply" or not _is_product(product, {scaled, activation}):
        return None
    exponent = ops.multiply(product, ops.negative(factor))
    return activation, ops.divide(product, ops.add(ops.exp(exponent), ops.constant(np.float32(1))))


def _is_product(output: Any, uses: set[Any]) -> bool:
    """Whether `output` is a float32 product with constant weights and a bias, used by `uses` alone."""
    total = output.get_node()
    if total.get_type_name() != "Add" or output.get_element_type() != ov.Type.f32 or _uses(total) != uses:
        return False
    products = [each.get_node() for each in total.input_values()]
    weights = [
        node.input_value(1).get_node().get_type_name()
        for node in products
        if node.get_type_name() == "MatMul"
    ]
    return weights == ["Constant"]


def _uses(node: Any) -> set[Any]:
    return {use.get_node() for use in node.output(0).get_target_inputs()}
