"""What ONNX Runtime's CUDA provider has kernels for: `docs/OperatorKernels.md` of ONNX Runtime, of 2026.

Of the operators that programs are exported with, and that the transformer optimiser makes. A kernel without a last
version fits the first one alone (`KernelRegistry::VerifyVersion`): an operator that a newer opset defines anew has
none. `tests/export/test_real_provider.py` holds the list to the provider of the version in `constraints.txt`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, defs

_FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16})
_WIDE = _FLOATS | {TensorProto.BFLOAT16}
_ANY = _WIDE | {TensorProto.INT64, TensorProto.BOOL}

# Operator -> versions, first to last, and the types of the first input.
_STANDARD: dict[str, tuple[tuple[tuple[int, int | None], ...], frozenset[int]]] = {
    "Add": (((13, 13), (14, None)), _WIDE | {TensorProto.INT64}),
    "Attention": (((23, 23), (24, None)), _WIDE),
    "Cast": (((13, 18), (19, 20), (21, 22), (23, None)), _ANY),
    "Clip": (((13, None),), _FLOATS),
    "Concat": (((13, None),), _ANY),
    "Conv": (((11, 21), (22, None)), _WIDE),
    "Div": (((13, 13), (14, None)), _WIDE | {TensorProto.INT64}),
    "Exp": (((13, None),), _WIDE),
    "Expand": (((13, None),), _ANY),
    "Gather": (((13, None),), _ANY),
    "Gelu": (((20, None),), _WIDE),
    "Gemm": (((13, None),), _WIDE),
    "Greater": (((13, None),), _FLOATS | {TensorProto.INT64}),
    "InstanceNormalization": (((6, None),), _FLOATS),
    "LayerNormalization": (((17, None),), _WIDE),
    "MatMul": (((13, None),), _WIDE),
    "Max": (((13, None),), _WIDE | {TensorProto.INT64}),
    "MaxPool": (((8, 9), (10, 10), (11, 11), (12, None)), _FLOATS),
    "Mul": (((13, 13), (14, None)), _WIDE | {TensorProto.INT64}),
    "Pad": (((13, 17), (18, 18), (19, 20), (21, 22), (23, None)), _FLOATS),
    "Reciprocal": (((13, None),), _FLOATS),
    "ReduceL2": (((18, None),), _FLOATS),
    "ReduceMean": (((18, None),), _FLOATS),
    "ReduceSum": (((13, None),), _WIDE | {TensorProto.INT64}),
    "Relu": (((13, 13), (14, None)), _WIDE),
    "Reshape": (((14, 18), (19, 20), (21, 22), (23, None)), _ANY),
    "Resize": (((13, 17), (18, 18), (19, None)), _FLOATS),
    "Shape": (((15, 18), (19, 20), (21, 22), (23, None)), _ANY),
    "Sigmoid": (((13, None),), _WIDE),
    "Slice": (((13, None),), _ANY),
    "Softmax": (((13, None),), _WIDE),
    "Split": (((13, 17), (18, None)), _ANY),
    "Sqrt": (((13, None),), _WIDE),
    "Squeeze": (((13, 20), (21, 22), (23, None)), _ANY),
    "Sub": (((13, 13), (14, None)), _WIDE | {TensorProto.INT64}),
    "Transpose": (((13, 20), (21, 22), (23, None)), _ANY),
    "Unsqueeze": (((13, 20), (21, 22), (23, None)), _ANY),
    "Where": (((16, None),), frozenset({TensorProto.BOOL})),
}
_FUSED = frozenset(
    {"BiasAdd", "BiasSplitGelu", "GroupNorm", "MultiHeadAttention", "NhwcConv", "QuickGelu", "SkipGroupNorm"}
    | {"SkipLayerNormalization"}
)


def lacking(graph: Path) -> list[str]:
    """The nodes of an ONNX file that the provider has no kernel for, each with its operator and version."""
    model = onnx.load(graph, load_external_data=False)
    opset = next(one.version for one in model.opset_import if not one.domain)
    known = dict(types(model.graph))
    return [
        f"{node.name} ({node.op_type}, version {version})"
        for node in model.graph.node
        if not _known(node, version := _version(node, opset), known)
    ]


def _version(node: onnx.NodeProto, opset: int) -> int:
    return 1 if node.domain else defs.get_schema(node.op_type, opset).since_version


def _known(node: onnx.NodeProto, version: int, types: dict[str, int]) -> bool:
    if node.domain:
        return node.op_type in _FUSED
    kernels, accepted = _STANDARD.get(node.op_type, ((), _ANY))
    kind = types.get(node.input[0])
    return any(
        first == version or (last is not None and first <= version <= last) for first, last in kernels
    ) and (kind is None or kind in accepted)


def types(graph: onnx.GraphProto) -> Iterator[tuple[str, int]]:
    """The name and the type of every tensor whose type is stated."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        yield value.name, value.type.tensor_type.elem_type
    for tensor in graph.initializer:
        yield tensor.name, tensor.data_type
