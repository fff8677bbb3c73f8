"""ONNX Runtime: programs on its CPU or CUDA provider, with every tensor bound to a buffer made at load."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from calotype import memory
from calotype.backends import Array, BackendOptions, Program, _cuda_device, _host, _plans, _recording
from calotype.backends._buffers import Buffer, BufferedProgram, HostBuffer
from calotype.backends._contract import compare, label, reported
from calotype.backends._cuda import Device
from calotype.backends._device_program import DeviceProgram
from calotype.backends._external_data import check
from calotype.backends._onnxruntime_device import NEEDS, OpenSession, OrtLauncher
from calotype.compiled import FUSED
from calotype.errors import BackendError
from calotype.manifest import ProgramSpec, TensorSpec

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_BFLOAT16 = 16  # onnx.TensorProto.BFLOAT16
DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64"}


def load(root: Path, specs: Sequence[ProgramSpec], options: BackendOptions) -> Sequence[Program]:
    """Load `specs` on the provider of `options.device`, with no other to fall back to.

    On CPUs float16 nodes are computed in float32 where there is no float16 kernel, and bf16 is refused, for which there
    are none. BundleError, BackendError.
    """
    for spec in specs:
        _check(root, _readable(spec, options), options)
    version = ort.__version__
    if options.kind == "cpu":
        kept = _plans.Kept("onnxruntime", _host.NEEDS, lambda: _host.machine(version))
    else:
        kept = _plans.Kept(FUSED, NEEDS, lambda: _cuda_device.machine(version, options.index))
    return load_chosen(root, specs, options, _plans.plans(root, specs, kept, options))


def load_chosen(
    root: Path, specs: Sequence[ProgramSpec], options: BackendOptions, plans: Sequence[_plans.Chosen | None]
) -> Sequence[Program]:
    """Load `specs` as `plans` have them. BackendError."""
    if options.kind == "cpu":
        return [
            BufferedProgram(spec, _Engine(_opener(root, spec, options, {}, plan)))
            for spec, plan in zip(specs, plans, strict=True)
        ]
    ort.preload_dlls()  # CUDA and cuDNN of pip's packages; elsewhere the loader finds them by itself
    device = Device(options.index)
    memory.check(memory.of_graphs(specs, options.graphs), device.free_bytes(), options.device)
    with _recording.beside():
        launchers = [
            OrtLauncher(spec, _opener(root, _readable(spec, options), options, settings, plan), device)
            for spec, plan in zip(specs, plans, strict=True)
            for settings in [_cuda_settings(spec, options, int(device.stream))]
        ]
        return [
            DeviceProgram(spec, launcher, device, options.graphs)
            for spec, launcher in zip(specs, launchers, strict=True)
        ]


def _readable(spec: ProgramSpec, options: BackendOptions) -> ProgramSpec:
    """`spec` with the graph that the provider has kernels for as its own."""
    if options.kind == "cpu" or not spec.cuda_files:
        return spec
    return dataclasses.replace(spec, files=spec.cuda_files)


def _check(root: Path, spec: ProgramSpec, options: BackendOptions) -> None:
    if spec.precision == "bf16" and options.kind == "cpu":
        raise BackendError(
            f"{label(spec)}: ONNX Runtime cannot compute bf16 on CPUs",
            "use the backend openvino, or export with another --precision",
        )
    provider = PROVIDERS[options.kind]
    if provider not in ort.get_available_providers():
        raise BackendError(
            f"{label(spec)}: expected {provider} for device {options.device}, "
            f"found {', '.join(ort.get_available_providers())}",
            'pip install "calotype[onnxruntime-gpu]" instead of calotype[onnxruntime]',
        )
    check(root, spec)


def _opener(
    root: Path,
    spec: ProgramSpec,
    options: BackendOptions,
    settings: Mapping[str, str],
    plan: _plans.Chosen | None,
) -> OpenSession:
    """A function that opens a session with weights in place of the exported ones, on the provider and no other.

    `plan` is what ONNX Runtime made of the graph before, for the exported weights: on CPUs all, on GPUs a graph with
    fused operators, which it goes through as through exported ones, and settings of the provider.
    """
    provider = PROVIDERS[options.kind]
    settings = {**settings, **(plan.settings if plan is not None else {})}

    def open_session(weights: Mapping[str, Array]) -> ort.InferenceSession:
        chosen = session_options(options)
        if options.kind == "cuda":
            chosen.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        chosen.add_external_initializers(list(weights), [_value(value) for value in weights.values()])
        folder, files = root, spec.files
        if plan is not None and plan.files and not weights:
            folder, files = plan.folder, plan.files
            check(folder, dataclasses.replace(spec, files=files))
            if options.kind == "cpu":
                chosen.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        with reported(f"{label(spec)}: ONNX Runtime cannot load {files[0].path}"):
            session = ort.InferenceSession(
                str(folder / files[0].path),
                chosen,
                providers=[(provider, settings)],
                enable_fallback=0,
            )
        if session.get_providers()[0] != provider:
            raise BackendError(
                f"{label(spec)}: expected {provider}, ONNX Runtime took {session.get_providers()[0]}",
                "its log above says which CUDA library it missed",
            )
        compare(spec, map(_tensor, session.get_inputs()), map(_tensor, session.get_outputs()))
        return session

    return open_session


class _Engine:
    """A session of one graph on the host, opened anew when its weights change."""

    def __init__(self, open_session: OpenSession) -> None:
        self._open_session = open_session
        self.replace_weights({})

    def replace_weights(self, weights: Mapping[str, Array]) -> None:
        self._session = self._open_session(weights)
        self._binding = self._session.io_binding()
        self._inputs = {argument.name for argument in self._session.get_inputs()}

    def buffer(self, tensor: TensorSpec) -> Buffer:
        array = np.zeros(tensor.shape, tensor.dtype)
        return HostBuffer(array, ort.OrtValue.ortvalue_from_numpy(array))

    def attach(self, tensor: TensorSpec, buffer: Buffer) -> None:
        if tensor.name in self._inputs:
            self._binding.bind_ortvalue_input(tensor.name, buffer.handle)
        else:
            self._binding.bind_ortvalue_output(tensor.name, buffer.handle)

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)


def _value(weight: Array) -> ort.OrtValue:
    """float16 and float32 as they are; uint16 is what numpy makes of bfloat16."""
    if weight.dtype == np.uint16:
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(weight, _BFLOAT16)
    return ort.OrtValue.ortvalue_from_numpy(weight)


def save_optimized(root: Path, spec: ProgramSpec, plan: Path) -> None:
    """Write what ONNX Runtime makes of the program on this CPU to `plan`, with its weights in a file beside it.

    BackendError where it cannot run it.
    """
    _check(root, spec, BackendOptions())
    options = session_options(BackendOptions())
    options.optimized_model_filepath = str(plan)
    prefix = "session.optimized_model_external_initializers"
    options.add_session_config_entry(f"{prefix}_file_name", f"{plan.name}.data")
    options.add_session_config_entry(f"{prefix}_min_size_in_bytes", "1024")
    with reported(f"{label(spec)}: ONNX Runtime cannot load {spec.files[0].path}"):
        ort.InferenceSession(
            str(root / spec.files[0].path), options, providers=[PROVIDERS["cpu"]], enable_fallback=0
        )


def session_options(options: BackendOptions) -> Any:
    """What every session on a CPU or GPU has."""
    found = ort.SessionOptions()
    found.log_severity_level = 3  # errors
    # each session has threads of its own, which would go on looking for work while those of the next program do theirs
    found.add_session_config_entry("session.force_spinning_stop", "1")
    if options.threads is not None:
        found.intra_op_num_threads = options.threads
    return found


def _cuda_settings(spec: ProgramSpec, options: BackendOptions, stream: int) -> dict[str, str]:
    """Convolutions are chosen by cuDNN's larger heuristics, once. TF32 would round what the manifest calls fp32.

    Where TF32 is off, ONNX Runtime 1.31.1 asks cuDNN for convolutions without tensor cores, those in float16 too, and
    only where there is none for others. Programs in half precision have no product in float32 to be rounded.
    """
    return {
        "device_id": str(options.index),
        "user_compute_stream": str(stream),
        "enable_cuda_graph": str(int(options.graphs)),
        "use_tf32": "0" if spec.precision == "fp32" else "1",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
    }


def _tensor(argument: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) else -1 for side in argument.shape)
    return TensorSpec(argument.name, DTYPES.get(str(argument.type), str(argument.type)), shape)
