"""`cuda.bindings.runtime` without a GPU. The stream is as lazy as it can be: nothing happens before somebody waits.

So a read before its wait finds garbage, and memory that is written again too early spoils what was launched.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.standin.conforming import RECORDED
from tests.standin.cuda_enums import Capture, Copy, Status

Work = Callable[[], object]
_ALIGNMENT = 256
_GARBAGE = 0xCD


class Cuda:
    """The functions that the runtime calls; every other name, and every wrong number of arguments, is an error."""

    cudaMemcpyKind = Copy
    cudaStreamCaptureMode = Capture

    def __init__(self, memory: int = 2**30) -> None:
        self.memory = memory
        self.gpus = 1
        self.recording_globally: int | None = None  # the thread that does
        self.device = 0  # of the last thread that chose one
        self.launches: list[str] = []  # graph launches and lone kernels, in order
        self._regions: dict[int, tuple[str, NDArray[np.uint8]]] = {}
        self._queues: dict[int, list[Work]] = {}
        self._captures: dict[int, tuple[int, list[Work]]] = {}  # stream -> thread, work
        self._events: dict[int, tuple[int, Work] | None] = {}
        self.clock = 0.0  # milliseconds: each piece of work takes one
        self._reached: dict[int, float] = {}  # event -> when
        self._graphs: dict[int, list[Work]] = {}
        self._handles = itertools.count(1)
        self._lock = threading.RLock()

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not name.startswith("cuda") or not callable(value) or isinstance(value, type):
            return value
        parameters = RECORDED["cuda"]["functions"][name]  # KeyError: the real module has no such function
        count = len(parameters.split(", ")) if parameters else 0

        def call(*arguments: Any) -> Any:
            if len(arguments) != count:
                raise TypeError(f"{name} takes ({parameters}), it was given {arguments}")
            return value(*arguments)

        return call

    def __getattr__(self, name: str) -> Any:
        if name in RECORDED["cuda"]["numbers"]:
            return RECORDED["cuda"]["numbers"][name]
        raise AttributeError(f"cuda.bindings.runtime has {name}: {name in RECORDED['cuda']['functions']}")

    # Devices

    def cudaRuntimeGetVersion(self) -> Any:
        return Status.cudaSuccess, 13000

    def cudaDriverGetVersion(self) -> Any:
        return Status.cudaSuccess, 13010

    def cudaGetDeviceCount(self) -> Any:
        return Status.cudaSuccess, self.gpus

    def cudaSetDevice(self, device: int) -> Any:
        if device >= self.gpus:
            return (Status.cudaErrorInvalidValue,)
        self.device = device
        return (Status.cudaSuccess,)

    def cudaGetDeviceProperties(self, device: int) -> Any:
        found = SimpleNamespace(
            name=b"Stand-in", major=8, minor=9, multiProcessorCount=4, totalGlobalMem=self.memory
        )
        return Status.cudaSuccess, found

    def cudaMemGetInfo(self) -> Any:
        return Status.cudaSuccess, self.memory - self.used, self.memory

    @property
    def used(self) -> int:
        """Device memory in use, bytes."""
        return sum(region.size for kind, region in self._regions.values() if kind == "device")

    # Memory

    def cudaMalloc(self, size: int) -> Any:
        if size > self.memory - self.used:
            return Status.cudaErrorMemoryAllocation, None
        return Status.cudaSuccess, self._allocate("device", size)

    def cudaMallocHost(self, size: int) -> Any:
        return Status.cudaSuccess, self._allocate("host", size)

    def cudaFree(self, address: int) -> Any:
        self.check_allowed()
        self.drain()
        del self._regions[address]
        return (Status.cudaSuccess,)

    cudaFreeHost = cudaFree

    def cudaMemsetAsync(self, address: int, value: int, count: int, stream: int) -> Any:
        self._find("device", address, count)
        self.push(stream, lambda: ctypes.memset(address, value, count))
        return (Status.cudaSuccess,)

    def cudaMemcpyAsync(self, target: int, source: int, count: int, kind: Copy, stream: int) -> Any:
        of_source, of_target = kind.value
        self._find(of_target, target, count)
        self._find(of_source, source, count)
        self.push(stream, lambda: ctypes.memmove(target, source, count))
        return (Status.cudaSuccess,)

    def _allocate(self, kind: str, size: int) -> int:
        self.check_allowed()
        capturing = {thread for thread, _ in self._captures.values()}
        assert threading.get_ident() not in capturing, "nothing can be allocated while work is recorded"
        region = np.full(size + _ALIGNMENT, _GARBAGE, np.uint8)
        address = -(-region.ctypes.data // _ALIGNMENT) * _ALIGNMENT
        self._regions[address] = kind, region[address - region.ctypes.data :][:size]
        return address

    def view(self, address: int, size: int) -> NDArray[np.uint8]:
        """`size` bytes of device memory at an aligned address: what a kernel reads and writes."""
        if address % _ALIGNMENT:
            raise ValueError(f"{address} is not aligned to {_ALIGNMENT} bytes")
        return self._find("device", address, size)

    def _find(self, kind: str, address: int, size: int) -> NDArray[np.uint8]:
        for start, (found, region) in self._regions.items():
            if found == kind and start <= address and address + size <= start + region.size:
                return region[address - start :][:size]
        raise ValueError(f"{size} bytes at {address} are not within one piece of {kind} memory")

    # Streams, events, graphs

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        stream = next(self._handles)
        self._queues[stream] = []
        return Status.cudaSuccess, stream

    def check_allowed(self) -> None:
        """Refuse what CUDA forbids while another thread records in its global mode."""
        assert self.recording_globally in (None, threading.get_ident()), "another thread records globally"

    def cudaStreamSynchronize(self, stream: int) -> Any:
        self.check_allowed()
        if stream in self._captures:
            return (Status.cudaErrorStreamCaptureUnsupported,)
        self._run(stream)
        return (Status.cudaSuccess,)

    def cudaEventCreateWithFlags(self, flags: int) -> Any:
        event = next(self._handles)
        self._events[event] = None
        return Status.cudaSuccess, event

    def cudaEventRecord(self, event: int, stream: int) -> Any:
        def mark() -> None:
            self._reached[event] = self.clock

        self._events[event] = stream, mark
        self.push(stream, mark)
        return (Status.cudaSuccess,)

    def cudaEventSynchronize(self, event: int) -> Any:
        self.check_allowed()
        recorded = self._events[event]
        if recorded is not None:
            self._run(recorded[0], until=recorded[1])
        return (Status.cudaSuccess,)

    def cudaEventElapsedTime(self, start: int, end: int) -> Any:
        return Status.cudaSuccess, self._reached[end] - self._reached[start]

    def cudaEventDestroy(self, event: int) -> Any:
        del self._events[event]
        return (Status.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream: int, mode: Capture) -> Any:
        assert mode is Capture.cudaStreamCaptureModeThreadLocal, "any other mode disturbs other threads"
        self._captures[stream] = threading.get_ident(), []
        return (Status.cudaSuccess,)

    def cudaStreamEndCapture(self, stream: int) -> Any:
        graph = next(self._handles)
        self._graphs[graph] = self._captures.pop(stream)[1]
        return Status.cudaSuccess, graph

    def cudaGraphInstantiate(self, graph: int, flags: int) -> Any:
        executable = next(self._handles)
        self._graphs[executable] = list(self._graphs[graph])
        return Status.cudaSuccess, executable

    def cudaGraphLaunch(self, executable: int, stream: int) -> Any:
        self.launches.append("graph")
        for work in self._graphs[executable]:
            self.push(stream, work)
        return (Status.cudaSuccess,)

    def cudaGraphDestroy(self, graph: int) -> Any:
        del self._graphs[graph]
        return (Status.cudaSuccess,)

    cudaGraphExecDestroy = cudaGraphDestroy

    def push(self, stream: int, work: Work) -> None:
        """Launch `work`: a capture takes it down, otherwise it is done when somebody waits."""
        if stream in self._captures:
            self._captures[stream][1].append(work)
        else:
            self._queues[stream].append(work)

    def drain(self) -> None:
        """Do everything that was launched."""
        for stream in self._queues:
            self._run(stream)

    def _run(self, stream: int, until: Work | None = None) -> None:
        with self._lock:
            queue = self._queues[stream]
            while queue and (until is None or until in queue):
                self.clock += 1.0
                queue.pop(0)()
