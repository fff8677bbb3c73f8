"""OpenVINO: programs on the CPU, computed in the types that their graphs are written in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from calotype.backends import Array, BackendOptions, Program
from calotype.backends._buffers import Buffer, BufferedProgram, HostBuffer
from calotype.backends._contract import compare, label, reported
from calotype.backends._external_data import check
from calotype.errors import BackendError
from calotype.manifest import ProgramSpec, TensorSpec

DTYPES = {"f32": "float32", "f16": "float16", "i64": "int64"}


def load(root: Path, specs: Sequence[ProgramSpec], options: BackendOptions) -> Sequence[Program]:
    """Compile `specs` for the CPU. BundleError, BackendError.

    The precision hint is f32, always: it leaves bf16 nodes of a graph in bf16 and everything else in float32.
    A bf16 hint would round `state` before it is mixed into the UNet's input, and where a CPU has no float16 the
    f16 hint means bf16 without a word. float16 nodes are computed in float32.
    """
    return [_load(root, spec, options) for spec in specs]


def _load(root: Path, spec: ProgramSpec, options: BackendOptions) -> Program:
    if options.kind != "cpu":
        raise BackendError(
            f"{label(spec)}: the backend openvino runs on cpu, found device {options.device}",
            "use the backend onnxruntime for cuda",
        )
    check(root, spec)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if options.threads is not None:
        settings["INFERENCE_NUM_THREADS"] = str(options.threads)
    core = ov.Core()
    with reported(f"{label(spec)}: OpenVINO cannot load {spec.files[0].path}"):
        model = core.read_model(str(root / spec.files[0].path))
        compare(spec, _tensors(model.inputs, spec.inputs), _tensors(model.outputs, spec.outputs))
        engine = _Engine(core, root / spec.files[0].path, model, settings)
    return BufferedProgram(spec, engine)


class _Engine:
    """A graph, compiled anew when its weights change."""

    def __init__(self, core: ov.Core, graph: Path, model: ov.Model, settings: dict[str, str]) -> None:
        self._core = core
        self._graph = graph
        self._settings = settings
        self._compile(model)

    def replace_weights(self, weights: Mapping[str, Array]) -> None:
        model = self._core.read_model(str(self._graph))
        nodes: Iterable[Any] = model.get_ops()
        constants = {node.get_friendly_name(): node for node in nodes if node.get_type_name() == "Constant"}
        for name, weight in weights.items():
            constant = constants[name]
            replacement = ov.op.Constant(_tensor(constant, weight))
            constant.output(0).replace(replacement.output(0))
        self._compile(model)

    def _compile(self, model: ov.Model) -> None:
        self._request = self._core.compile_model(model, "CPU", self._settings).create_infer_request()

    def buffer(self, tensor: TensorSpec) -> Buffer:
        array = np.zeros(tensor.shape, tensor.dtype)
        return HostBuffer(array, ov.Tensor(array, shared_memory=True))

    def attach(self, tensor: TensorSpec, buffer: Buffer) -> None:
        self._request.set_tensor(tensor.name, buffer.handle)

    def run(self) -> None:
        self._request.start_async()
        self._request.wait()


def _tensor(constant: Any, weight: Array) -> ov.Tensor:
    """`weight` in the constant's type; uint16 is what numpy makes of bfloat16."""
    return ov.Tensor(weight, weight.shape, constant.get_element_type())


def _tensors(ports: Iterable[Any], expected: Iterable[TensorSpec]) -> Iterator[TensorSpec]:
    """A port can have several names, of which the spec's is the one that counts."""
    wanted = {tensor.name for tensor in expected}
    for port in ports:
        name = min(port.names & wanted, default=port.any_name)
        shape = tuple(side.get_length() if side.is_static else -1 for side in port.partial_shape)
        dtype = str(port.element_type.get_type_name())
        yield TensorSpec(name, DTYPES.get(dtype, dtype), shape)
