"""The one seam between the runtime and the libraries that execute programs.

A backend is a module of this package with a `load` function and a `REQUIREMENT` constant (what to install).
It is found by its file name, imported when it is asked for, and never replaced by another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from calotype.manifest import ProgramSpec

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """How to load programs. `device` is `cpu`, `cuda` or `cuda:1`; `threads` None leaves it to the library."""

    device: str = "cpu"
    threads: int | None = None


class Program(Protocol):
    """One compiled, loaded, fixed-shape graph with named tensors.

    Inputs are copied into buffers that were made at load and stay there until replaced. Arrays that a
    call returns are the program's own buffers: valid until its next run, copy them to keep them.
    A program is not safe for two threads at once; `Pipeline` queues its calls.
    """

    spec: ProgramSpec

    def bind(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Set inputs, whole; dtype and shape must be the spec's. BackendError otherwise."""
        ...

    def carry(self, output: str, into: str) -> None:
        """From now on each run leaves `output` in input `into` for the next run, without a copy to the host."""
        ...

    def put(self, name: str, row: int, value: np.ndarray) -> None:
        """Replace row `row` (along the first axis) of input `name`."""
        ...

    def get(self, name: str, row: int) -> np.ndarray:
        """A copy of row `row` of input or output `name`; for a carried input, what the last run left there."""
        ...

    def run(self, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Bind `inputs`, run, and return the outputs that are not carried, by name.

        BackendError names the inputs that were never given.
        """
        ...

    def close(self) -> None:
        """Release what the program holds; further calls are an error."""
        ...


class Backend(Protocol):
    """What a module of this package offers."""

    REQUIREMENT: str

    def load(self, root: Path, spec: ProgramSpec, options: BackendOptions) -> Program:
        """Load `spec`, whose files lie below `root`, and compare its tensors with the spec's."""
        ...
