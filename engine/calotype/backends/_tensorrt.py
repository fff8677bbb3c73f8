"""What TensorRT and TensorRT-RTX have in common: compiled plans, deserialised and run on one stream.

The two libraries offer the same classes, and neither has a runtime without a GPU; what is used of them is held against
the signatures of the real ones in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calotype import compiled, memory, tensor_files, trust
from calotype.backends import Array, BackendOptions, Program, _recording
from calotype.backends._contract import compare, label
from calotype.backends._cuda import Device, Memory
from calotype.backends._cuda_device import machine
from calotype.backends._device_program import DeviceProgram
from calotype.compiled import Plan, Requirements
from calotype.errors import BackendError
from calotype.manifest import ProgramSpec, TensorSpec

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16", "INT64": "int64", "INT32": "int32"}
_KINDS = {"float32": "FLOAT", "float16": "HALF", "uint16": "BF16"}  # numpy has no bfloat16


@dataclass(slots=True)
class Log:
    """What the library said, as (severity, message)."""

    lines: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def errors(self) -> str:
        """What went wrong, in the library's words."""
        found = [text for severity, text in self.lines if "ERROR" in severity]
        return "; ".join(found) or "the library does not say why"


def logger(library: Any, log: Log) -> Any:
    """A logger of `library` that writes to `log`."""

    class Logger(library.ILogger):
        def __init__(self) -> None:
            library.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            log.lines.append((str(severity), message))

    return Logger()


def dtype_name(library_dtype: Any) -> str:
    """numpy's name of the library's type."""
    name = str(library_dtype.name)
    return _DTYPES.get(name, name)


def load(
    library: Any,
    backend: str,
    needs: Requirements,
    root: Path,
    specs: Sequence[ProgramSpec],
    options: BackendOptions,
) -> Sequence[Program]:
    """Load the plans of `specs` that were compiled for this machine. They share one block for activations.

    BackendError where none fits, where a plan is not this user's own, or where they do not fit into memory.
    """
    if options.kind != "cuda":
        raise BackendError(
            f"the backend {backend} runs on cuda, found device {options.device}",
            'use device="cuda", or another backend',
        )
    here = machine(str(library.__version__), options.index)
    if not here.gpu:
        raise BackendError(
            f"the backend {backend} needs an NVIDIA GPU, and found none", "use onnxruntime or openvino"
        )
    found = [compiled.find(root, backend, spec, here, needs) for spec in specs]
    device = Device(options.index)
    memory.check(
        memory.of_plans([plan for _, plan in found], options.graphs), device.free_bytes(), options.device
    )
    with _recording.beside():
        session = _Session(library, device)
        engines = [session.open(folder, plan) for folder, plan in found]
        block = Memory(device, max(int(engine.device_memory_size_v2) for engine in engines))
        return [
            DeviceProgram(spec, session.launcher(root, spec, engine, block), device, options.graphs)
            for spec, engine in zip(specs, engines, strict=True)
        ]


class _Session:
    """The library's runtime and its log."""

    def __init__(self, library: Any, device: Device) -> None:
        self._library = library
        self._device = device
        self._log = Log()
        self._logger = logger(library, self._log)
        self._runtime = library.Runtime(self._logger)

    def open(self, folder: Path, plan: Plan) -> Any:
        """The engine of `plan`, whose file lies in `folder`."""
        path = folder / plan.files[0].path
        engine = self._runtime.deserialize_cuda_engine(trust.read(path, plan.files[0].sha256))
        if engine is None:
            raise BackendError(
                f"{path} cannot be opened: {self._log.errors()}", "compile the bundle again, on this machine"
            )
        return engine

    def launcher(self, root: Path, spec: ProgramSpec, engine: Any, block: Memory) -> _Launcher:
        """The engine with a context of its own, whose activations lie in `block`."""
        compare(spec, _tensors(self._library, engine, "INPUT"), _tensors(self._library, engine, "OUTPUT"))
        context = engine.create_execution_context(
            self._library.ExecutionContextAllocationStrategy.USER_MANAGED
        )
        if context is None:
            raise BackendError(f"{label(spec)}: no context could be made: {self._log.errors()}")
        context.set_device_memory(block.address, block.size)
        return _Launcher(_Weights(root, spec, engine, self), context, self, block)

    def errors(self) -> str:
        """What went wrong, in the library's words."""
        return self._log.errors()

    def refit(
        self, engine: Any, weights: Mapping[str, Array], exported: Callable[[str], Array | None]
    ) -> bool:
        """Replace `weights` of `engine`, by name; `exported` gives those that it combines with them."""
        refitter = self._library.Refitter(engine, self._logger)
        kept = dict(weights)  # nothing is copied before the end
        fits = all(self._set(refitter, name, value) for name, value in weights.items())
        for name in refitter.get_missing_weights() if fits else ():
            found = exported(name)
            fits = fits and found is not None and self._set(refitter, name, kept.setdefault(name, found))
        return fits and bool(refitter.refit_cuda_engine())

    def _set(self, refitter: Any, name: str, value: Array) -> bool:
        kind = self._library.DataType.__members__[_KINDS[value.dtype.name]]
        weights = self._library.Weights(kind, value.ctypes.data, value.size)
        return bool(refitter.set_named_weights(name, weights))

    @property
    def stream(self) -> int:
        """The handle of the device's stream."""
        return int(self._device.stream)


