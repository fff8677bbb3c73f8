"""Programs made from Python functions: what a backend loads, without a backend."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from calotype.backends import Array, Program
from calotype.backends._buffers import Buffer, BufferedProgram, HostBuffer
from calotype.manifest import ProgramSpec, TensorSpec

Function = Callable[[Mapping[str, Array]], Mapping[str, Array]]


def program(spec: ProgramSpec, function: Function) -> Program:
    """A program whose every run calls `function`: inputs by name in, every output of `spec` by name out.

    What `function` raises comes out as the BackendError that a vendor's failure would be.
    """
    return BufferedProgram(spec, _FunctionEngine(spec, function))


class _FunctionEngine:
    def __init__(self, spec: ProgramSpec, function: Function) -> None:
        self._spec = spec
        self._function = function
        self._attached: dict[str, Buffer] = {}

    def buffer(self, tensor: TensorSpec) -> Buffer:
        return HostBuffer(np.zeros(tensor.shape, tensor.dtype), None)

    def attach(self, tensor: TensorSpec, buffer: Buffer) -> None:
        self._attached[tensor.name] = buffer

    def replace_weights(self, weights: Mapping[str, Array]) -> None:
        raise ValueError(f"a function has no weights; found {list(weights)}")

    def run(self) -> None:
        inputs = {tensor.name: self._attached[tensor.name].read() for tensor in self._spec.inputs}
        outputs = self._function(inputs)
        for tensor in self._spec.outputs:
            self._attached[tensor.name].write(outputs[tensor.name])
