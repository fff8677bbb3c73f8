"""TensorRT-RTX: plans built on any machine, for the compute capabilities that were named then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorrt_rtx_bindings as library  # pyright: ignore[reportMissingTypeStubs]

from calotype.backends import BackendOptions, Program, _tensorrt
from calotype.compiled import Requirements
from calotype.manifest import ProgramSpec

# A plan fits one version of the library, and GPUs of the capabilities that it was built for.
NEEDS = Requirements(("library", "system"), capabilities="compute_capabilities")


def load(root: Path, specs: Sequence[ProgramSpec], options: BackendOptions) -> Sequence[Program]:
    """Load the plans of `specs`. BackendError, by the name of the field, where they were built for another machine."""
    return _tensorrt.load(library, "tensorrt_rtx", NEEDS, root, specs, options)
