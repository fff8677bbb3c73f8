"""A machine with the stand-in GPU, and bundles that were compiled for it."""

from __future__ import annotations

import hashlib
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from calotype import compiled, trust
from calotype.backends._cuda_device import machine
from calotype.compiled import Compiled, Plan
from calotype.manifest import FileSpec, ProgramSpec
from tests.standin import tensorrt
from tests.standin.cuda import Cuda

MODULES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt_rtx_bindings"}
OPTIONS = {"compute_capabilities": ["8.9"], "optimization_level": None, "tf32": False, "refittable": True}


def install(monkeypatch: pytest.MonkeyPatch, state: Path, memory: int = 2**30) -> Cuda:
    """Put the stand-ins where the libraries would be imported from, with plans recorded below `state`."""
    cuda = Cuda(memory)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)  # pyright: ignore[reportArgumentType]
    for name, module in MODULES.items():
        library = tensorrt.library(name, cuda)
        library.__spec__ = ModuleSpec(module, None)  # what find_spec looks for in a loaded module
        monkeypatch.setitem(sys.modules, module, library)
        monkeypatch.delitem(sys.modules, f"calotype.backends.{name}", raising=False)
    return cuda


def compile_for(backend: str, root: Path, specs: tuple[ProgramSpec, ...], **changes: Any) -> Path:
    """Write plans of `specs` as `calotype-export compile` would; `changes` are made to the machine that they fit."""
    library = sys.modules[MODULES[backend]]
    here = machine(str(library.__version__))
    built_on = compiled.Machine(**{**{name: getattr(here, name) for name in here.__slots__}, **changes})
    folder = root / compiled.FOLDER / compiled.identity(backend, built_on, OPTIONS, specs)
    folder.mkdir(parents=True, exist_ok=True)
    plans = tuple(_plan(root, spec, folder) for spec in specs)
    (folder / compiled.MANIFEST).write_text(Compiled(backend, built_on, OPTIONS, plans).to_json(), "utf-8")
    return folder


def _plan(root: Path, spec: ProgramSpec, folder: Path) -> Plan:
    data = tensorrt.MAGIC + str(root / spec.files[0].path).encode()
    path = folder / f"{spec.name}_{spec.batch}.plan"
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    trust.admit(path, digest)
    return Plan(
        name=spec.name,
        batch=spec.batch,
        sources=tuple(file.sha256 for file in spec.files),
        inputs=spec.inputs,
        outputs=spec.outputs,
        files=(FileSpec(path.name, len(data), digest),),
        build_seconds=0.0,
        activation_bytes=tensorrt.ACTIVATION_BYTES,
        weight_bytes=1000,
        attentions=0,
        unfused_attentions=(),
        layers={"kernel": 1},
        precisions={"Float": 1},
    )
