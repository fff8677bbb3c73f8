"""From a torch module with named tensors to an ONNX graph with fixed shapes, and its weights in a plain file beside it.

Graphs of one program for several batch sizes share one file of weights, in which each distinct tensor lies once.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn

from calotype.manifest import ParameterSpec, TensorSpec
from calotype_export.attention_heads import note_causal_masks
from calotype_export.instance_norm import as_instance_norms

# Opset 23 has fused Attention nodes, and is the newest that torch 2.13 writes. On the same UNet it gives the smallest
# graph of opsets 18 to 23, and ONNX Runtime 1.31 and OpenVINO 2026.4 run all of them.
OPSET = 23
# A smaller tensor stays in the graph: shapes and other constants, among them all that depend on the batch size.
EXTERNAL_BYTES = 1024
ALIGNMENT = 64


class Weights:
    """An open file of weights: `place` stores a tensor unless the same bytes are in it already."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._offsets: dict[str, int] = {}  # by sha256 of the bytes

    def place(self, tensor: ir.TensorProtocol) -> ir.ExternalTensor:
        """`tensor` as a reference into this file, which holds its bytes from now on."""
        data = memoryview(_little_endian(tensor)).cast("B")
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._offsets:
            self._file.write(b"\0" * (-self._file.tell() % ALIGNMENT))
            self._offsets[digest] = self._file.tell()
            self._file.write(data)
        return ir.ExternalTensor(
            self._name,
            self._offsets[digest],
            data.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=tensor.name or "",
            base_dir="",
        )


@contextmanager
def weights(path: Path) -> Generator[Weights]:
    """A new file of weights at `path`."""
    with path.open("xb") as file:
        yield Weights(file, path.name)


def trace(module: nn.Module, inputs: Mapping[str, Tensor], outputs: tuple[str, ...]) -> ir.Model:
    """The graph of `module` for the shapes of `inputs`; its weights are still the module's own memory.

    `module` takes a mapping of tensors like `inputs` and returns one whose names are `outputs`.
    """
    with _without_notes(), torch.no_grad():
        program = torch.onnx.export(
            _Positional(module, tuple(inputs)).eval(),
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    _mark_parameters(program.model, dict(module.named_parameters()))
    as_instance_norms(program.model)
    note_causal_masks(program.model)
    _strip(program.model)
    _rename_namesakes(program.model)
    return program.model


def _mark_parameters(model: ir.Model, parameters: Mapping[str, Tensor]) -> None:
    """Note at each initializer which matrix or convolution of the module it is, under its own name or folded.

    The exporter folds the transposition of a linear layer's weight into a new initializer: the layer is known from
    the scope of the product that takes it, and the weight from its numbers. One that two layers share is left out.
    """
    for value in model.graph.initializers.values():
        names = {f"{_scope(use.node)}.weight" for use in value.uses()}
        own = (value.name or "").removeprefix("program.")
        name = own if own in parameters else names.pop() if len(names) == 1 else ""
        weight, tensor = parameters.get(name), value.const_value
        if weight is None or weight.ndim < 2 or tensor is None:
            continue
        for transposed in (
            (False,) if own == name else (True, False)
        ):  # a symmetric matrix was transposed all the same
            expected = weight.T if transposed and weight.ndim == 2 else weight
            if own == name or _equal(tensor, expected):
                value.meta["parameter"] = (name, tuple(weight.shape), transposed)
                break


def _scope(node: ir.Node) -> str:
    """The name, in the traced module, of the layer that `node` was made for."""
    scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "['', '']"))
    return str(scopes[-2]).removeprefix("program.") if len(scopes) > 1 else ""


def _equal(tensor: ir.TensorProtocol, expected: Tensor) -> bool:
    if tuple(tensor.shape.numpy()) != tuple(expected.shape):
        return False
    found = np.frombuffer(_little_endian(tensor), np.uint8)
    return np.array_equal(found, _bytes(expected.contiguous()))


def _rename_namesakes(model: ir.Model) -> None:
    """Rename inner values that the exporter called what an output is called: `mean` of an operator `mean`."""
    ends = [*model.graph.inputs, *model.graph.outputs]
    names, kept = {value.name for value in ends}, {id(value) for value in ends}
    inner = [value for node in model.graph for value in node.outputs]
    for index, value in enumerate(inner):
        if value.name in names and id(value) not in kept:
            value.name = f"{value.name}_inner_{index}"


def write(model: ir.Model, path: Path, stored: Weights) -> tuple[ParameterSpec, ...]:
    """Write the graph to `path` and every tensor of at least EXTERNAL_BYTES to `stored`, beside it.

    Returns where the module's matrices and convolutions are; they lie in `stored`, however small.
    """
    parameters: list[ParameterSpec] = []
    for value in model.graph.initializers.values():
        tensor, parameter = value.const_value, value.meta.get("parameter")
        if tensor is None or (tensor.nbytes < EXTERNAL_BYTES and parameter is None):
            continue
        placed = value.const_value = stored.place(tensor)
        if parameter is not None:
            name, shape, transposed = parameter
            where = (value.name or "", str(tensor.dtype.numpy()), shape, transposed, placed.offset or 0)
            parameters.append(ParameterSpec(name, *where))
    write_graph(model, path)
    return tuple(parameters)


def write_graph(model: ir.Model, path: Path) -> None:
    """Write the graph, whose large tensors lie in a file beside it already."""
    proto: Any = ir.serde.serialize_model(model)
    path.write_bytes(proto.SerializeToString(deterministic=True))


def outputs(model: ir.Model) -> tuple[TensorSpec, ...]:
    """What the manifest says about the outputs of the graph."""
    found: list[TensorSpec] = []
    for value in model.graph.outputs:
        if value.name is None or value.dtype is None or value.shape is None or not value.shape.is_static():
            raise RuntimeError(f"output {value} has no fixed shape")
        found.append(TensorSpec(value.name, str(value.dtype.numpy()), value.shape.numpy()))
    return tuple(found)


@contextmanager
def _without_notes() -> Generator[None]:
    """Leave out what the exporter says about its own workings, such as operators of torchvision that it lacks."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _Positional(nn.Module):
    """A module over named tensors, called with the tensors in order: what the exporter can name without guessing."""

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.program = module
        self.names = names

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.program(dict(zip(self.names, tensors, strict=True))).values())


def _little_endian(tensor: ir.TensorProtocol) -> Any:
    """The bytes of `tensor`, without a copy where they are contiguous torch memory."""
    raw = tensor.raw
    return _bytes(raw) if isinstance(raw, Tensor) and raw.is_contiguous() else tensor.tobytes()


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().reshape(-1).view(torch.uint8).numpy()


def _strip(model: ir.Model) -> None:
    """Take out what tells of this machine and not of the program: stack traces with paths, documentation."""
    graphs = [model.graph, *model.functions.values()]
    model.metadata_props.clear()
    model.doc_string = None
    for graph in graphs:
        graph.metadata_props.clear()
        graph.doc_string = None
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
                value.doc_string = None
    for value in [*model.graph.inputs, *model.graph.initializers.values()]:
        value.metadata_props.clear()
        value.doc_string = None
