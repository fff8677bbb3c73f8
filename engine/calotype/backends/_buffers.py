"""What libraries on the host share: a spec's tensors, kept in buffers that a vendor's engine reads and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from calotype.backends import Array, Value
from calotype.backends._contract import Contract, label, reported
from calotype.manifest import ProgramSpec, TensorSpec


class Buffer(Protocol):
    """Memory of one tensor, made at load. `handle` is the vendor's object for it."""

    handle: Any

    def read(self) -> Array:
        """The whole tensor, which is the memory itself."""
        ...

    def write(self, value: Array) -> None:
        """Replace the whole tensor."""
        ...

    def write_row(self, row: int, value: Array) -> None:
        """Replace one row along the first axis."""
        ...


class HostBuffer:
    """A numpy array that `handle` wraps without a copy."""

    def __init__(self, array: Array, handle: Any) -> None:
        self.array = array
        self.handle = handle

    def read(self) -> Array:
        """See `Buffer.read`."""
        return self.array

    def write(self, value: Array) -> None:
        """See `Buffer.write`."""
        np.copyto(self.array, value)

    def write_row(self, row: int, value: Array) -> None:
        """See `Buffer.write_row`."""
        np.copyto(self.array[row], value)


class Engine(Protocol):
    """A vendor's half of a program."""

    def buffer(self, tensor: TensorSpec) -> Buffer:
        """Zeros for `tensor`, where the engine can reach them."""
        ...

    def attach(self, tensor: TensorSpec, buffer: Buffer) -> None:
        """Read or write `tensor` in `buffer` from now on."""
        ...

    def run(self) -> None:
        """Run once, from the attached inputs to the attached outputs, and wait for it."""
        ...

    def replace_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Program.replace_weights`. What was attached may be forgotten."""
        ...


class BufferedProgram:
    """A `Program` over an `Engine`: one buffer a tensor, and carrying swaps two of them."""

    asynchronous = False
    device_seconds = 0.0

    def __init__(self, spec: ProgramSpec, engine: Engine) -> None:
        self.spec = spec
        self._contract = Contract(spec)
        self._engine: Engine | None = engine
        self._buffers = {tensor.name: engine.buffer(tensor) for tensor in (*spec.inputs, *spec.outputs)}
        self._attach_all(engine)

    def bind(self, inputs: Mapping[str, Value]) -> None:
        """See `Program.bind`."""
        self._contract.check_bind(inputs)
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                self._buffers[name].write(value)
                continue
            for row, part in enumerate(value):
                self._buffers[name].write_row(row, np.asarray(part))
        self._contract.given.update(inputs)

    def carry(self, output: str, into: str) -> None:
        """See `Program.carry`. BackendError where the two differ, or one of them is carried already."""
        self._contract.carry(output, into)

    def put(self, name: str, row: int, value: Array) -> None:
        """See `Program.put`."""
        self._contract.check_put(name, row, value)
        self._buffers[name].write_row(row, value)

    def get(self, name: str, row: int) -> Array:
        """See `Program.get`. A carried output is read where it was carried to."""
        return self.keep(name, row)

    def keep(self, name: str, *index: int) -> Array:
        """See `Program.keep`."""
        return np.array(self._buffers[self._contract.place(name, *index)].read()[index])

    def launch(self, inputs: Mapping[str, Value]) -> None:
        """See `Program.launch`."""
        self.bind(inputs)
        contract, engine = self._contract, self._open()
        contract.check_run()
        with reported(f"{label(self.spec)}: the run failed"):
            engine.run()
        contract.has_run = True
        for output, into in contract.carried.items():
            self._swap(engine, output, into)

    def run(self, inputs: Mapping[str, Value]) -> Mapping[str, Array]:
        """See `Program.run`."""
        self.launch(inputs)
        contract = self._contract
        return {name: self._buffers[name].read() for name in contract.outputs if name not in contract.carried}

    def sweep(self, rows: Sequence[Mapping[str, Array]]) -> None:
        """See `Program.sweep`."""
        for inputs in rows:
            self.launch(inputs)

    def replace_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Program.replace_weights`."""
        engine = self._open()
        with reported(f"{label(self.spec)}: its weights cannot be replaced"):
            engine.replace_weights(weights)
        self._attach_all(engine)

    def wait(self) -> None:
        """See `Program.wait`: a run on the host is done when it returns."""

    def close(self) -> None:
        """See `Program.close`. Closing twice is closing once."""
        self._contract.close()
        self._engine = None
        self._buffers.clear()

    def _open(self) -> Engine:
        self._contract.check_open()
        assert self._engine is not None
        return self._engine

    def _attach_all(self, engine: Engine) -> None:
        for tensor in (*self.spec.inputs, *self.spec.outputs):
            engine.attach(tensor, self._buffers[tensor.name])

    def _swap(self, engine: Engine, output: str, into: str) -> None:
        buffers, contract = self._buffers, self._contract
        buffers[output], buffers[into] = buffers[into], buffers[output]
        engine.attach(contract.outputs[output], buffers[output])
        engine.attach(contract.inputs[into], buffers[into])
