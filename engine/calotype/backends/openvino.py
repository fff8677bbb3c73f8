"""OpenVINO: programs on the CPU, computed in the types that their graphs are written in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from calotype.backends import (
    Array,
    BackendOptions,
    Program,
    _host,
    _openvino_activations,
    _openvino_attention,
    _openvino_norms,
    _openvino_widening,
    _plans,
)
from calotype.backends._buffers import Buffer, BufferedProgram, HostBuffer
from calotype.backends._contract import compare, label, reported
from calotype.backends._external_data import check
from calotype.errors import BackendError
from calotype.manifest import ProgramSpec, TensorSpec

DTYPES = {"f32": "float32", "f16": "float16", "i64": "int64"}
# of every graph that is read, in this order, in place; each tells how many places it changed
REWRITINGS: Mapping[str, Callable[[ov.Model], int]] = {
    "float32 for bfloat16": _openvino_widening.simplify,
    "norms": _openvino_norms.simplify,
    "masked attention": _openvino_attention.simplify,
    "activations": _openvino_activations.simplify,
}


def rewrite(model: ov.Model) -> None:
    """All of `REWRITINGS`, in place."""
    for change in REWRITINGS.values():
        change(model)


def load(root: Path, specs: Sequence[ProgramSpec], options: BackendOptions) -> Sequence[Program]:
    """Compile `specs` for the CPU. BundleError, BackendError.

    The precision hint is f32, always: it leaves bf16 nodes of a graph in bf16 and everything else in float32.
    A bf16 hint would round `state` before it is mixed into the UNet's input, and where a CPU has no float16 the
    f16 hint means bf16 without a word. float16 nodes are computed in float32, and bfloat16 ones where a CPU has neither
    AVX-512 nor other instructions for them.
    """
    if options.kind != "cpu":
        raise BackendError(
            f"the backend openvino runs on cpu, found device {options.device}",
            "use the backend onnxruntime for cuda",
        )
    kept = _plans.Kept("openvino", _host.NEEDS, lambda: _host.machine(ov.__version__))
    plans = _plans.plans(root, specs, kept, options)
    return [_load(root, spec, options, plan) for spec, plan in zip(specs, plans, strict=True)]


def _load(root: Path, spec: ProgramSpec, options: BackendOptions, plan: _plans.Chosen | None) -> Program:
    check(root, spec)
    graph = root / spec.files[0].path
    with reported(f"{label(spec)}: OpenVINO cannot load {spec.files[0].path}"):
        compiler = Compiler(options.threads)
        if plan is None:
            model = compiler.read(graph)
            compare(spec, _tensors(model.inputs, spec.inputs), _tensors(model.outputs, spec.outputs))
            compiled = compiler.compile(model)
        else:
            compiled = compiler.open(plan.folder / plan.files[0].path)
            compare(spec, _tensors(compiled.inputs, spec.inputs), _tensors(compiled.outputs, spec.outputs))
    return BufferedProgram(spec, _Engine(compiler, graph, compiled))


class Compiler:
    """OpenVINO with the settings that every program is compiled with; `profiled`: it counts where time goes, too."""

    def __init__(self, threads: int | None = None, profiled: bool = False) -> None:
        self._core = ov.Core()
        self._settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = str(threads)
        if profiled:
            self._settings["PERF_COUNT"] = "YES"

    def read(self, graph: Path) -> ov.Model:
        """The model of an ONNX file, rewritten."""
        model = self.read_as_it_is(graph)
        rewrite(model)
        return model

    def read_as_it_is(self, graph: Path) -> ov.Model:
        """The model of an ONNX file, as OpenVINO makes it."""
        return self._core.read_model(str(graph))

    def compile(self, model: ov.Model) -> ov.CompiledModel:
        """The model, compiled for the CPU."""
        return self._core.compile_model(model, "CPU", self._settings)

    def open(self, plan: Path) -> ov.CompiledModel:
        """What `CompiledModel.export_model` wrote."""
        self._opened = ov.Tensor(
            np.memmap(plan, np.uint8, "c"), shared_memory=True
        )  # weights stay where they are
        return self._core.import_model(self._opened, "CPU", self._settings)


class _Engine:
    """A compiled model; its graph is compiled anew when its weights change."""

    def __init__(self, compiler: Compiler, graph: Path, compiled: ov.CompiledModel) -> None:
        self._compiler = compiler
        self._graph = graph
        self._request = compiled.create_infer_request()

    def replace_weights(self, weights: Mapping[str, Array]) -> None:
        model = self._compiler.read_as_it_is(self._graph)
        nodes: Iterable[Any] = model.get_ops()
        constants = {node.get_friendly_name(): node for node in nodes if node.get_type_name() == "Constant"}
        for name, weight in weights.items():
            constant = constants[name]
            replacement = ov.op.Constant(_tensor(constant, weight))
            constant.output(0).replace(replacement.output(0))
        rewrite(model)  # afterwards, since it may make constants of another type
        self._request = self._compiler.compile(model).create_infer_request()
        self._weights = tuple(weights.values())  # where no constant was made float32, it is this memory

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
