"""From an ONNX graph to a TensorRT plan, with either library: TensorRT, or TensorRT-RTX, which needs no GPU for it.

Both are strongly typed: precision is what the graph says. What a plan takes is read from the builder's log, since a
machine without a GPU can build a plan but not open it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calotype import files
from calotype.backends._contract import compare, label
from calotype.backends._tensorrt import Log, dtype_name, logger
from calotype.errors import BackendError
from calotype.manifest import ProgramSpec, TensorSpec
from calotype_export import builder_log
from calotype_export.progress import Progress

# Weights in the plan, of those in the graph: float32 in place of float16 would be 2.
_LARGEST_GROWTH = 1.5
_SPARE_BYTES = 2**20
_LEVELS = range(6)


@dataclass(frozen=True, slots=True)
class BuilderOptions:
    """How plans are built. Empty or None leaves it to the library; `timing_cache` is read if it exists, and updated."""

    compute_capabilities: tuple[str, ...] = ()  # such as ("8.9", "12.0"); TensorRT-RTX only
    optimization_level: int | None = None  # 0 to 5
    timing_cache: Path | None = None
    refittable: bool = False  # the weights that a LoRA may change; it may cost some fusion
    gpu: int | None = (
        None  # which of this machine's to build on, and for where no capability is named; None: the first
    )
    for_this_gpu: bool = False  # the one at hand, whose capability the library may have no name for

    def __post_init__(self) -> None:
        if self.optimization_level is not None and self.optimization_level not in _LEVELS:
            raise BackendError(f"--optimization-level: expected 0 to 5, found {self.optimization_level}")


@dataclass(frozen=True, slots=True)
class Built:
    """A plan, and what its builder said of it; memory in bytes."""

    data: bytes
    seconds: float
    activation_bytes: int
    weight_bytes: int
    layers: Counter[str]
    precisions: Counter[str]
    attentions: int = 0
    unfused_attentions: tuple[str, ...] = ()  # those that a matrix product is left of


def build_plan(
    library: Any, graph: Path, spec: ProgramSpec, options: BuilderOptions, progress: Progress
) -> Built:
    """Build the plan of the program `spec`, whose ONNX graph lies at `graph`, with `library`'s Python module.

    BackendError where the library cannot parse or build it, or where weights grew: a wrong type costs time silently.
    """
    log = Log()
    log_writer = logger(library, log)
    builder = library.Builder(log_writer)
    network = builder.create_network()
    parser = library.OnnxParser(network, log_writer)
    if not parser.parse_from_file(str(graph)):
        errors = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise BackendError(f"{label(spec)}: {graph.name} cannot be parsed: {errors}")
    compare(spec, _tensors(network, "input"), _tensors(network, "output"))
    attentions = _let_decompose(library, network)
    config = _config(library, builder, options)
    if options.refittable and spec.parameters:
        config.set_flag(library.BuilderFlag.REFIT_INDIVIDUAL)
        _mark_refittable(network, spec)
    config.progress_monitor = _monitor(library, label(spec), progress)
    begun = time.monotonic()
    data = builder.build_serialized_network(network, config)
    if data is None:
        raise BackendError(f"{label(spec)}: no plan could be built: {log.errors()}")
    _keep_timings(config, options)
    activation_bytes, weight_bytes = builder_log.memory(library, log, data)
    layers = list(builder_log.layers(log))
    decomposed = {layer.of for layer in layers if layer.kind == "gemm"} & attentions
    built = Built(
        data=bytes(data),
        seconds=time.monotonic() - begun,
        activation_bytes=activation_bytes,
        weight_bytes=weight_bytes,
        layers=Counter(layer.kind for layer in layers),
        precisions=Counter(dtype for layer in layers for dtype in layer.outputs),
        attentions=len(attentions),
        unfused_attentions=tuple(
            sorted(decomposed if layers else attentions)
        ),  # a log without layers tells none
    )
    check_size(spec, built)
    return built


def _let_decompose(library: Any, network: Any) -> set[str]:
    """Attention for which there is no kernel of its own is made of others; otherwise the build would fail.

    Returns what the attentions are called in the builder's log.
    """
    found: set[str] = set()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == library.LayerType.ATTENTION_INPUT:
            layer.__class__ = library.IAttentionInputLayer  # get_layer gives every kind as its base class
            layer.attention.decomposable = True
        if layer.type == library.LayerType.ATTENTION_OUTPUT:
            found.add(str(layer.metadata))
    return found


def _mark_refittable(network: Any, spec: ProgramSpec) -> None:
    for parameter in spec.parameters:
        if not network.mark_weights_refittable(parameter.initializer):
            raise BackendError(f"{label(spec)}: the library knows no weights `{parameter.initializer}`")


def _config(library: Any, builder: Any, options: BuilderOptions) -> Any:
    """TF32 is off: it would round what the graph calls float32, the solver's state among it."""
    config = builder.create_builder_config()
    config.clear_flag(library.BuilderFlag.TF32)
    if hasattr(library.BuilderFlag, "REQUIRE_USER_ALLOCATION"):  # TensorRT-RTX: so that runs can be recorded
        config.set_flag(library.BuilderFlag.REQUIRE_USER_ALLOCATION)
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    targets = _targets(library, options)
    if targets:
        config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        if not config.set_compute_capability(target, index):
            raise BackendError(f"--compute-capability: the library takes no {target.name} at place {index}")
    if options.timing_cache:
        present = options.timing_cache.read_bytes() if options.timing_cache.is_file() else b""
        if not config.set_timing_cache(config.create_timing_cache(present), ignore_mismatch=False):
            raise BackendError(
                f"--timing-cache: {options.timing_cache} is of another version of the library, or another GPU",
                "name a new file",
            )
    return config


