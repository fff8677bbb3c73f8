"""Plans for this machine's processor: which of them fit, and what this machine is."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from pathlib import Path

from calotype import compiled, trust
from calotype.backends import BackendOptions
from calotype.compiled import Machine, Plan, Requirements
from calotype.manifest import ProgramSpec

NEEDS = Requirements(("library", "system", "processor"))
# What libraries choose kernels and layouts by.
_EXTENSIONS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "sve",
)


def machine(library_version: str) -> Machine:
    """This machine, without regard to GPUs."""
    system = f"{platform.system()}-{platform.machine()}"
    return Machine(library_version, system, "", "", "", "", 0, 0, processor())


def processor() -> str:
    """The processor's name, and those of its extensions that matter, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    text = path.read_text("utf-8") if path.is_file() else ""
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    present = set(flags[1].split()) if flags else set[str]()
    found = [extension for extension in _EXTENSIONS if extension in present]
    return " ".join([name[1] if name else platform.processor(), *found])


def plans(
    root: Path, backend: str, specs: Sequence[ProgramSpec], library_version: str, options: BackendOptions
) -> list[tuple[Path, Plan] | None]:
    """The folder and plan of each of `specs`; None for all where nothing was compiled for `backend`.

    BackendError where something was, but not for this machine, or not by this user: nothing is compiled silently.
    """
    if not options.compiled or backend not in compiled.backends(root):
        return [None for _ in specs]
    here = machine(library_version)
    found = [compiled.find(root, backend, spec, here, NEEDS) for spec in specs]
    for folder, plan in found:
        for file in plan.files:
            trust.check(folder / file.path, file.sha256)
    return [*found]
