"""Small `unet_step` programs as ONNX files, made without torch: a UNet of two convolutions inside the real frame."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from calotype.manifest import FileSpec, ParameterSpec, ProgramSpec, TensorSpec

S, C, H, W, F = 3, 4, 8, 8, 320
HIDDEN = 32
TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
DATA = "unet_step.data"

GRAPH = """
<ir_version: 10, opset_import: ["": 20]>
step (float[{B},{S},{C},{H},{W}] state, float[{B},{S}] read, float[{B},{S},{T}] write,
      float[{B},{F}] time_features, float[{B},{C},{H},{W}] noise)
  => (float[{B},{S},{C},{H},{W}] next_state, float[{B},{C},{H},{W}] prediction)
<int64[1] one = {{1}}, int64[1] two = {{2}}, int64[5] read_shape = {{{B},{S},1,1,1}},
 int64[6] write_shape = {{{B},{S},{T},1,1,1}}, int64[4] time_shape = {{{B},{D},1,1}}>
{{
  read_rows = Reshape(read, read_shape)
  read_slots = Mul(state, read_rows)
  sample = ReduceSum <keepdims = 0> (read_slots, one)

  narrow_sample = Cast <to = {TYPE}> (sample)
  narrow_features = Cast <to = {TYPE}> (time_features)
  linear_1 = MatMul(narrow_features, time_weight_1)
  gate = Sigmoid(linear_1)
  silu = Mul(linear_1, gate)
  linear_2 = MatMul(silu, time_weight_2)
  time_bias = Reshape(linear_2, time_shape)
  conv_in = Conv <pads = [1, 1, 1, 1]> (narrow_sample, conv_in_weight)
  hidden = Add(conv_in, time_bias)
  hidden_gate = Sigmoid(hidden)
  hidden_silu = Mul(hidden, hidden_gate)
  conv_out = Conv <pads = [1, 1, 1, 1]> (hidden_silu, conv_out_weight)
  prediction = Cast <to = 1> (conv_out)

  prediction_slot = Unsqueeze(prediction, one)
  noise_slot = Unsqueeze(noise, one)
  slots = Concat <axis = 1> (state, prediction_slot, noise_slot)
  slots_row = Unsqueeze(slots, one)
  write_rows = Reshape(write, write_shape)
  written = Mul(slots_row, write_rows)
  next_state = ReduceSum <keepdims = 0> (written, two)
}}
"""


def write(root: Path, precision: str = "fp32", batch: int = 2) -> ProgramSpec:
    """Write the program below `root`; programs of all batch sizes share one data file."""
    graph = root / "onnx" / f"unet_step_{batch}.onnx"
    graph.parent.mkdir(parents=True, exist_ok=True)
    sides = {"B": batch, "S": S, "T": S + 2, "C": C, "H": H, "W": W, "F": F, "D": HIDDEN}
    model = parser.parse_model(GRAPH.format(**sides, TYPE=int(TYPES[precision])))
    data, parameters = bytearray(), list[ParameterSpec]()
    for name, weight in _weights(precision).items():
        model.graph.initializer.append(external(name, weight, DATA, len(data)))
        parameters.append(ParameterSpec(name, name, weight.dtype.name, weight.shape, False, len(data)))
        data += weight.tobytes()
    onnx.save(model, graph)
    (graph.parent / DATA).write_bytes(bytes(data))
    files = tuple(file_spec(root, f"onnx/{name}") for name in (graph.name, DATA))
    return ProgramSpec("unet_step", batch, precision, inputs(batch), outputs(batch), files, tuple(parameters))


def inputs(batch: int) -> tuple[TensorSpec, ...]:
    """The tensors that go in."""
    shapes = {
        "state": (batch, S, C, H, W),
        "read": (batch, S),
        "write": (batch, S, S + 2),
        "time_features": (batch, F),
        "noise": (batch, C, H, W),
    }
    return tuple(TensorSpec(name, "float32", shape) for name, shape in shapes.items())


def outputs(batch: int) -> tuple[TensorSpec, ...]:
    """The tensors that come out; a real step keeps its prediction to itself."""
    return (
        TensorSpec("next_state", "float32", (batch, S, C, H, W)),
        TensorSpec("prediction", "float32", (batch, C, H, W)),
    )


def file_spec(root: Path, path: str) -> FileSpec:
    """What a manifest says about the file."""
    content = (root / path).read_bytes()
    return FileSpec(path, len(content), hashlib.sha256(content).hexdigest())


def external(name: str, weight: np.ndarray[Any, Any], location: str, offset: int = 0) -> TensorProto:
    """An initializer whose bytes lie in the file `location`."""
    tensor = numpy_helper.from_array(weight, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": offset, "length": weight.nbytes}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _weights(precision: str) -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    shapes = {
        "time_weight_1": (F, HIDDEN),
        "time_weight_2": (HIDDEN, HIDDEN),
        "conv_in_weight": (HIDDEN, C, 3, 3),
        "conv_out_weight": (C, HIDDEN, 3, 3),
    }
    dtype = helper.tensor_dtype_to_np_dtype(TYPES[precision])
    return {
        name: (
            generator.standard_normal(shape) / np.sqrt(np.prod(shape) / shape[-1 if len(shape) == 2 else 0])
        )
        .astype(np.float32)
        .astype(dtype)
        for name, shape in shapes.items()
    }
