"""From a bundle's ONNX programs to `compiled/<identity>/`: a backend's plans, with a manifest of what they fit."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from calotype import compiled, trust
from calotype.backends._cuda_device import machine
from calotype.bundle import Bundle
from calotype.compiled import Compiled, Machine, Plan
from calotype.errors import BackendError
from calotype.manifest import ProgramSpec
from calotype_export import bundle_files, tensorrt_builder
from calotype_export.progress import Progress, silent
from calotype_export.staging import staged
from calotype_export.tensorrt_builder import BuilderOptions

# Backend -> the library's Python module, and what brings it.
LIBRARIES: Final = MappingProxyType(
    {
        "tensorrt": ("tensorrt", "calotype[tensorrt]"),
        "tensorrt_rtx": ("tensorrt_rtx_bindings", "calotype[tensorrt-rtx]"),
    }
)


def compile_bundle(root: Path, backend: str, options: BuilderOptions, progress: Progress = silent) -> Path:
    """Build a plan of every program of the bundle at `root`, and write them with their manifest.

    Returns the folder, which is left as it is where the same was compiled before. The plans' digests are recorded
    as built by this user. BundleError, BackendError; nothing is left half-written.
    """
    bundle = Bundle.open(root)
    library = _library(backend)
    here = machine(library.__version__)
    options = _with_target(library, backend, options, here)
    recorded = {
        "compute_capabilities": list(options.compute_capabilities),
        "optimization_level": options.optimization_level,
        "tf32": False,
        "refittable": options.refittable,
    }
    specs = bundle.manifest.programs
    target = root / compiled.FOLDER / compiled.identity(backend, here, recorded, specs)
    if target.is_dir():
        return target
    with staged(target) as folder:
        plans = tuple(_plan(library, root, spec, options, folder, progress) for spec in specs)
        (folder / compiled.MANIFEST).write_text(Compiled(backend, here, recorded, plans).to_json(), "utf-8")
        for plan in plans:
            trust.admit(folder / plan.file.path, plan.file.sha256)
    return target


def _plan(
    library: Any, root: Path, spec: ProgramSpec, options: BuilderOptions, folder: Path, progress: Progress
) -> Plan:
    built = tensorrt_builder.build_plan(library, root / spec.files[0].path, spec, options, progress)
    path = folder / f"{spec.name}_{spec.batch}.plan"
    path.write_bytes(built.data)
    return Plan(
        name=spec.name,
        batch=spec.batch,
        sources=tuple(file.sha256 for file in spec.files),
        inputs=spec.inputs,
        outputs=spec.outputs,
        file=bundle_files.describe(path, folder),
        build_seconds=round(built.seconds, 3),
        activation_bytes=built.activation_bytes,
        weight_bytes=built.weight_bytes,
        attentions=built.attentions,
        fused_attentions=built.fused_attentions,
        layers=built.layers,
        precisions=built.precisions,
    )


def _library(backend: str) -> Any:
    if backend not in LIBRARIES:
        raise BackendError(f"compile: expected one of {', '.join(LIBRARIES)}, found {backend!r}")
    module, extra = LIBRARIES[backend]
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise BackendError(
            f"backend {backend}: {module} cannot be imported: {error}", f'pip install "{extra}"'
        ) from error


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
                f"{backend} needs a GPU to build plans, and found none", "compile where there is one"
            )
        return options
    asked = options.compute_capabilities or ((here.compute_capability,) if here.gpu else ())
    if not asked:
        raise BackendError(
            "this machine has no GPU to build plans for",
            f"name some with --compute-capability; this library knows {', '.join(known)}",
        )
    return dataclasses.replace(options, compute_capabilities=asked)
