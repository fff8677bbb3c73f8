"""CUDA's libraries without a GPU, for ONNX Runtime's own provider: built with the machine's C compiler.

They let the provider open and run programs, and take down what it calls (`cuda_libraries.c`).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
# What the dynamic linker looks for, and what cuDNN's front end opens by itself.
_NAMES = (
    "libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libcuda.so.1", "libcudnn.so.9",
)  # fmt: skip
_OURS = re.compile(r"(__)?(cuda[A-Z]|cu[A-Z]|cublas|curand|cudnn)\w+")
# Functions that give back a handle through their first argument.
_MAKERS = re.compile(
    r"\w+Create(_v2|WithFlags|Generator)?|\w+Create[A-Z]\w+Descriptor|\w+(Desc|Layout|Preference|Pool)Create"
)


def build(provider: Path, folder: Path) -> None:
    """Write the libraries that `provider` (libonnxruntime_providers_cuda.so) needs into `folder`."""
    there = set(re.findall(r"^\S.*?\*?(\w+)\(", SOURCE.read_text("utf-8"), re.MULTILINE))
    others = [_function(name) for name in sorted({*_undefined(provider), *_opened(provider)} - there)]
    source = folder / "libraries.c"
    source.write_text(SOURCE.read_text("utf-8") + "\n" + "\n".join(others) + "\n", "utf-8")
    whole = folder / "libraries.so"
    subprocess.run(["cc", "-O1", "-w", "-shared", "-fPIC", "-o", whole, source], check=True)
    for name in _NAMES:
        (folder / name).symlink_to(whole.name)


def _function(name: str) -> str:
    if _MAKERS.fullmatch(name):
        return f"int {name}(void **out) {{ *out = calloc(1, 4096); return took(__func__); }}"
    return f"int {name}() {{ return took(__func__); }}"


def _undefined(provider: Path) -> Iterator[str]:
    """The functions that the linker has to find."""
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", provider], check=True, capture_output=True, text=True
    )
    for line in listed.stdout.splitlines():
        name = line.split()[-1].partition("@")[0]
        if _OURS.fullmatch(name):
            yield name


def _opened(provider: Path) -> Iterator[str]:
    """cuDNN's functions, which are looked for by name when the first is called."""
    for found in re.findall(rb"\0(cudnn[A-Z]\w+)(?=\0)", provider.read_bytes()):
        yield found.decode()
