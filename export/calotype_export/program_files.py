"""The programs of a bundle: traced from a checkpoint's components, and written as ONNX graphs with their weights."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from calotype.manifest import Manifest, ParameterSpec, ProgramSpec
from calotype_export import bundle_files, cuda_graph, liveness, signatures, trace
from calotype_export.programs import COMPONENTS
from calotype_export.progress import Progress, silent
from calotype_export.signatures import Sizes
from calotype_export.sources import Sources, wrapped


def export(
    sources: Sources,
    decided: Manifest,
    precisions: Mapping[str, str],
    folder: Path,
    progress: Progress = silent,
) -> tuple[ProgramSpec, ...]:
    """Trace and write every program, of components in `precisions`, one component in memory at a time."""
    names = [name for name, component in COMPONENTS.items() if component in sources.components]
    sizes = sources.sizes
    programs: list[ProgramSpec] = []
    for component in dict.fromkeys(COMPONENTS[name] for name in names):
        progress("load " + component, 0, 1)
        model = sources.load(component, precisions[component])
        progress("load " + component, 1, 1)
        if component == "safety_checker":
            bundle_files.write_safety_checker(sources, model, folder)
        for name in (name for name in names if COMPONENTS[name] == component):
            programs += _export(name, model, _Plan(decided, sizes, precisions[component], folder), progress)
        del model
        gc.collect()
    return tuple(programs)


@dataclass(frozen=True, slots=True)
class _Plan:
    decided: Manifest
    sizes: Sizes
    precision: str
    folder: Path


def _export(name: str, model: torch.nn.Module, plan: _Plan, progress: Progress) -> list[ProgramSpec]:
    """The program `name` for every batch size, sharing one file of weights."""
    batches = plan.decided.batches if name == "unet_step" else (1,)
    program, onnx = wrapped(name, model), plan.folder / "onnx"
    data, drafts = onnx / f"{name}.data", list[ProgramSpec]()
    files: list[dict[str, Path]] = []  # of each batch size, by the field that names them
    with trace.weights(data) as stored:
        for index, batch in enumerate(batches):
            progress(f"export {name}", index, len(batches))
            inputs = signatures.inputs(name, batch, plan.decided, plan.sizes)
            graph = trace.trace(program, signatures.example_tensors(inputs, 0), program.outputs)
            stem = f"{name}_{batch}" if name == "unet_step" else name
            files.append({"files": onnx / f"{stem}.onnx"})
            outputs = trace.outputs(graph)
            parameters = within(trace.write(graph, files[-1]["files"], stored), name)
            if drafts and parameters != drafts[0].parameters:
                raise RuntimeError(f"{name}: weights are called otherwise for batch {batch}")
            alive = liveness.activation_bytes(graph.graph)
            described = (inputs, outputs, (), parameters, alive, len(graph.graph))
            drafts.append(ProgramSpec(name, batch, plan.precision, *described))
            if cuda_graph.adapt(graph):
                files[-1]["cuda_files"] = onnx / f"{stem}.cuda.onnx"
                trace.write_graph(graph, files[-1]["cuda_files"])
    weights = bundle_files.describe(data, plan.folder)
    progress(f"export {name}", len(batches), len(batches))
    described_files = [
        {field: (bundle_files.describe(path, plan.folder), weights) for field, path in paths.items()}
        for paths in files
    ]
    return [
        dataclasses.replace(draft, **fields) for draft, fields in zip(drafts, described_files, strict=True)
    ]


def within(parameters: tuple[ParameterSpec, ...], program: str) -> tuple[ParameterSpec, ...]:
    """Those of a program's parameters that a LoRA may change, under the names that they have in their component."""
    root = {"unet_step": "unet.", "text_encoder": "model."}.get(program)
    if root is None:
        return ()
    stems = [(each, each.name.removesuffix(".weight")) for each in parameters]
    return tuple(
        dataclasses.replace(each, name=stem.removeprefix(root))
        for each, stem in sorted(stems, key=lambda entry: entry[1])
        if stem != each.name and stem.startswith(root)
    )
