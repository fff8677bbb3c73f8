"""What a `Program` promises, checked once for every backend: tensors of the right name, type and shape, in order."""

from __future__ import annotations

import difflib
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from calotype.backends import Array, Row, Value
from calotype.errors import BackendError, BundleError, CalotypeError
from calotype.manifest import ProgramSpec, TensorSpec


class Contract:
    """What one program was given so far, and whether the next call may be made. Every check is a BackendError."""

    def __init__(self, spec: ProgramSpec) -> None:
        self.spec = spec
        self.inputs = {tensor.name: tensor for tensor in spec.inputs}
        self.outputs = {tensor.name: tensor for tensor in spec.outputs}
        self.carried: dict[str, str] = {}  # output -> input
        self.given: set[str] = set()
        self.has_run = False
        self._closed = False

    def check_bind(self, inputs: Mapping[str, Value]) -> None:
        """Whether `inputs` are inputs of the program, of its types and shapes."""
        self.check_open()
        for name, value in inputs.items():
            tensor = self._tensor(name, self.inputs, "input")
            if isinstance(value, np.ndarray):
                self._validate(f"input `{name}`", value, tensor, tensor.shape)
                continue
            if len(value) != tensor.shape[0]:
                raise BackendError(
                    f"{label(self.spec)}: input `{name}`: expected {tensor.shape[0]} rows, found {len(value)}"
                )
            for row, part in enumerate(value):
                self._validate(f"row {row} of input `{name}`", part, tensor, tensor.shape[1:])

    def carry(self, output: str, into: str) -> bool:
        """Note that `output` is carried into `into`: whether that is new."""
        self.check_open()
        source = self._tensor(output, self.outputs, "output")
        target = self._tensor(into, self.inputs, "input")
        if (source.dtype, source.shape) != (target.dtype, target.shape):
            raise BackendError(
                f"{label(self.spec)}: output `{output}` cannot be carried into input `{into}`: "
                f"expected {_form(target)}, found {_form(source)}"
            )
        if self.carried.get(output) == into:
            return False
        for present, place in self.carried.items():
            if present == output or place == into:
                raise BackendError(
                    f"{label(self.spec)}: output `{output}` cannot be carried into input `{into}`: "
                    f"`{present}` is carried into `{place}` already"
                )
        self.carried[output] = into
        return True

    def check_put(self, name: str, row: int, value: Array) -> None:
        """Whether row `row` of input `name` may be replaced by `value`."""
        self.check_open()
        tensor = self._tensor(name, self.inputs, "input")
        if name not in self.given:
            raise BackendError(
                f"{label(self.spec)}: row {row} of input `{name}` has no other rows beside it yet",
                "bind the whole input once before replacing rows",
            )
        self._check_row(tensor, row)
        self._validate(f"row {row} of input `{name}`", value, tensor, tensor.shape[1:])

    def place(self, name: str, *index: int) -> str:
        """The tensor where row `index` of `name` is read: a carried output lies in the input it was carried to."""
        self.check_open()
        tensor = self._tensor(name, self.inputs | self.outputs, "tensor")
        if name in self.inputs and name not in self.given:
            raise BackendError(f"{label(self.spec)}: input `{name}` was never given")
        if name in self.outputs and not self.has_run:
            raise BackendError(f"{label(self.spec)}: output `{name}` is empty before the first run")
        self._check_row(tensor, *index)
        return self.carried.get(name, name)

    def check_run(self) -> None:
        """Whether every input was given."""
        missing = [name for name in self.inputs if name not in self.given]
        if missing:
            raise BackendError(
                f"{label(self.spec)}: inputs were never given: {', '.join(missing)}",
                "bind them, or hand them to run",
            )

    def check_open(self) -> None:
        """Whether the program was not closed."""
        if self._closed:
            raise BackendError(f"{label(self.spec)}: the program was closed", "load it again")

    def close(self) -> None:
        """Refuse every call from now on."""
        self._closed = True

    def _tensor(self, name: str, among: Mapping[str, TensorSpec], kind: str) -> TensorSpec:
        if name not in among:
            nearest = difflib.get_close_matches(name, among, 1)
            raise BackendError(
                f"{label(self.spec)} has no {kind} `{name}`; it has {', '.join(among)}",
                f"did you mean `{nearest[0]}`?" if nearest else "",
            )
        return among[name]

    def _validate(self, what: str, value: Row, tensor: TensorSpec, shape: tuple[int, ...]) -> None:
        if (value.dtype.name, value.shape) != (tensor.dtype, shape):
            raise BackendError(
                f"{label(self.spec)}: {what}: expected {tensor.dtype} {shape}, "
                f"found {value.dtype.name} {value.shape}"
            )

    def _check_row(self, tensor: TensorSpec, *index: int) -> None:
        for axis, row in enumerate(index):
            count = tensor.shape[axis] if axis < len(tensor.shape) else 0
            if not 0 <= row < count:
                raise BackendError(
                    f"{label(self.spec)}: `{tensor.name}` has rows 0 to {count - 1}, found row {row}"
                    + (f", in axis {axis}" if axis else "")
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
