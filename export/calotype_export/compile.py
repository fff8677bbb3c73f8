"""From a bundle's ONNX programs to `compiled/<identity>/`: a backend's plans, with a manifest of what they fit."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from calotype import backends, compiled, trust
from calotype.backends import _host
from calotype.backends._cuda import Device
from calotype.backends._cuda_device import machine
from calotype.bundle import Bundle
from calotype.compiled import Compiled, Machine, Plan
from calotype.errors import BackendError, BundleError
from calotype.manifest import FileSpec, ProgramSpec
from calotype_export import bundle_files, fused_plans, host_plans, tensorrt_builder
from calotype_export.host_plans import HostPlan
from calotype_export.progress import Progress, silent
from calotype_export.staging import staged
from calotype_export.tensorrt_builder import BuilderOptions, Built

# Backend -> the library's Python module, and what brings it.
LIBRARIES: Final = MappingProxyType(
    {
        "tensorrt": ("tensorrt", "calotype[tensorrt]"),
        "tensorrt_rtx": ("tensorrt_rtx_bindings", "calotype[tensorrt-rtx]"),
    }
)


HOSTS: Final = ("onnxruntime", "openvino")


def compile_bundle(root: Path, backend: str, options: BuilderOptions, progress: Progress = silent) -> Path:
    """Build a plan of every program of the bundle at `root`, and write them with their manifest.

    Returns the folder, which is left as it is where this user compiled the same before. The plans' digests are recorded
    as built by this user. BundleError, BackendError; nothing is left half-written.
    """
    bundle = Bundle.open(root)
    if backend in HOSTS:
        builder = _host_builder(backend, options) if options.gpu is None else _fused_builder(backend, options)
    else:
        builder = _gpu_builder(backend, options)
    specs = bundle.manifest.programs
    target = (
        root / compiled.FOLDER / compiled.identity(builder.backend, builder.machine, builder.recorded, specs)
    )
    if target.is_dir():
        if _is_trusted(target):
            return target
        shutil.rmtree(target)
    with staged(target) as folder:
        plans = tuple(builder.build(root, spec, folder, progress) for spec in specs)
        written = Compiled(builder.backend, builder.machine, builder.recorded, plans)
        (folder / compiled.MANIFEST).write_text(written.to_json(), "utf-8")
        for file in (file for plan in plans for file in plan.files):
            trust.admit(folder / file.path, file.sha256)
    return target


def _is_trusted(folder: Path) -> bool:
    """Whether the plans in `folder` are whole, and this user's own."""
    try:
        for plan in Compiled.read(folder / compiled.MANIFEST).plans:
            for file in plan.files:
                trust.check(folder / file.path, file.sha256)
    except (BackendError, BundleError):
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Builder:
    """How a backend's plans are made, for which machine, and by which options."""

    backend: str  # as the manifest calls it
    machine: Machine
    recorded: Mapping[str, Any]
    build: Callable[[Path, ProgramSpec, Path, Progress], Plan]


def _gpu_builder(backend: str, options: BuilderOptions) -> _Builder:
    library = _library(backend)
    index = options.gpu or 0
    here = machine(library.__version__, index)
    if here.gpu:
        Device(index).activate()  # libraries build on the calling thread's
    if options.timing_cache and tensorrt_builder.capabilities(library):
        raise BackendError(
            f"--timing-cache: {backend} keeps no timings: it chooses kernels where plans are run",
            "leave it out, or use tensorrt",
        )
    options = _with_target(library, backend, options, here)
    recorded = {
        "compute_capabilities": list(options.compute_capabilities),
        "optimization_level": options.optimization_level,
        "tf32": False,
        "refittable": options.refittable,
    }

    def build(root: Path, spec: ProgramSpec, folder: Path, progress: Progress) -> Plan:
        built = tensorrt_builder.build_plan(library, root / spec.files[0].path, spec, options, progress)
        if options.for_this_gpu:
            tensorrt_builder.check_opens(library, spec, built.data)
        path = folder / f"{spec.name}_{spec.batch}.plan"
        path.write_bytes(built.data)
        plan = _plan(spec, (bundle_files.describe(path, folder),), built)
        return dataclasses.replace(
            plan,
            activation_bytes=built.activation_bytes,
            attentions=built.attentions,
            unfused_attentions=built.unfused_attentions,
        )

    return _Builder(backend, here, recorded, build)


