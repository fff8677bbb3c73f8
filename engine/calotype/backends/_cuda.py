"""One GPU through cuda-bindings: its memory, one stream, and graphs of what was launched on it."""

from __future__ import annotations

import ctypes
import importlib
import weakref
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from calotype.backends import Array, _recording
from calotype.errors import BackendError

# What CUDA forbids while another thread records in its global mode.
_FORBIDDEN = frozenset(
    {"cudaMalloc", "cudaMallocHost", "cudaFree", "cudaFreeHost"}
    | {"cudaStreamSynchronize", "cudaEventSynchronize", "cudaEventElapsedTime"}
)

_MOST_PENDING = 128  # pieces of work that a stopwatch was not asked about


def runtime() -> Any:
    """The module `cuda.bindings.runtime`. BackendError where it cannot be imported."""
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except (ImportError, OSError) as error:
        raise BackendError(
            f"cuda-bindings cannot be imported: {error}", 'pip install "cuda-bindings>=13"'
        ) from error


class Memory:
    """Device memory, zeros at first, freed with the object. `address` is aligned for any tensor."""

    def __init__(self, device: Device, size: int) -> None:
        self.size = size
        self.address = int(device.call("cudaMalloc", max(size, 1)))
        weakref.finalize(self, device.release, "cudaFree", self.address)
        device.call("cudaMemsetAsync", self.address, 0, size, device.stream)


class Pinned:
    """Page-locked host memory, as a numpy array of bytes; an event tells when the GPU has read what lies there."""

    def __init__(self, device: Device, size: int) -> None:
        self._device = device
        self.address = int(device.call("cudaMallocHost", max(size, 1)))
        owner = (ctypes.c_ubyte * size).from_address(self.address)  # every view of the array keeps it
        weakref.finalize(owner, device.release, "cudaFreeHost", self.address)
        self.bytes = np.frombuffer(memoryview(owner).cast("B"), np.uint8)
        self._read = device.call("cudaEventCreateWithFlags", device.cuda.cudaEventDisableTiming)
        weakref.finalize(self, device.release, "cudaEventDestroy", self._read)

    def fill(self, value: Array, at: int = 0) -> None:
        """Write the bytes of `value` from byte `at` on, when what lay there was uploaded."""
        self._device.call("cudaEventSynchronize", self._read)
        data = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        self.bytes[at : at + data.size] = data

    def mark_read(self) -> None:
        """Everything launched so far has to be done before the next `fill`."""
        self._device.call("cudaEventRecord", self._read, self._device.stream)


class Stopwatch:
    """Adds up, by the GPU's own clock, the seconds from when work is begun until it is done."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._total = 0.0
        self._pending = deque[tuple[Any, Any]]()  # events before and behind each piece, the oldest first
        self._spare: list[tuple[Any, Any]] = []

    @contextmanager
    def running(self) -> Generator[None]:
        """What is launched inside counts. Waits for what lies far behind, so that there are not ever more events."""
        if len(self._pending) == _MOST_PENDING:
            self._add_oldest()
        begun, ended = self._spare.pop() if self._spare else (self._event(), self._event())
        self._device.call("cudaEventRecord", begun, self._device.stream)
        yield
        self._device.call("cudaEventRecord", ended, self._device.stream)
        self._pending.append((begun, ended))

    def seconds(self) -> float:
        """So far. Waits for what is pending."""
        while self._pending:
            self._add_oldest()
        return self._total

    def _add_oldest(self) -> None:
        begun, ended = pair = self._pending.popleft()
        self._device.call("cudaEventSynchronize", ended)
        self._total += self._device.call("cudaEventElapsedTime", begun, ended) / 1000
        self._spare.append(pair)

    def _event(self) -> Any:
        event = self._device.call("cudaEventCreateWithFlags", self._device.cuda.cudaEventDefault)
        weakref.finalize(self, self._device.release, "cudaEventDestroy", event)
        return event


class Graph:
    """Work that was recorded once, to be launched again at the cost of one call."""

    def __init__(self, device: Device, recorded: Any) -> None:
        self._device = device
        self._graph = device.call("cudaGraphInstantiate", recorded, 0)
        weakref.finalize(self, device.release, "cudaGraphExecDestroy", self._graph)

    def launch(self) -> None:
        """Launch on the device's stream, without waiting."""
        self._device.call("cudaGraphLaunch", self._graph, self._device.stream)


class Device:
    """GPU number `index` with a stream of its own. Work is done in the order in which it was launched.

    The stream is left to the driver, a few kilobytes: where Python collects a cycle of garbage, a library's session
    that was given it may come to its end after this object.
    """

    def __init__(self, index: int) -> None:
        self.cuda = runtime()
        self.index = index
        self.activate()
        self.stream = self.call("cudaStreamCreateWithFlags", self.cuda.cudaStreamNonBlocking)

    def activate(self) -> None:
        """Make this the GPU of the calling thread."""
        self.call("cudaSetDevice", self.index)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call `name` of the CUDA runtime: what it returns beside its status. BackendError where that is a failure."""
        status, *values = _call(self.cuda, name, *arguments)
        if int(status) != 0:
            raise BackendError(
                f"device cuda:{self.index}: {name} failed: {status.name}",
                "free some of its memory" if "MemoryAllocation" in status.name else "",
            )
        return values[0] if values else None

    @property
    def release(self) -> Callable[[str, Any], None]:
        """`release(name, handle)` gives a handle back; it holds no reference to this object."""
        return _Release(self.cuda)

    def free_bytes(self) -> int:
        """Memory that nobody uses at the moment."""
        return int(self.call("cudaMemGetInfo"))  # and of how much

    def upload(self, target: int, source: int, size: int) -> None:
        """Copy `size` bytes from pinned memory to the device."""
        self._copy(target, source, size, "cudaMemcpyHostToDevice")

    def download(self, target: int, source: int, size: int) -> None:
        """Copy `size` bytes from the device to pinned memory; they are there after `synchronize`."""
        self._copy(target, source, size, "cudaMemcpyDeviceToHost")

    def copy(self, target: int, source: int, size: int) -> None:
        """Copy `size` bytes within the device."""
        self._copy(target, source, size, "cudaMemcpyDeviceToDevice")

    def synchronize(self) -> None:
        """Wait until all that was launched is done."""
        self.call("cudaStreamSynchronize", self.stream)

    def record(self, launch: Callable[[], None]) -> Graph:
        """What `launch` would launch, as a graph. Other threads may go on using the GPU meanwhile."""
        mode = self.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        with _recording.alone():
            self.call("cudaStreamBeginCapture", self.stream, mode)
            try:
                launch()
            except BaseException:
                self.cuda.cudaStreamEndCapture(self.stream)
                raise
            recorded = self.call("cudaStreamEndCapture", self.stream)
            try:
                return Graph(self, recorded)
            finally:
                self.call("cudaGraphDestroy", recorded)

    def _copy(self, target: int, source: int, size: int, kind: str) -> None:
        direction = getattr(self.cuda.cudaMemcpyKind, kind)
        self.call("cudaMemcpyAsync", target, source, size, direction, self.stream)


class _Release:
    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda

    def __call__(self, name: str, handle: Any) -> None:
        _call(self._cuda, name, handle)


def _call(cuda: Any, name: str, *arguments: Any) -> Any:
    """What the CUDA runtime answers; nothing that is forbidden meanwhile is called while somebody records."""
    with _recording.beside() if name in _FORBIDDEN else nullcontext():
        return getattr(cuda, name)(*arguments)
