"""Whether a bundle computes what eager diffusers computes: a bundle and its sources in, a parity record out."""

from __future__ import annotations

import dataclasses
import gc
import resource
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from calotype import backends
from calotype.backends import BackendOptions
from calotype.bundle import Bundle
from calotype.errors import BackendError, CheckpointError
from calotype.manifest import ProgramSpec
from calotype_export import pipeline_parity, signatures
from calotype_export.gates import Array, Distance, check_picture, distance, gate
from calotype_export.programs import COMPONENTS
from calotype_export.progress import Progress, silent
from calotype_export.sources import Sources, wrapped

SEEDS = (0, 1)  # an even and an odd one: see `signatures.example`
# ONNX Runtime is the reference, and has no bf16 convolutions on CPUs.
BACKENDS: Mapping[str, str] = {"fp32": "onnxruntime", "fp16": "onnxruntime", "bf16": "openvino"}


@dataclass(frozen=True, slots=True)
class _Case:
    """A program and the precision of the eager component that it is compared with."""

    spec: ProgramSpec
    precision: str

    @property
    def subject(self) -> str:
        return f"{self.spec.name} (batch {self.spec.batch})"


def verify(
    path: Path, sources: Sources, backend: str | None = None, progress: Progress = silent
) -> Mapping[str, Any]:
    """Compare every program of the bundle at `path`, then the whole pipeline, with eager diffusers.

    `backend` None is the one that `BACKENDS` names for the programs' precisions. Returns the record that the manifest
    keeps: figures and bounds, seconds, the process's peak memory. ParityError names the first program that misses;
    BackendError comes before anything is loaded where the backend's library is missing.
    """
    bundle = Bundle.open(path)
    _check_fits(bundle, sources)
    chosen = measured_with({spec.precision for spec in bundle.manifest.programs}, backend)
    begun = time.perf_counter()
    programs = compare_programs(bundle, sources, chosen, progress)
    compared = time.perf_counter()
    whole = pipeline_parity.compare(bundle, sources, chosen, progress)
    return {
        "backend": chosen,
        "reference": "eager diffusers on the CPU",
        "programs": programs,
        "pipeline": whole,
        "seconds": {
            "programs": round(compared - begun, 1),
            "pipeline": round(time.perf_counter() - compared, 1),
        },
        "peak_memory_bytes": peak_memory(),
    }


def measured_with(precisions: Collection[str], backend: str | None = None) -> str:
    """The backend that parity in all of `precisions` is measured with: `backend`, or the one that `BACKENDS` names.

    BackendError where it is unknown or its library is missing; nothing is loaded to find out.
    """
    precision = "bf16" if "bf16" in precisions else min(precisions)
    try:
        return backends.choose(backend or BACKENDS[precision], precision)
    except BackendError as error:
        raise BackendError(f"{error.message}; {precision} programs are compared in it", error.hint) from error


def compare_programs(
    bundle: Bundle, sources: Sources, backend: str, progress: Progress
) -> list[Mapping[str, Any]]:
    """A record of each program, one component loaded at a time. ParityError for the first that misses its gate."""
    specs, records = bundle.manifest.programs, list[Mapping[str, Any]]()
    for component in dict.fromkeys(COMPONENTS[spec.name] for spec in specs):
        for case, reference, eager in _references(bundle, sources, component):
            progress("compare programs", len(records), len(specs))
            records.append(_compare(bundle.root, case, backend, reference, eager))
    progress("compare programs", len(specs), len(specs))
    return records


def peak_memory() -> int:
    """The most memory that this process ever held, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _check_fits(bundle: Bundle, sources: Sources) -> None:
    """CheckpointError where the sources are not of the architecture that the bundle was made from."""
    manifest, checkpoint = bundle.manifest, sources.checkpoint
    unet = checkpoint.configs["unet"]
    components = {COMPONENTS[spec.name] for spec in manifest.programs}
    expected = {
        "components": sorted(components),
        "conditioning": manifest.conditioning,
        "timestep_cond": manifest.timestep_cond,
        "width of the embeddings": bundle.program("text_encoder").output("hidden_states").shape[-1],
        "width of the time embedding": manifest.time_embedding.width,
    }
    found = {
        "components": sorted(components & set(sources.components)),
        "conditioning": checkpoint.conditioning,
        "timestep_cond": checkpoint.timestep_cond,
        "width of the embeddings": checkpoint.configs["text_encoder"]["hidden_size"],
        "width of the time embedding": unet["block_out_channels"][0],
    }
    for name, value in expected.items():
        if found[name] != value:
            raise CheckpointError(
                f"{checkpoint.name} is not what {bundle.root.name} was made from: {name}: "
                f"expected {value}, found {found[name]}",
                "name the checkpoint, the segmenter and the additions that it was exported with",
            )


Reference = tuple[_Case, list[Array], Distance | None]


def _references(bundle: Bundle, sources: Sources, component: str) -> list[Reference]:
    """What eager gives for each program of `component`, and how far its low precision lies from that."""
    cases = [
        _Case(spec, spec.precision) for spec in bundle.manifest.programs if COMPONENTS[spec.name] == component
    ]
    exact = _eager(cases, sources, component, "fp32")
    precision = cases[0].precision
    if precision == "fp32":
        return [(case, values, None) for case, values in zip(cases, exact, strict=True)]
    low = _eager(cases, sources, component, precision)
    return [
        (case, values, distance(rounded, values))
        for case, values, rounded in zip(cases, exact, low, strict=True)
    ]


def _eager(cases: Sequence[_Case], sources: Sources, component: str, precision: str) -> list[list[Array]]:
    """The outputs of each case in torch, all seeds in one list."""
    model = sources.eager(component, precision)
    results: list[list[Array]] = []
    with torch.inference_mode():
        for case in cases:
            program = wrapped(case.spec.name, model)
            outputs: list[Array] = []
            for seed in SEEDS:
                given = signatures.example_tensors(case.spec.inputs, seed)
                outputs += [value.numpy() for value in program(given).values()]
            results.append(outputs)
    del model
    gc.collect()
    return results


def _compare(
    root: Path, case: _Case, backend: str, reference: Sequence[Array], eager: Distance | None
) -> Mapping[str, Any]:
    (program,) = backends.load(backend, root, [case.spec], BackendOptions())
    found: list[Array] = []
    begun = time.perf_counter()
    for seed in SEEDS:
        outputs = program.run(signatures.example(case.spec.inputs, seed))
        found += [np.array(outputs[spec.name]) for spec in case.spec.outputs]
    elapsed = time.perf_counter() - begun
    program.close()
    figures, bound = distance(found, reference), gate(case.subject, case.spec.name, eager)
    bound.check(figures, backend)
    if case.spec.name == "vae_decoder":
        for picture in found:
            check_picture(case.subject, picture)
    return {
        "program": case.spec.name,
        "batch": case.spec.batch,
        "precision": case.precision,
        **dataclasses.asdict(figures),
        "bound": bound.bound,
        "reason": bound.reason,
        "seconds": round(elapsed / len(SEEDS), 4),
    }
