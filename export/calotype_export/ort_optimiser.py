"""What ONNX Runtime's own transformer optimiser makes of a program for its CUDA provider.

It comes with ONNX Runtime (`onnxruntime.transformers`), and puts operators of the CUDA provider in place of groups of
nodes: group norm with SiLU and the sum before it, layer norm with the sum before it, convolutions in NHWC. What it
leaves by itself is joined after it, and attention in half precision is the provider's own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from calotype.manifest import ProgramSpec
from calotype_export import attention_heads, bundle_files, cuda_graph, fused_biases

# Program -> the optimiser's name for such a model; it has none for the others.
MODEL_TYPES: Final[Mapping[str, str]] = {
    "text_encoder": "clip",
    "unet_step": "unet",
    "vae_encoder": "vae",
    "vae_decoder": "vae",
}


def optimise(root: Path, spec: ProgramSpec, folder: Path, changes: Mapping[str, bool]) -> ProgramSpec:
    """Write the optimiser's graph of the program `spec` of the bundle at `root` into `folder`; the spec of that.

    `changes` are made to its `FusionOptions`. Whatever the optimiser raises is raised.
    """
    optimizer: Any = importlib.import_module("onnxruntime.transformers.optimizer")
    options: Any = importlib.import_module("onnxruntime.transformers.fusion_options")
    logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
    kind = MODEL_TYPES[spec.name]
    wanted = options.FusionOptions(kind)
    for name, value in changes.items():
        setattr(wanted, name, value)
    exported = ir.from_proto(onnx.load(root / spec.files[0].path))
    attention_heads.join(exported)
    _name_kernels(exported)
    graph = ir.to_proto(exported)
    attentions, scales = _disguise_attentions(graph), _widen_scales(graph)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
        model = optimizer.optimize_model(graph, kind, optimization_options=wanted, opt_level=0, use_gpu=True)
    _restore_attentions(model.model, attentions)
    _restore_scales(model.model, scales)
    _complete(model.model)
    folder.mkdir()
    path = folder / f"{spec.name}_{spec.batch}.onnx"
    model.save_model_to_file(str(path), use_external_data_format=True)
    files = tuple(bundle_files.describe(one, folder) for one in sorted(folder.iterdir()))
    return dataclasses.replace(spec, files=files, parameters=(), cuda_files=())


def _name_kernels(model: ir.Model) -> None:
    """Say the size of their kernels in convolutions that leave it to be read off their weights, as ONNX allows.

    The optimiser lays the weights of `NhwcConv` out anew, and ONNX Runtime reads another size off them then.
    """
    for node in model.graph.all_nodes():
        if node.op_type == "Conv" and "kernel_shape" not in node.attributes:
            weight = node.inputs[1]
            assert weight is not None and weight.shape is not None  # a convolution has one
            node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", [*weight.shape.numpy()[2:]])


def _disguise_attentions(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """Put `Clip` in place of `Attention`: its result has the shape of its first input too. What was there, by name.

    The optimiser takes ONNX's `Attention` for the operator of that name among its own, cannot tell its shape, and
    leaves out what it needs shapes for: sums with the group and layer norms behind them. It has nothing to do with
    `Clip`. One with a mask stays: `Clip` has three inputs.
    """
    found: dict[str, onnx.NodeProto] = {}
    for node in model.graph.node:
        if node.op_type == "Attention" and not node.domain and len(node.input) == 3:
            found[node.name] = onnx.NodeProto()
            found[node.name].CopyFrom(node)
            node.op_type = "Clip"
            del node.attribute[:]
    return found


def _restore_attentions(model: onnx.ModelProto, attentions: Mapping[str, onnx.NodeProto]) -> None:
    """Undo `_disguise_attentions`, with the names that inputs and outputs have by now."""
    for node in model.graph.node:
        if node.op_type == "Clip" and node.name in attentions:
            node.op_type = "Attention"
            node.attribute.extend(attentions[node.name].attribute)


def _widen_scales(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Put float32 in place of the float16 (C, 1, 1) that group norms are scaled by. What was there, by name.

    The optimiser takes their bytes for float32's, which its group norm is scaled by.
    """
    found: dict[str, onnx.TensorProto] = {}
    for tensor in model.graph.initializer:
        if (
            tensor.data_type == onnx.TensorProto.FLOAT16
            and len(tensor.dims) == 3
            and [*tensor.dims[1:]] == [1, 1]
        ):
            found[tensor.name] = onnx.TensorProto()
            found[tensor.name].CopyFrom(tensor)
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    return found


def _restore_scales(model: onnx.ModelProto, scales: Mapping[str, onnx.TensorProto]) -> None:
    """Undo `_widen_scales` for norms that the optimiser left."""
    for tensor in model.graph.initializer:
        if tensor.name in scales:
            tensor.CopyFrom(scales[tensor.name])


def _complete(model: onnx.ModelProto) -> None:
    """Join what the optimiser left by itself, and replace what the provider has no kernel for: a VAE's group norm."""
    completed = ir.serde.deserialize_model(model)
    changed = [
        fused_biases.join(completed),
        attention_heads.own(completed),
        cuda_graph.replace_unknown(completed),
    ]
    if any(changed):
        model.CopyFrom(ir.serde.serialize_model(completed))


def operators(graph: Path) -> Counter[str]:
    """How many operators of a kind the graph has that ONNX itself does not know."""
    nodes = onnx.load(graph, load_external_data=False).graph.node
    return Counter(node.op_type for node in nodes if node.domain)
