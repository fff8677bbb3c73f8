"""What this machine is, for plans that are made for its processor."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from calotype.compiled import Machine, Requirements

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
