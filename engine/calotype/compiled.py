"""What was compiled ahead of time for a machine: `compiled/<identity>/` of a bundle, described and compared here.

A backend's artefacts ("plans") are native code that fits one library and one kind of machine. Their manifest says
which; loading compares it, field by field, with where it runs, and refuses what differs by name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from calotype import records
from calotype.errors import BackendError, BundleError
from calotype.manifest import EMPTY, FileSpec, ProgramSpec, TensorSpec

FOLDER = "compiled"
MANIFEST = "manifest.json"
FORMAT_VERSION = 1
_HINT = "compile the bundle again"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where plans are built or run. Without a GPU the fields of one are empty or 0."""

    library: str  # the vendor's library, its full version
    system: str  # operating system and processor, such as Linux-x86_64
    cuda: str  # the runtime's version, such as 13.0
    driver: str  # the highest CUDA version that the driver knows, such as 13.1
    gpu: str  # the device's name
    compute_capability: str  # such as 8.9
    multiprocessors: int
    memory: int  # of the device, bytes
    processor: str = ""  # the host's, with the extensions that matter; where plans are for it


@dataclass(frozen=True, slots=True)
class Plan:
    """One program, compiled. `sources` are the sha256 of its ONNX graph and data, in the bundle's order."""

    name: str
    batch: int
    sources: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: tuple[
        FileSpec, ...
    ]  # the plan, and what it refers to; relative to the folder of the compiled manifest
    build_seconds: float
    activation_bytes: int  # device memory for intermediate results
    weight_bytes: int
    attentions: int  # in the graph
    fused_attentions: int  # of them, computed by one kernel
    layers: Mapping[str, Any] = field(default_factory=lambda: EMPTY)  # how many layers of a kind
    precisions: Mapping[str, Any] = field(default_factory=lambda: EMPTY)  # how many layer outputs of a dtype


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one `calotype-export compile` wrote."""

    backend: str
    machine: Machine
    options: Mapping[str, Any]  # of the builder
    plans: tuple[Plan, ...]
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The text of the manifest."""
        plans = tuple(
            dataclasses.replace(plan, layers=dict(plan.layers), precisions=dict(plan.precisions))
            for plan in self.plans
        )
        plain = dataclasses.replace(self, options=dict(self.options), plans=plans)
        return json.dumps(dataclasses.asdict(plain), indent=1) + "\n"

    @classmethod
    def read(cls, path: Path) -> Compiled:
        """Read the manifest at `path`; BundleError where it is not one of this format."""
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(f"{path} cannot be read: {error}", _HINT) from error
        return records.parse(cls, text, str(path), FORMAT_VERSION, _HINT)

    def plan(self, spec: ProgramSpec) -> Plan | None:
        """The plan of the program `spec`, or None."""
        found = [plan for plan in self.plans if (plan.name, plan.batch) == (spec.name, spec.batch)]
        return found[0] if found else None


def identity(backend: str, machine: Machine, options: Mapping[str, Any], specs: Sequence[ProgramSpec]) -> str:
    """16 hexadecimal digits of a digest of everything that the plans depend on."""
    programs = [
        [spec.name, spec.batch, [file.sha256 for file in spec.files], dataclasses.asdict(spec)["inputs"]]
        for spec in specs
    ]
    content = [backend, dataclasses.asdict(machine), dict(options), programs]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a backend's plans need of a machine.

    `exact` names the fields of `Machine` that must be equal. A CUDA driver may be newer than the one at the build.
    `capabilities` are the compute capabilities that plans were built for, where they are not one machine's alone.
    """

    exact: tuple[str, ...]
    capabilities: str = ""  # the key of `Compiled.options` that lists them


def find(
    root: Path, backend: str, spec: ProgramSpec, here: Machine, needs: Requirements
) -> tuple[Path, Plan]:
    """The folder and the plan of `spec` that were compiled for this machine.

    BackendError where nothing was compiled for `backend`, or where all of it differs from what is here: the
    differences of the nearest are named.
    """
    candidates = [(path, one) for path, one in every(root) if one.backend == backend]
    if not candidates:
        raise BackendError(
            f"{root.name} was not compiled for {backend}",
            f"calotype-export compile {root} --backend {backend}",
        )
    judged = [(differences(one, spec, here, needs), path, one) for path, one in candidates]
    wrong, path, one = min(judged, key=lambda entry: len(entry[0]))
    plan = one.plan(spec)
    if wrong or plan is None:
        raise BackendError(
            f"{root.name}/{FOLDER}/{path.parent.name} does not fit: " + "; ".join(wrong),
            f"calotype-export compile {root} --backend {backend}, on this machine",
        )
    return path.parent, plan


def backends(root: Path) -> tuple[str, ...]:
    """The backends that the bundle at `root` was compiled for, for this machine or another. BundleError."""
    return tuple(dict.fromkeys(one.backend for _, one in every(root)))


def every(root: Path) -> Iterator[tuple[Path, Compiled]]:
    """All that the bundle at `root` was compiled to, with the paths of the manifests. BundleError."""
    for path in sorted((root / FOLDER).glob(f"*/{MANIFEST}")):
        yield path, Compiled.read(path)


def differences(one: Compiled, spec: ProgramSpec, here: Machine, needs: Requirements) -> list[str]:
    """Why the plan of `spec` in `one` cannot be used here, a field each: what was expected and what was found."""
    plan = one.plan(spec)
    if plan is None:
        return [f"it has no plan of {spec.name} (batch {spec.batch})"]
    pairs = [(name, getattr(one.machine, name), getattr(here, name)) for name in needs.exact]
    pairs.append(("sources", plan.sources, tuple(file.sha256 for file in spec.files)))
    pairs.append(("inputs", plan.inputs, spec.inputs))
    pairs.append(("outputs", plan.outputs, spec.outputs))
    wrong = [
        f"{name}: built with {built!r}, found {found!r}" for name, built, found in pairs if built != found
    ]
    if _version(here.driver) < _version(one.machine.cuda):
        wrong.append(f"driver: built with CUDA {one.machine.cuda}, this driver knows {here.driver or 'none'}")
    built_for = one.options.get(needs.capabilities, ()) if needs.capabilities else None
    if built_for is not None and here.compute_capability not in built_for:
        wrong.append(
            f"compute_capability: built for {', '.join(built_for)}, found {here.compute_capability or 'none'}"
        )
    return wrong


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
