"""ONNX Runtime: programs on its CPU or CUDA provider, with every tensor bound to a buffer made at load."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from calotype.backends import Array, BackendOptions, Program
from calotype.backends._buffers import Buffer, BufferedProgram, HostBuffer
from calotype.backends._contract import compare, label, reported
from calotype.backends._external_data import check
from calotype.errors import BackendError
from calotype.manifest import ProgramSpec, TensorSpec

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


def load(root: Path, specs: Sequence[ProgramSpec], options: BackendOptions) -> Sequence[Program]:
    """Load `specs` on the provider of `options.device`, with no other to fall back to.

    On CPUs float16 nodes are computed in float32 where there is no float16 kernel; bf16 is refused, since the
    CPU provider has no kernels for it. BundleError, BackendError.
    """
    return [_load(root, spec, options) for spec in specs]


def _load(root: Path, spec: ProgramSpec, options: BackendOptions) -> Program:
    if spec.precision == "bf16" and options.kind == "cpu":
        raise BackendError(
            f"{label(spec)}: ONNX Runtime cannot compute bf16 on CPUs",
            "use the backend openvino, or export with --precision fp32",
        )
    provider = PROVIDERS[options.kind]
    if provider not in ort.get_available_providers():
        raise BackendError(
            f"{label(spec)}: expected {provider} for device {options.device}, "
            f"found {', '.join(ort.get_available_providers())}",
            'pip install "calotype[onnxruntime-gpu]" instead of calotype[onnxruntime]',
        )
    check(root, spec)

    def open_session(weights: Mapping[str, Array]) -> ort.InferenceSession:
        session_options = _session_options(options)
        values = [_value(value) for value in weights.values()]
        session_options.add_external_initializers(list(weights), values)
        return ort.InferenceSession(
            str(root / spec.files[0].path),
            session_options,
            providers=[(provider, _provider_options(options))],
            enable_fallback=0,
        )

    with reported(f"{label(spec)}: ONNX Runtime cannot load {spec.files[0].path}"):
        engine = _Engine(open_session, options, {tensor.name for tensor in spec.inputs})
    session = engine.session
    if session.get_providers()[0] != provider:
        raise BackendError(
            f"{label(spec)}: expected {provider}, ONNX Runtime took {session.get_providers()[0]}",
            "its log above says which CUDA library it missed",
        )
    compare(spec, map(_tensor, session.get_inputs()), map(_tensor, session.get_outputs()))
    return BufferedProgram(spec, engine)


class _Engine:
    """A session of one graph, opened anew when its weights change."""

    def __init__(
        self,
        open_session: Callable[[Mapping[str, Array]], ort.InferenceSession],
        options: BackendOptions,
        inputs: set[str],
    ) -> None:
        self._open_session = open_session
        self._options = options
        self._inputs = inputs
        self.replace_weights({})

    def replace_weights(self, weights: Mapping[str, Array]) -> None:
        self.session = self._open_session(weights)
        self._binding = self.session.io_binding()

    def buffer(self, tensor: TensorSpec) -> Buffer:
        array = np.zeros(tensor.shape, tensor.dtype)
        handle = ort.OrtValue.ortvalue_from_numpy(array, self._options.kind, self._options.index)
        return HostBuffer(array, handle) if self._options.kind == "cpu" else _DeviceBuffer(handle)

    def attach(self, tensor: TensorSpec, buffer: Buffer) -> None:
        if tensor.name in self._inputs:
            self._binding.bind_ortvalue_input(tensor.name, buffer.handle)
        else:
            self._binding.bind_ortvalue_output(tensor.name, buffer.handle)

    def run(self) -> None:
        self._binding.synchronize_inputs()
        self.session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()


class _DeviceBuffer:
    """Memory of a GPU. ONNX Runtime copies whole tensors only, so a row goes through the host."""

    def __init__(self, handle: ort.OrtValue) -> None:
        self.handle: Any = handle

    def read(self) -> Array:
        return self.handle.numpy()

    def write(self, value: Array) -> None:
        self.handle.update_inplace(np.ascontiguousarray(value))

    def write_row(self, row: int, value: Array) -> None:
        whole = self.read()
        whole[row] = value
        self.write(whole)


def _value(weight: Array) -> ort.OrtValue:
    """float16 and float32 as they are; uint16 is what numpy makes of bfloat16."""
    if weight.dtype == np.uint16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(weight, _BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(weight)


def _session_options(options: BackendOptions) -> Any:
    session_options = ort.SessionOptions()
    session_options.log_severity_level = 3  # errors
    if options.threads is not None:
        session_options.intra_op_num_threads = options.threads
    return session_options


def _provider_options(options: BackendOptions) -> dict[str, str]:
    """TF32 would round what the manifest calls fp32; convolutions are searched for once, at the first run."""
    if options.kind == "cpu":
        return {}
    return {"device_id": str(options.index), "use_tf32": "0", "cudnn_conv_algo_search": "EXHAUSTIVE"}


def _tensor(argument: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) else -1 for side in argument.shape)
    return TensorSpec(argument.name, DTYPES.get(str(argument.type), str(argument.type)), shape)
