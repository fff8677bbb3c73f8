"""TensorRT: plans built on the machine that runs them, for its GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorrt as library  # pyright: ignore[reportMissingImports]

from calotype.backends import BackendOptions, Program, _tensorrt
from calotype.compiled import Requirements
from calotype.manifest import ProgramSpec

# A plan fits one version of the library and one model of GPU.
NEEDS = Requirements(("library", "system", "gpu", "compute_capability", "multiprocessors"))


def load(root: Path, specs: Sequence[ProgramSpec], options: BackendOptions) -> Sequence[Program]:
    """Load the plans of `specs`. BackendError, by the name of the field, where they were built for another machine."""
    return _tensorrt.load(library, "tensorrt", NEEDS, root, specs, options)
