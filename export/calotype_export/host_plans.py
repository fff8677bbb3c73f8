"""What ONNX Runtime and OpenVINO make of a graph on this processor, kept so that loading need not repeat it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from calotype import backends
from calotype.backends import BackendOptions
from calotype.manifest import ProgramSpec


@dataclass(frozen=True, slots=True)
class HostPlan:
    """The files of a plan, the first of which is opened; none where the exported ones are. Memory in bytes."""

    paths: tuple[Path, ...]
    seconds: float
    weight_bytes: int
    layers: Counter[str]
    precisions: Counter[str]


def build(backend: str, root: Path, spec: ProgramSpec, folder: Path) -> HostPlan:
    """Compile the program `spec` of the bundle at `root`, and write its plan into `folder`. BackendError."""
    begun = time.monotonic()
    writer = _WRITERS[backend]
    paths, layers, precisions = writer(root, spec, folder / f"{spec.name}_{spec.batch}")
    seconds = time.monotonic() - begun
    size = sum(path.stat().st_size for path in paths)
    return HostPlan(paths, seconds, size, layers, precisions)


def activation_bytes(backend: str, root: Path, spec: ProgramSpec) -> int:
    """How much more memory this process takes at the most while the program runs; 0 where the system cannot tell."""
    (program,) = backends.load(backend, root, [spec], BackendOptions(compiled=False))
    program.bind({tensor.name: np.zeros(tensor.shape, tensor.dtype) for tensor in spec.inputs})
    try:
        Path("/proc/self/clear_refs").write_text("5")  # start the high-water mark anew
    except OSError:
        return 0
    before = _status("VmRSS")
    program.run({})
    return max(0, _status("VmHWM") - before)


Written = tuple[tuple[Path, ...], Counter[str], Counter[str]]


def _openvino(root: Path, spec: ProgramSpec, stem: Path) -> Written:
    from calotype.backends.openvino import Compiler

    compiler = Compiler()
    compiled = compiler.compile(compiler.read(root / spec.files[0].path))
    path = stem.with_suffix(".blob")
    with path.open("wb") as file:
        file.write(compiled.export_model().getbuffer())
    layers, precisions = Counter[str](), Counter[str]()
    for node in compiled.get_runtime_model().get_ops():
        info: Mapping[str, object] = node.get_rt_info()
        layers[str(info["layerType"])] += 1
        precisions[str(info["runtimePrecision"])] += 1
    return (path,), layers, precisions


def _onnxruntime(root: Path, spec: ProgramSpec, stem: Path) -> Written:
    from calotype.backends.onnxruntime import save_optimized

    path = stem.with_suffix(".onnx")
    save_optimized(root, spec, path)
    layers, precisions = summary(path)
    data = path.with_name(f"{path.name}.data")
    return (path, data) if data.exists() else (path,), layers, precisions


def summary(path: Path) -> tuple[Counter[str], Counter[str]]:
    """How many operators of a kind the graph at `path` has, and how many initialisers of a type."""
    graph = onnx.load(path, load_external_data=False).graph
    names = onnx.TensorProto.DataType.Name
    return (
        Counter(node.op_type for node in graph.node),
        Counter(names(tensor.data_type).lower() for tensor in graph.initializer),
    )


_WRITERS: Mapping[str, Callable[[Path, ProgramSpec, Path], Written]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text("utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0
