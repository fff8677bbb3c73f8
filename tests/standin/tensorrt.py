"""TensorRT and TensorRT-RTX without either: their classes, held to the recorded signatures; ONNX Runtime computes.

A plan of theirs is the path of an ONNX graph.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from tests.standin.conforming import RECORDED, like
from tests.standin.cuda import Cuda

MAGIC = b"stand-in plan of "
ACTIVATION_BYTES = 4096
_DTYPES = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF", "tensor(int64)": "INT64"}
_NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64}


class Severity(enum.Enum):
    """Of a message."""

    ERROR = 1
    INFO = 3


class ILogger:
    """The base class that a logger must initialise."""

    Severity = Severity

    def __init__(self) -> None:
        self.is_initialised = True

    def log(self, severity: Any, message: str) -> None:
        """Take a message."""
        raise NotImplementedError


def library(name: str, cuda: Cuda) -> Any:
    """The module `name` (tensorrt or tensorrt_rtx) on the GPU of `cuda`."""
    enums = {kind: enum.IntEnum(kind, names, start=0) for kind, names in RECORDED[name]["enums"].items()}
    engine = _engine_class(name, enums, _context_class(name, cuda))
    version = RECORDED[name]["version"]
    return SimpleNamespace(
        __version__=version, ILogger=ILogger, Runtime=_runtime_class(name, engine), **enums
    )


def _context_class(name: str, cuda: Cuda) -> type:
    class IExecutionContext:
        def __init__(self, session: ort.InferenceSession) -> None:
            self._session = session
            self._addresses: dict[str, int] = {}
            self._has_memory = False

        def set_device_memory(self, memory: int, size: int) -> None:
            cuda.view(memory, size)
            self._has_memory = size >= ACTIVATION_BYTES

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._addresses[name] = memory
            return name in {tensor.name for tensor in _tensors(self._session)}

        def execute_async_v3(self, stream_handle: int) -> bool:
            tensors = {tensor.name: tensor for tensor in _tensors(self._session)}
            if set(self._addresses) != set(tensors) or not self._has_memory or not stream_handle:
                return False
            views = {name: _view(cuda, tensor, self._addresses[name]) for name, tensor in tensors.items()}
            cuda.push(stream_handle, lambda: _compute(self._session, views))
            cuda.launches.append("kernel")
            return True

    class RtxExecutionContext(IExecutionContext):
        def is_stream_capturable(self, stream: int) -> bool:
            return bool(stream)

    hold = like(name, "IExecutionContext")
    return hold(RtxExecutionContext if name == "tensorrt_rtx" else IExecutionContext)


def _engine_class(name: str, enums: Mapping[str, Any], context: type) -> type:
    @like(name, "ICudaEngine")
    class ICudaEngine:
        def __init__(self, session: ort.InferenceSession) -> None:
            self._session = session

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
            return context(self._session)

        def _tensor(self, name: str) -> Any:
            return {tensor.name: tensor for tensor in _tensors(self._session)}[name]

    return ICudaEngine


def _runtime_class(name: str, engine: type) -> type:
    @like(name, "Runtime")
    class Runtime:
        def __init__(self, logger: ILogger) -> None:
            assert logger.is_initialised, "a logger has to initialise its base class"
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            options = ort.SessionOptions()
            options.intra_op_num_threads = 1
            path = serialized_engine.removeprefix(MAGIC).decode()
            try:
                session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            except Exception as error:
                self._logger.log(Severity.ERROR, f"the plan cannot be read: {error}")
                return None
            return engine(session)

    return Runtime


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
