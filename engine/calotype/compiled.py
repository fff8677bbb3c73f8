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
from pathlib import Path, PurePosixPath
from typing import Any

from calotype import records
from calotype.errors import BackendError, BundleError
from calotype.manifest import EMPTY, ITEM_BYTES, FileSpec, ProgramSpec, TensorSpec
from calotype.version import __version__

FOLDER = "compiled"
MANIFEST = "manifest.json"
FORMAT_VERSION = 4
# Plans for ONNX Runtime's CUDA provider: graphs with fused operators. One without files runs as it was exported, which
# was faster.
FUSED = "onnxruntime-cuda"
SETTINGS = ("prefer_nhwc",)  # of that provider, which its plans may switch on
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
    """One program, compiled. `sources` are those of its `ProgramSpec`."""

    name: str
    batch: int
    sources: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: tuple[FileSpec, ...]  # the plan, and what it refers to; relative to the manifest's folder
    build_seconds: float
    activation_bytes: int  # device memory for intermediate results
    weight_bytes: int
    attentions: int  # in the graph
    unfused_attentions: tuple[str, ...]  # of them, those that are made of several kernels
    layers: Mapping[str, Any] = field(default_factory=lambda: EMPTY)  # how many layers of a kind
    precisions: Mapping[str, Any] = field(default_factory=lambda: EMPTY)  # how many layer outputs of a dtype
    settings: Mapping[str, Any] = field(default_factory=lambda: EMPTY, metadata=records.ADDED)  # see SETTINGS


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one `calotype-export compile` wrote."""

    backend: str
    machine: Machine
    options: Mapping[str, Any]  # of the builder
    plans: tuple[Plan, ...]
    # whose rewritings of the graphs, and settings of the builder, are in the plans
    calotype: str = __version__
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The text of the manifest."""
        plans = tuple(
            dataclasses.replace(
                plan, layers=dict(plan.layers), precisions=dict(plan.precisions), settings=dict(plan.settings)
            )
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
        found: Compiled = records.parse(cls, text, str(path), FORMAT_VERSION, _HINT)
        for plan in found.plans:
            _check_plan(plan, path, found.backend)
        return found

    def plan(self, spec: ProgramSpec) -> Plan | None:
        """The plan of the program `spec`, or None."""
        found = [plan for plan in self.plans if (plan.name, plan.batch) == (spec.name, spec.batch)]
        return found[0] if found else None


def _check_plan(plan: Plan, path: Path, backend: str) -> None:
    """BundleError where a plan's files or figures cannot be."""
    where = f"{path}: {plan.name} (batch {plan.batch})"
    if not plan.files and backend != FUSED:
        raise BundleError(f"{where} has no files", _HINT)
    for file in plan.files:
        if (
            file.path != PurePosixPath(file.path).name
            or "\\" in file.path
            or (path.parent / file.path).is_symlink()
        ):
            raise BundleError(f"{where}: {file.path!r} is no plain file beside the manifest", _HINT)
    if not all(type(count) is int for count in (*plan.layers.values(), *plan.precisions.values())):
        raise BundleError(f"{where}: layers and precisions are counts", _HINT)
    known = SETTINGS if backend == FUSED else ()
    if not all(name in known and value == "1" for name, value in plan.settings.items()):
        raise BundleError(f"{where}: expected settings of {known}, found {dict(plan.settings)}", _HINT)
    unknown = {tensor.dtype for tensor in (*plan.inputs, *plan.outputs)} - ITEM_BYTES.keys()
    if unknown:
        raise BundleError(
            f"{where}: expected tensors of {', '.join(ITEM_BYTES)}, found {sorted(unknown)}", _HINT
        )


def identity(backend: str, machine: Machine, options: Mapping[str, Any], specs: Sequence[ProgramSpec]) -> str:
    """16 hexadecimal digits of a digest of everything that the plans depend on."""
    programs = [
        [spec.name, spec.batch, [*spec.sources(backend == FUSED)], dataclasses.asdict(spec)["inputs"]]
        for spec in specs
    ]
    content = [__version__, backend, dataclasses.asdict(machine), dict(options), programs]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Requirements:
    """What a backend's plans need of a machine.

    `exact` names the fields of `Machine` that must be equal. A driver must know the major version of CUDA used.
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
    readable = list[tuple[Path, Compiled]]()
    broken = list[BundleError]()
    for path, one in every(root, backend):
        if isinstance(one, BundleError):
            broken.append(one)
        else:
            readable.append((path, one))
    if broken and not readable:
        raise broken[0]
    if not readable:
        raise BackendError(f"{root.name} was not compiled for {backend}", _command(root, backend))
    judged = [(differences(one, spec, here, needs), path, one) for path, one in readable]
    wrong, path, one = min(judged, key=_preference)
    plan = one.plan(spec)
    if wrong or plan is None:
        raise BackendError(
            f"{root.name}/{FOLDER}/{path.parent.name} does not fit: " + "; ".join(wrong),
            f"{_command(root, backend)}, on this machine",
        )
    return path.parent, plan


def _command(root: Path, backend: str) -> str:
    name, _, device = backend.partition("-")
    return f"calotype-export compile {root} --backend {name}{f' --device {device}' if device else ''}"


def _preference(judged: tuple[list[str], Path, Compiled]) -> tuple[int, bool, float]:
    """The fewest differences, then plans that take a LoRA, then the newest."""
    wrong, path, one = judged
    return len(wrong), not one.options.get("refittable", False), -path.stat().st_mtime


def backends(root: Path) -> tuple[str, ...]:
    """The backends that the bundle at `root` was compiled for, for this machine or another."""
    return tuple(dict.fromkeys(backend for _, backend in _stated(root) if backend))


def every(root: Path, backend: str | None = None) -> Iterator[tuple[Path, Compiled | BundleError]]:
    """What the bundle at `root` was compiled to, for `backend` or (None) for all, with the manifests' paths.

    One that cannot be read, such as an older format's, is the error that says so: it must not hide the others. One that
    is no JSON does not say whose it is, and is told among all alone.
    """
    for path, stated in _stated(root):
        if backend in (None, stated):
            try:
                yield path, Compiled.read(path)
            except BundleError as error:
                yield path, error


def _stated(root: Path) -> Iterator[tuple[Path, str]]:
    """The compiled manifests, and whose each that is JSON says it is; unfinished folders begin with a dot."""
    for path in sorted((root / FOLDER).glob(f"[!.]*/{MANIFEST}")):
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            found = None
        yield path, str(found.get("backend")) if isinstance(found, dict) else ""


def differences(one: Compiled, spec: ProgramSpec, here: Machine, needs: Requirements) -> list[str]:
    """Why the plan of `spec` in `one` cannot be used here, a field each: what was expected and what was found."""
    plan = one.plan(spec)
    if plan is None:
        return [f"it has no plan of {spec.name} (batch {spec.batch})"]
    pairs: list[tuple[str, object, object]] = [("calotype", one.calotype, __version__)]
    pairs += [(name, getattr(one.machine, name), getattr(here, name)) for name in needs.exact]
    pairs.append(("sources", plan.sources, spec.sources(one.backend == FUSED)))
    pairs.append(("inputs", plan.inputs, spec.inputs))
    pairs.append(("outputs", plan.outputs, spec.outputs))
    wrong = [
        f"{name}: built with {built!r}, found {found!r}" for name, built, found in pairs if built != found
    ]
    if _version(here.driver)[:1] < _version(one.machine.cuda)[:1]:  # minor versions of CUDA are compatible
        wrong.append(f"driver: built with CUDA {one.machine.cuda}, this driver knows {here.driver or 'none'}")
    built_for = tuple(one.options.get(needs.capabilities, ())) if needs.capabilities else None
    if built_for is not None and here.compute_capability not in built_for:
        wrong.append(
            f"compute_capability: built for {', '.join(built_for)}, found {here.compute_capability or 'none'}"
        )
    return wrong


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
