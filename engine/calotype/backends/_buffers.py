"""What every backend shares: a spec's tensors, kept in buffers that a vendor's engine reads and writes."""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from calotype.backends import Array
from calotype.errors import BackendError, BundleError, CalotypeError
from calotype.manifest import ProgramSpec, TensorSpec


class Buffer(Protocol):
    """Memory of one tensor, made at load. `handle` is the vendor's object for it."""

    handle: Any

    def read(self) -> Array:
        """The whole tensor: the memory itself on the host, a copy from a device."""
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


class BufferedProgram:
    """A `Program` over an `Engine`: one buffer a tensor, and carrying swaps two of them."""

    def __init__(self, spec: ProgramSpec, engine: Engine) -> None:
        self.spec = spec
        self._engine: Engine | None = engine
        self._inputs = {tensor.name: tensor for tensor in spec.inputs}
        self._outputs = {tensor.name: tensor for tensor in spec.outputs}
        self._buffers = {tensor.name: engine.buffer(tensor) for tensor in (*spec.inputs, *spec.outputs)}
        for tensor in (*spec.inputs, *spec.outputs):
            engine.attach(tensor, self._buffers[tensor.name])
        self._carried: dict[str, str] = {}  # output -> input
        self._given: set[str] = set()
        self._has_run = False

    def bind(self, inputs: Mapping[str, Array]) -> None:
        """See `Program.bind`."""
        self._open()
        for name, value in inputs.items():
            tensor = self._tensor(name, self._inputs, "input")
            self._validate(f"input `{name}`", value, tensor, tensor.shape)
        for name, value in inputs.items():
            self._buffers[name].write(value)
        self._given.update(inputs)

    def carry(self, output: str, into: str) -> None:
        """See `Program.carry`. BackendError where the two differ, or one of them is carried already."""
        self._open()
        source = self._tensor(output, self._outputs, "output")
        target = self._tensor(into, self._inputs, "input")
        if (source.dtype, source.shape) != (target.dtype, target.shape):
            raise BackendError(
                f"{label(self.spec)}: output `{output}` cannot be carried into input `{into}`: "
                f"expected {_form(target)}, found {_form(source)}"
            )
        if self._carried.get(output) == into:
            return
        for present, place in self._carried.items():
            if present == output or place == into:
                raise BackendError(
                    f"{label(self.spec)}: output `{output}` cannot be carried into input `{into}`: "
                    f"`{present}` is carried into `{place}` already"
                )
        self._carried[output] = into

    def put(self, name: str, row: int, value: Array) -> None:
        """See `Program.put`."""
        self._open()
        tensor = self._tensor(name, self._inputs, "input")
        if name not in self._given:
            raise BackendError(
                f"{label(self.spec)}: row {row} of input `{name}` has no other rows beside it yet",
                "bind the whole input once before replacing rows",
            )
        self._check_row(tensor, row)
        self._validate(f"row {row} of input `{name}`", value, tensor, tensor.shape[1:])
        self._buffers[name].write_row(row, value)

    def get(self, name: str, row: int) -> Array:
        """See `Program.get`. A carried output is read where it was carried to."""
        self._open()
        tensor = self._tensor(name, self._inputs | self._outputs, "tensor")
        if name in self._inputs and name not in self._given:
            raise BackendError(f"{label(self.spec)}: input `{name}` was never given")
        if name in self._outputs and not self._has_run:
            raise BackendError(f"{label(self.spec)}: output `{name}` is empty before the first run")
        self._check_row(tensor, row)
        return np.array(self._buffers[self._carried.get(name, name)].read()[row])

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """See `Program.run`."""
        self.bind(inputs)
        missing = [name for name in self._inputs if name not in self._given]
        if missing:
            raise BackendError(
                f"{label(self.spec)}: inputs were never given: {', '.join(missing)}",
                "bind them, or hand them to run",
            )
        with reported(f"{label(self.spec)}: the run failed"):
            self._open().run()
        self._has_run = True
        for output, into in self._carried.items():
            self._swap(output, into)
        return {name: self._buffers[name].read() for name in self._outputs if name not in self._carried}

    def close(self) -> None:
        """See `Program.close`. Closing twice is closing once."""
        self._engine = None
        self._buffers.clear()

    def _swap(self, output: str, into: str) -> None:
        engine, buffers = self._open(), self._buffers
        buffers[output], buffers[into] = buffers[into], buffers[output]
        engine.attach(self._outputs[output], buffers[output])
        engine.attach(self._inputs[into], buffers[into])

    def _open(self) -> Engine:
        if self._engine is None:
            raise BackendError(f"{label(self.spec)}: the program was closed", "load it again")
        return self._engine

    def _tensor(self, name: str, among: Mapping[str, TensorSpec], kind: str) -> TensorSpec:
        if name not in among:
            nearest = difflib.get_close_matches(name, among, 1)
            raise BackendError(
                f"{label(self.spec)} has no {kind} `{name}`; it has {', '.join(among)}",
                f"did you mean `{nearest[0]}`?" if nearest else "",
            )
        return among[name]

    def _validate(self, what: str, value: Array, tensor: TensorSpec, shape: tuple[int, ...]) -> None:
        array = np.asarray(value)
        if (array.dtype.name, array.shape) != (tensor.dtype, shape):
            raise BackendError(
                f"{label(self.spec)}: {what}: expected {tensor.dtype} {shape}, "
                f"found {array.dtype.name} {array.shape}"
            )

    def _check_row(self, tensor: TensorSpec, row: int) -> None:
        if not 0 <= row < tensor.shape[0]:
            raise BackendError(
                f"{label(self.spec)}: `{tensor.name}` has rows 0 to {tensor.shape[0] - 1}, found row {row}"
            )


def label(spec: ProgramSpec) -> str:
    """How messages call a program."""
    return f"{spec.name} (batch {spec.batch})"


@contextmanager
def reported(doing: str) -> Generator[None]:
    """Turn whatever a vendor's library raises into a BackendError that begins with `doing`."""
    try:
        yield
    except CalotypeError:
        raise
    except Exception as error:
        raise BackendError(f"{doing}: {type(error).__name__}: {error}") from error


def compare(spec: ProgramSpec, inputs: Iterable[TensorSpec], outputs: Iterable[TensorSpec]) -> None:
    """Compare the tensors that the vendor's library found with the spec's. A side that is not fixed is -1.

    BundleError names the first tensor that is missing, not in the spec, or of another dtype or shape.
    """
    _compare(f"{label(spec)}: input", spec.inputs, tuple(inputs))
    _compare(f"{label(spec)}: output", spec.outputs, tuple(outputs))


def _compare(what: str, expected: Sequence[TensorSpec], found: Sequence[TensorSpec]) -> None:
    present = {tensor.name: tensor for tensor in found}
    wanted = {tensor.name: tensor for tensor in expected}
    for name in (*wanted, *present):
        sides = [_form(side[name]) if name in side else "none" for side in (wanted, present)]
        if sides[0] != sides[1]:
            raise BundleError(
                f"{what} `{name}`: the manifest says {sides[0]}, the graph has {sides[1]}",
                "manifest and graphs belong to different exports: export the bundle again",
            )


def _form(tensor: TensorSpec) -> str:
    return f"{tensor.dtype} {tensor.shape}"
