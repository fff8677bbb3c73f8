"""Programs on one GPU: tensors that stay there at fixed addresses, launches that nobody waits for, recorded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from calotype.backends import Array, Row, Value, _recording, _sweeps
from calotype.backends._contract import Contract, label, reported
from calotype.backends._cuda import Device, Graph, Memory, Pinned, Stopwatch
from calotype.backends._device_rows import DeviceRow, DeviceRows
from calotype.manifest import ProgramSpec, TensorSpec
from calotype.memory import LONGEST_SCHEDULE, tensor_bytes


class Launcher(Protocol):
    """A vendor's half of a program on a GPU."""

    capturable: bool  # whether a launch may be recorded into a graph

    def check_recording(self) -> None:
        """BackendError where the library cannot be recorded after all; asked when everything is attached."""
        ...

    def attach(self, tensor: TensorSpec, address: int) -> None:
        """Read or write `tensor` at `address`, always."""
        ...

    def launch(self) -> None:
        """Launch one run on the device's stream, without waiting for it."""
        ...

    def replace_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Program.replace_weights`. Nothing is running meanwhile, and what was recorded is dropped."""
        ...


class DeviceProgram:
    """A `Program` over a `Launcher`: a carried output is copied into its input on the device.

    The first run is launched as it is, so that the library has set up what cannot be recorded; from then on a recorded
    graph is launched, unless `graphs` is False. Other weights begin anew.
    """

    asynchronous = True

    def __init__(self, spec: ProgramSpec, launcher: Launcher, device: Device, graphs: bool = True) -> None:
        self.spec = spec
        self._contract = Contract(spec)
        self.launcher: Launcher | None = launcher  # None once closed
        self._device = device
        self._graphs = graphs and launcher.capturable
        tensors = (*spec.inputs, *spec.outputs)
        self._sizes = {tensor.name: tensor_bytes((tensor,)) for tensor in tensors}
        self._memory = {name: Memory(device, size) for name, size in self._sizes.items()}
        self._pinned: dict[str, Pinned] = {}  # of the tensors that really cross
        self._rows = DeviceRows(device)
        self._warm = False
        self._step: Graph | None = None
        self._sweeps = _sweeps.Sweeps(device, self._memory, self._sizes, self._once, self._record)
        self._stopwatch = Stopwatch(device)
        for tensor in tensors:
            launcher.attach(tensor, self._memory[tensor.name].address)

    def bind(self, inputs: Mapping[str, Value]) -> None:
        """See `Program.bind`."""
        self._contract.check_bind(inputs)
        self._device.activate()
        for name, value in inputs.items():
            if isinstance(value, np.ndarray):
                self._write(name, {0: value})
            else:
                size = self._sizes[name] // len(value)
                self._write(name, {row * size: part for row, part in enumerate(value)})
        self._contract.given.update(inputs)

    def carry(self, output: str, into: str) -> None:
        """See `Program.carry`. BackendError where the two differ, or one of them is carried already."""
        if self._contract.carry(output, into):
            self._forget()

    def put(self, name: str, row: int, value: Array) -> None:
        """See `Program.put`."""
        self._contract.check_put(name, row, value)
        self._device.activate()
        self._write(name, {row * value.nbytes: value})

    def get(self, name: str, row: int) -> Array:
        """See `Program.get`. A carried output is read where it was carried to."""
        return np.asarray(self.keep(name, row))

    def keep(self, name: str, *index: int) -> Row:
        """See `Program.keep`."""
        place = self._contract.place(name, *index)
        self._device.activate()
        tensor = (self._contract.inputs | self._contract.outputs)[place]
        at, size = 0, self._sizes[place]
        for position, count in zip(index, tensor.shape, strict=False):
            size //= count
            at += position * size
        return self._rows.copied(self._memory[place].address + at, tensor.shape[len(index) :], tensor.dtype)

    def launch(self, inputs: Mapping[str, Value]) -> None:
        """See `Program.launch`."""
        self.bind(inputs)
        self._contract.check_run()
        with reported(f"{label(self.spec)}: the run failed"), self._stopwatch.running():
            self._launch()
        self._contract.has_run = True

    def run(self, inputs: Mapping[str, Value]) -> Mapping[str, Array]:
        """See `Program.run`. Without outputs to return, it returns before the run is done."""
        self.launch(inputs)
        return self._read([name for name in self._contract.outputs if name not in self._contract.carried])

    def sweep(self, rows: Sequence[Mapping[str, Array]]) -> None:
        """See `Program.sweep`: one launch, once the same kind of schedule was recorded."""
        contract = self._contract
        if not self._graphs or not self._warm or not 1 < len(rows) <= LONGEST_SCHEDULE:
            for inputs in rows:
                self.launch(inputs)
            return
        for inputs in rows:
            contract.check_bind(inputs)
            contract.given.update(inputs)
        contract.check_run()
        self._device.activate()
        with reported(f"{label(self.spec)}: the run failed"), self._stopwatch.running():
            self._sweeps.launch(rows)

    def replace_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Program.replace_weights`."""
        self._contract.check_open()
        self._device.activate()
        self._forget()
        self._warm = False
        with reported(f"{label(self.spec)}: its weights cannot be replaced"), _recording.beside():
            self._open().replace_weights(weights)

    def wait(self) -> None:
        """See `Program.wait`."""
        self._device.synchronize()
        self._stopwatch.seconds()

    @property
    def device_seconds(self) -> float:
        """See `Program.device_seconds`."""
        return self._stopwatch.seconds()

    def close(self) -> None:
        """See `Program.close`. Closing twice is closing once."""
        self._forget()
        self._contract.close()
        with _recording.beside():
            self.launcher = None
        self._memory.clear()
        self._pinned.clear()
        self._rows.clear()

    def _forget(self) -> None:
        """Wait, and drop what was recorded."""
        self._device.activate()
        self._device.synchronize()
        self._step = None
        self._sweeps.forget()

    def _launch(self) -> None:
        """One run, as it is or recorded."""
        if self._step is not None:
            self._step.launch()
        elif self._graphs and self._warm:
            self._step = self._record(self._once)
            self._step.launch()
        else:
            self._once()
            self._warm = True

    def _record(self, launch: Callable[[], None]) -> Graph:
        self._open().check_recording()
        return self._device.record(launch)

    def _open(self) -> Launcher:
        self._contract.check_open()
        assert self.launcher is not None
        return self.launcher

    def _once(self) -> None:
        self._open().launch()
        for output, into in self._contract.carried.items():
            self._device.copy(self._memory[into].address, self._memory[output].address, self._sizes[output])

    def _staging(self, name: str) -> Pinned:
        if name not in self._pinned:
            self._pinned[name] = Pinned(self._device, self._sizes[name])
        return self._pinned[name]

    def _write(self, name: str, parts: Mapping[int, Row]) -> None:
        """Write parts of a tensor, by where in it, in bytes. Those that lie on this device do not cross."""
        start = self._memory[name].address
        crossing: dict[int, Array] = {}
        for at, part in parts.items():
            if isinstance(part, DeviceRow) and part.device is self._device:
                self._device.copy(start + at, part.memory.address, part.memory.size)
            else:
                crossing[at] = np.asarray(part)
        if not crossing:
            return
        staging = self._staging(name)
        for at, value in crossing.items():
            staging.fill(value, at)
        for at, value in crossing.items():
            self._device.upload(start + at, staging.address + at, value.nbytes)
        staging.mark_read()

    def _read(self, names: Sequence[str]) -> dict[str, Array]:
        """Whole tensors, in pinned memory that the next read overwrites."""
        for name in names:
            self._device.download(self._staging(name).address, self._memory[name].address, self._sizes[name])
        if names:
            self.wait()
        tensors = self._contract.inputs | self._contract.outputs
        return {
            name: self._pinned[name].bytes.view(tensors[name].dtype).reshape(tensors[name].shape)
            for name in names
        }
