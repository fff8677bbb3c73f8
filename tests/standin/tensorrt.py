"""TensorRT and TensorRT-RTX without either: their classes, held to the recorded signatures; ONNX Runtime computes.

A plan of theirs is the path of an ONNX graph.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from tests.standin.conforming import RECORDED, like
from tests.standin.cuda import Cuda
from tests.standin.tensorrt_bases import ILogger, IProfiler, Severity

MAGIC = b"stand-in plan of "
ACTIVATION_BYTES = 4096
CAPTURABLE = True  # what TensorRT-RTX says of every context
_DTYPES = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(int64)": "INT64"}
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64}


def library(name: str, cuda: Cuda) -> Any:
    """The module `name` (tensorrt or tensorrt_rtx) on the GPU of `cuda`."""
    enums = {kind: enum.IntEnum(kind, names, start=0) for kind, names in RECORDED[name]["enums"].items()}
    engine = _engine_class(name, enums, _context_class(name, cuda))
    version = RECORDED[name]["version"]
    return SimpleNamespace(
        __version__=version,
        ILogger=ILogger,
        IProfiler=IProfiler,
        Runtime=_runtime_class(name, engine, cuda),
        Weights=_weights_class(name),
        Refitter=_refitter_class(name),
        **enums,
    )


def _context_class(name: str, cuda: Cuda) -> type:
    class IExecutionContext:
        def __init__(self, engine: Any) -> None:
            self._engine = engine
            self._addresses: dict[str, int] = {}
            self._has_memory = False
            self._profiler: Any = None

        @property
        def profiler(self) -> Any:
            return self._profiler

        @profiler.setter
        def profiler(self, profiler: IProfiler) -> None:
            assert profiler.is_initialised, "a profiler has to initialise its base class"
            self._profiler = profiler

        def set_device_memory(self, memory: int, size: int) -> None:
            cuda.view(memory, size)
            self._has_memory = size >= ACTIVATION_BYTES

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return name in {tensor.name for tensor in _tensors(self._engine._session)}

        def execute_async_v3(self, stream_handle: int) -> bool:
            tensors = {tensor.name: tensor for tensor in _tensors(self._engine._session)}
            if set(self._addresses) != set(tensors) or not self._has_memory or not stream_handle:
                return False
            views = {name: _view(cuda, tensor, self._addresses[name]) for name, tensor in tensors.items()}
            cuda.push(stream_handle, lambda: _compute(self._engine._session, views))
            cuda.launches.append("kernel")
            if self._profiler is not None:  # layers of a whole graph: one an operator
                for layer in _layers(self._engine._path):
                    cuda.push(stream_handle, lambda layer=layer: self._profiler.report_layer_time(layer, 1.0))
            return True

    class RtxExecutionContext(IExecutionContext):
        def is_stream_capturable(self, stream: int) -> bool:
            return CAPTURABLE and bool(stream)

    hold = like(name, "IExecutionContext")
    return hold(RtxExecutionContext if name == "tensorrt_rtx" else IExecutionContext)


def _engine_class(name: str, enums: Mapping[str, Any], context: type) -> type:
    @like(name, "ICudaEngine")
    class ICudaEngine:
        def __init__(self, path: str) -> None:
            self._path = path
            self._weights: dict[str, NDArray[Any]] = {}
            self._combined = _combined(path)
            self._session = _session(path, {})

        @property
        def num_io_tensors(self) -> int:
            return len(_tensors(self._session))

        @property
        def device_memory_size_v2(self) -> int:
            return ACTIVATION_BYTES

        def get_tensor_name(self, index: int) -> str:
            return str(_tensors(self._session)[index].name)

        def get_tensor_mode(self, name: str) -> Any:
            is_input = name in {tensor.name for tensor in self._session.get_inputs()}
            return enums["TensorIOMode"]["INPUT" if is_input else "OUTPUT"]

        def get_tensor_dtype(self, name: str) -> Any:
            return enums["DataType"][_DTYPES[self._tensor(name).type]]

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return tuple(self._tensor(name).shape)

        def create_execution_context(self, strategy: Any) -> Any:
            assert strategy.name == "USER_MANAGED"
            return context(self)

        def _tensor(self, name: str) -> Any:
            return {tensor.name: tensor for tensor in _tensors(self._session)}[name]

    return ICudaEngine


def _runtime_class(name: str, engine: type, cuda: Cuda) -> type:
    @like(name, "Runtime")
    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            assert logger.is_initialised, "a logger has to initialise its base class"
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            cuda.check_allowed()
            try:
                return engine(serialized_engine.removeprefix(MAGIC).decode())
            except Exception as error:
                self._logger.log(Severity.ERROR, f"the plan cannot be read: {error}")
                return None

    return Runtime


def _weights_class(name: str) -> type:
    @like(name, "Weights", constructed=True)
    class Weights:
        def __init__(self, kind: Any, ptr: int, count: int) -> None:
            dtype = np.dtype(_NUMPY[kind.name])
            data = (ctypes.c_ubyte * (count * dtype.itemsize)).from_address(ptr)
            self._values = np.frombuffer(memoryview(data).cast("B"), dtype)  # no copy: as the real one

    return Weights


def _refitter_class(name: str) -> type:
    @like(name, "Refitter", constructed=True)
    class Refitter:
        def __init__(self, engine: Any, logger: ILogger) -> None:
            self._engine = engine
            self._given: dict[str, Any] = {}

        def set_named_weights(self, name: str, weights: Any) -> bool:
            self._given[name] = weights
            return True

        def get_missing_weights(self) -> list[str]:
            return [name for name in self._engine._combined if name not in self._given]

        def refit_cuda_engine(self) -> bool:
            shapes = _initializers(self._engine._path)
            if set(self._engine._combined) - set(self._given):
                return False
            for name, weights in self._given.items():
                if name not in shapes:
                    return False
                self._engine._weights[name] = weights._values.copy().reshape(shapes[name])
            self._engine._session = _session(self._engine._path, self._engine._weights)
            return True

    return Refitter


def _layers(path: str) -> list[str]:
    return [node.name for node in onnx.load(path, load_external_data=False).graph.node]


def _initializers(path: str) -> dict[str, tuple[int, ...]]:
    graph = onnx.load(path, load_external_data=False).graph
    return {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def _combined(path: str) -> list[str]:
    """Weights that this library asks for whatever is replaced: the first product's."""
    shapes = _initializers(path)
    return sorted(name for name, shape in shapes.items() if name.startswith("val_") and len(shape) == 2)[:1]


def _session(path: str, weights: Mapping[str, NDArray[Any]]) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    values = [ort.OrtValue.ortvalue_from_numpy(value) for value in weights.values()]
    options.add_external_initializers(list(weights), values)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _tensors(session: ort.InferenceSession) -> list[Any]:
    return [*session.get_inputs(), *session.get_outputs()]


def _view(cuda: Cuda, tensor: Any, address: int) -> NDArray[Any]:
    dtype = np.dtype(_NUMPY[_DTYPES[tensor.type]])
    size = int(np.prod(tensor.shape)) * dtype.itemsize
    return cuda.view(address, size).view(dtype).reshape(tensor.shape)


def _compute(session: ort.InferenceSession, views: Mapping[str, NDArray[Any]]) -> None:
    outputs = [tensor.name for tensor in session.get_outputs()]
    inputs = {tensor.name: views[tensor.name] for tensor in session.get_inputs()}
    for name, value in zip(outputs, session.run(outputs, inputs), strict=True):
        views[name][...] = value
