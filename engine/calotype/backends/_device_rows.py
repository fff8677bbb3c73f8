"""Rows of tensors that stay on a GPU: what one program hands on to another without the host."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from calotype.backends import Array
from calotype.backends._cuda import Device, Memory, Pinned


class DeviceRow:
    """A copy of a row in device memory of its own. Reading it as an array waits for it."""

    def __init__(
        self, rows: DeviceRows, memory: Memory, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.memory = memory
        self.shape = shape
        self.dtype = dtype
        self._rows = rows

    @property
    def device(self) -> Device:
        """Where it lies."""
        return self._rows.device

    def __array__(self, dtype: Any = None, /, *, copy: bool | None = None) -> Array:
        """numpy's protocol; always a copy."""
        array = self._rows.read(self.memory).view(self.dtype).reshape(self.shape)
        return array if dtype is None else array.astype(dtype)


class DeviceRows:
    """Makes the rows of one program. Memory of a row that is gone is used again, in the order of the stream."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._free: dict[int, list[Memory]] = {}  # by size
        self._staging: dict[int, Pinned] = {}

    def copied(self, address: int, shape: tuple[int, ...], dtype: str) -> DeviceRow:
        """A copy of what lies at `address`, made when everything launched before is done."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        free = self._free.setdefault(size, [])
        memory = free.pop() if free else Memory(self.device, size)
        self.device.copy(memory.address, address, size)
        row = DeviceRow(self, memory, shape, np.dtype(dtype))
        weakref.finalize(row, free.append, memory)
        return row

    def read(self, memory: Memory) -> Array:
        """The bytes of `memory`, on the host."""
        if memory.size not in self._staging:
            self._staging[memory.size] = Pinned(self.device, memory.size)
        staging = self._staging[memory.size]
        self.device.activate()
        self.device.download(staging.address, memory.address, memory.size)
        self.device.synchronize()
        return staging.bytes.copy()

    def clear(self) -> None:
        """Give back what is not in use."""
        self._free.clear()
        self._staging.clear()
