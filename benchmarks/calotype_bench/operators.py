"""Where a program's time goes, by kind of operator, as the library that runs it tells.

In a process of its own: `python -m calotype_bench.operators BUNDLE PROGRAM BACKEND DEVICE THREADS` prints JSON, seconds
of one run by kind, the median of some.
"""

from __future__ import annotations

import importlib
import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calotype.bundle import Bundle
from calotype.manifest import ProgramSpec
from calotype_bench.conversation import TIMEOUT
from calotype_bench.environments import PeerError, answer

Array = NDArray[Any]
Seconds = dict[str, float]
RUNS = 7

# The first that a library's own name for an operator, or for a fused layer, matches; in lower case
KINDS = (
    ("attention", r"attention|mha|sdpa|flash"),
    ("convolution", r"conv(?!ert)|fprop|winograd"),
    ("matrix product", r"matmul|gemm|nvjet|fullyconnected|innerproduct|einsum"),
    ("normalisation", r"norm|mvn|reduce|variance|avgpool"),
    ("softmax", r"softmax"),
    ("activation", r"gelu|sigmoid|swish|silu|relu|tanh|erf"),
    (
        "layout",
        r"reorder|transpose|memcpy|reshape|concat|split|slice|gather|resize|interpolate|expand|pad|copy|permute|squeeze|upsample|shape",
    ),
    (
        "elementwise",
        r"eltwise|subgraph|add|mul|sub|div|pow|sqrt|cast|convert|where|snippet|pwn|myl|greater|broadcast|power",
    ),
)
NAMES = (*(kind for kind, _ in KINDS), "other")
LIBRARIES = {
    "onnxruntime": "profile_onnxruntime",
    "openvino": "profile_openvino",
    "tensorrt": "profile_tensorrt",
    "tensorrt_rtx": "profile_tensorrt",
}


@dataclass(frozen=True, slots=True)
class Task:
    """A program of the bundle at `root`, to be run `runs` times after one to warm up."""

    root: Path
    spec: ProgramSpec
    backend: str
    device: str
    threads: int | None
    runs: int = RUNS

    @property
    def graph(self) -> Path:
        """The program's ONNX file."""
        return self.root / self.spec.files[0].path

    def inputs(self) -> dict[str, Array]:
        """Small random numbers of the program's shapes and types, tokens all alike."""
        random = np.random.default_rng(0)
        return {
            tensor.name: np.zeros(tensor.shape, tensor.dtype)
            if np.dtype(tensor.dtype).kind == "i"
            else (random.standard_normal(tensor.shape) * 0.1).astype(tensor.dtype)
            for tensor in self.spec.inputs
        }


Profile = Callable[[Task], Sequence[Mapping[str, float]]]  # seconds by operator or layer, of each run


def measure(
    bundle: Path, program: str, backend: str, device: str, threads: int | None, timeout: float = TIMEOUT
) -> Seconds | str:
    """Seconds of one run of the program for one picture, by kind; or why they are not known: that a profiler took
    longer than `timeout` seconds, too.
    """
    try:
        return answer("operators", [str(bundle), program, backend, device, str(threads or 0)], timeout)
    except PeerError as error:
        return str(error)


def kind(name: str) -> str:
    """The kind of an operator, by the library's name for it: by the end of a path, where it is one that tells."""
    places = (name.rsplit("/", 1)[-1].lower(), name.lower())
    return next((found for place in places for found, pattern in KINDS if re.search(pattern, place)), "other")


def by_kind(runs: Sequence[Mapping[str, float]]) -> Seconds:
    """The median over runs of the seconds of each kind, the longest first; `runs` are seconds by operator name."""
    sums: list[Seconds] = []
    for run in runs:
        found: Seconds = {}
        for name, seconds in run.items():
            found[kind(name)] = found.get(kind(name), 0.0) + seconds
        sums.append(found)
    kinds = {name for found in sums for name in found}
    medians = {name: statistics.median(found.get(name, 0.0) for found in sums) for name in kinds}
    return dict(sorted(medians.items(), key=lambda item: -item[1]))


def main() -> None:
    """Profile one program."""
    root, name, backend, device, threads = sys.argv[1:]
    spec = Bundle.open(root).program(name)
    module: Any = importlib.import_module(f"calotype_bench.{LIBRARIES[backend]}")
    profile: Profile = module.profile
    print(json.dumps(by_kind(profile(Task(Path(root), spec, backend, device, int(threads) or None)))))


if __name__ == "__main__":
    main()