class _Weights:
    """Those of one engine: which of them are not the exported ones."""

    def __init__(self, root: Path, spec: ProgramSpec, engine: Any, session: _Session) -> None:
        self.spec = spec
        self._path = root / spec.files[1].path
        self._parameters = {parameter.initializer: parameter for parameter in spec.parameters}
        self._engine = engine
        self._session = session
        self._replaced: tuple[str, ...] = ()

    def replace(self, weights: Mapping[str, Array]) -> bool:
        """Set `weights`, and everything else as it was exported; False where the plan cannot."""
        if not weights and not self._replaced:
            return True
        unknown = [name for name in weights if name not in self._parameters]
        if unknown:
            raise BackendError(f"{label(self.spec)}: the manifest lists no weight {unknown[0]}")
        names = [name for name in self._replaced if name not in weights]
        restored = {name: tensor_files.stored(self._path, self._parameters[name]) for name in names}
        self._replaced = (*self._replaced, *weights)
        if not self._session.refit(self._engine, {**restored, **weights}, self._exported):
            return False
        self._replaced = tuple(weights)
        return True

    def _exported(self, initializer: str) -> Array | None:
        """None for weights that the manifest does not list."""
        parameter = self._parameters.get(initializer)
        return None if parameter is None else tensor_files.stored(self._path, parameter)


class _Launcher:
    """One execution context. It keeps what it depends on: its library's runtime and its activations."""

    capturable = True

    def __init__(self, weights: _Weights, context: Any, session: _Session, block: Memory) -> None:
        self._spec = weights.spec
        self._weights = weights
        self.context = context
        self._session = session
        self._block = block

    def attach(self, tensor: TensorSpec, address: int) -> None:
        if not self.context.set_tensor_address(tensor.name, address):
            raise BackendError(
                f"{label(self._spec)}: `{tensor.name}` cannot be attached: {self._session.errors()}"
            )

    def check_recording(self) -> None:
        asks = getattr(self.context, "is_stream_capturable", None)  # TensorRT-RTX alone can tell
        if asks is not None and not asks(self._session.stream):
            raise BackendError(
                f"{label(self._spec)}: the plan cannot be recorded into a graph", "load with graphs=False"
            )

    def launch(self) -> None:
        if not self.context.execute_async_v3(self._session.stream):
            raise BackendError(f"{label(self._spec)}: the run failed: {self._session.errors()}")

    def replace_weights(self, weights: Mapping[str, Array]) -> None:
        if not self._weights.replace(weights):
            raise BackendError(
                f"{label(self._spec)}: the plan does not take other weights: {self._session.errors()}",
                "compile the bundle with --refittable",
            )


def _tensors(library: Any, engine: Any, mode: str) -> Iterable[TensorSpec]:
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        if engine.get_tensor_mode(name) == library.TensorIOMode.__members__[mode]:
            dtype = dtype_name(engine.get_tensor_dtype(name))
            yield TensorSpec(name, dtype, tuple(engine.get_tensor_shape(name)))