def _keep_timings(config: Any, options: BuilderOptions) -> None:
    if options.timing_cache:
        with files.placed(options.timing_cache, "the timing cache") as file:
            file.write_bytes(bytes(config.get_timing_cache().serialize()))


def capabilities(library: Any) -> tuple[str, ...]:
    """The compute capabilities that plans can be built for without a GPU; empty where the library cannot."""
    known = getattr(library, "ComputeCapability", None)
    names = known.__members__ if known is not None else ()
    return tuple(f"{name[2:-1]}.{name[-1]}" for name in names if name.startswith("SM"))


def _targets(library: Any, options: BuilderOptions) -> list[Any]:
    """What the library calls the GPUs to build for; CURRENT is the one at hand, named or not."""
    if options.for_this_gpu:
        return [library.ComputeCapability.CURRENT]
    return [_capability(library, text) for text in options.compute_capabilities]


def _capability(library: Any, text: str) -> Any:
    known = capabilities(library)
    if text not in known:
        raise BackendError(
            f"--compute-capability: expected some of {', '.join(known) or 'none with this library'}, found {text!r}"
        )
    return library.ComputeCapability.__members__["SM" + text.replace(".", "")]


def check_opens(library: Any, spec: ProgramSpec, data: bytes) -> None:
    """BackendError where a plan built for this GPU cannot be opened on it: the library may know no GPU of its kind."""
    log = Log()
    if library.Runtime(logger(library, log)).deserialize_cuda_engine(data) is None:
        raise BackendError(
            f"{label(spec)}: its plan was built for this machine's GPU and cannot be opened on it: {log.errors()}",
            f"this library names GPUs of capability {', '.join(capabilities(library))}; use tensorrt or onnxruntime",
        )


def check_size(spec: ProgramSpec, built: Built) -> None:
    stored = sum(file.size for file in spec.files)
    if built.weight_bytes > _LARGEST_GROWTH * stored + _SPARE_BYTES:
        raise BackendError(
            f"{label(spec)}: its weights take {stored} bytes in the graph and {built.weight_bytes} in the plan; "
            f"expected at most {_LARGEST_GROWTH} times as many",
            "the plan computes in a wider type than the graph says: report this version of the library",
        )


def _tensors(network: Any, kind: str) -> Iterable[TensorSpec]:
    for index in range(getattr(network, f"num_{kind}s")):
        tensor = getattr(network, f"get_{kind}")(index)
        yield TensorSpec(tensor.name, dtype_name(tensor.dtype), tuple(tensor.shape))


def _monitor(library: Any, stage: str, progress: Progress) -> Any:
    """Reports the steps of the outermost phase."""

    class Monitor(library.IProgressMonitor):
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self.outermost, self.steps = "", 1

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self.outermost, self.steps = name, steps
                progress(f"build {stage}", 0, steps)

        def step_complete(self, name: str, step: int) -> bool:
            if name == self.outermost:
                progress(f"build {stage}", min(step + 1, self.steps - 1), self.steps)
            return True

        def phase_finish(self, name: str) -> None:
            if name == self.outermost:
                progress(f"build {stage}", self.steps, self.steps)

    return Monitor()