def _host_builder(backend: str, options: BuilderOptions) -> _Builder:
    if options != BuilderOptions():
        raise BackendError(
            f"{backend} compiles for this machine's processor, and has no options",
            "options of the builder are for tensorrt and tensorrt_rtx",
        )
    backends.choose(backend, "fp32")
    library: Any = importlib.import_module(backend)

    def build(root: Path, spec: ProgramSpec, folder: Path, progress: Progress) -> Plan:
        progress(f"compile {spec.name} (batch {spec.batch})", 0, 1)
        built = host_plans.build(backend, root, spec, folder)
        files = tuple(bundle_files.describe(path, folder) for path in built.paths)
        activations = host_plans.activation_bytes(backend, root, spec)
        progress(f"compile {spec.name} (batch {spec.batch})", 1, 1)
        return dataclasses.replace(_plan(spec, files, built), activation_bytes=activations)

    return _Builder(backend, _host.machine(library.__version__), {}, build)


def _fused_builder(backend: str, options: BuilderOptions) -> _Builder:
    if backend != "onnxruntime" or options != BuilderOptions(gpu=options.gpu):
        raise BackendError(
            f"{backend} for GPUs: expected onnxruntime, whose only option is the device",
            "options of the builder are for tensorrt and tensorrt_rtx; leave --device out to compile for the processor",
        )
    backends.choose(backend, "fp32")
    library: Any = importlib.import_module(backend)
    index = options.gpu or 0
    here = machine(library.__version__, index)
    if not here.gpu:
        raise BackendError(
            f"onnxruntime on cuda: which operators are faster is measured, and no GPU was found{_driver(here)}",
            "compile where there is one, or run what is exported",
        )

    def build(root: Path, spec: ProgramSpec, folder: Path, progress: Progress) -> Plan:
        built = fused_plans.build(root, spec, folder, f"cuda:{index}", progress)
        files = tuple(bundle_files.describe(path, folder) for path in built.plan.paths)
        plan = _plan(spec, files, built.plan, cuda=True)
        return dataclasses.replace(plan, activation_bytes=spec.activation_bytes, settings=built.settings)

    return _Builder(compiled.FUSED, here, fused_plans.RULES, build)


def _plan(
    spec: ProgramSpec, files: tuple[FileSpec, ...], built: HostPlan | Built, cuda: bool = False
) -> Plan:
    return Plan(
        name=spec.name,
        batch=spec.batch,
        sources=spec.sources(cuda),
        inputs=spec.inputs,
        outputs=spec.outputs,
        files=files,
        build_seconds=round(built.seconds, 3),
        activation_bytes=0,
        weight_bytes=built.weight_bytes,
        attentions=0,
        unfused_attentions=(),
        layers=built.layers,
        precisions=built.precisions,
    )


def _library(backend: str) -> Any:
    if backend not in LIBRARIES:
        known = ", ".join((*LIBRARIES, *HOSTS))
        raise BackendError(f"compile: expected one of {known}, found {backend!r}")
    module, extra = LIBRARIES[backend]
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise BackendError(
            f"backend {backend}: {module} cannot be imported: {error}", f'pip install "{extra}"'
        ) from error


def _driver(here: Machine) -> str:
    """What may be the reason that no GPU was found: a driver that is too old for the runtime sees none."""
    return (
        f" (the driver knows CUDA {here.driver}, the runtime is {here.cuda})"
        if here.driver
        else " (no driver)"
    )


def _with_target(library: Any, backend: str, options: BuilderOptions, here: Machine) -> BuilderOptions:
    """The options with the compute capabilities that plans are built for: those asked for, or this machine's GPU's."""
    known = tensorrt_builder.capabilities(library)
    if options.refittable and not here.gpu:
        raise BackendError(
            "--refittable: the library builds such plans only where a GPU is",
            "compile where there is one, or merge the LoRA when the bundle is built",
        )
    if not known:
        if options.compute_capabilities:
            raise BackendError(
                f"--compute-capability: {backend} builds for the GPU that it runs on",
                "compile on the machine that will draw, or use tensorrt_rtx",
            )
        if not here.gpu:
            raise BackendError(
                f"{backend} needs a GPU to build plans, and found none{_driver(here)}",
                "compile where there is one",
            )
        return options
    asked = options.compute_capabilities or ((here.compute_capability,) if here.gpu else ())
    if not asked:
        raise BackendError(
            f"this machine has no GPU to build plans for{_driver(here)}",
            f"name some with --compute-capability; this library knows {', '.join(known)}",
        )
    own = not options.compute_capabilities and here.compute_capability not in known
    return dataclasses.replace(options, compute_capabilities=asked, for_this_gpu=own)
