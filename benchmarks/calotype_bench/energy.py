"""Joules that the machine says it used: RAPL of the processor's packages and NVML of the GPUs, where they tell."""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RAPL = Path("/sys/class/powercap")


class Meter:
    """Reads every counter that there is."""

    def __init__(self, rapl: Path = RAPL, nvml: str = "libnvidia-ml.so.1") -> None:
        self._packages = [path for path in sorted(rapl.glob("intel-rapl:?")) if _is_package(path)]
        self._gpus = _Gpus(nvml)
        self.joules: float | None = None  # of the last `measuring`

    @contextmanager
    def measuring(self) -> Generator[None]:
        """`joules` is what was used while this was entered."""
        before = self._read()
        yield
        spent = [
            (after - begun) % (limit + 1) / 1e6
            for (begun, limit), (after, _) in zip(before, self._read(), strict=True)
        ]
        self.joules = sum(spent) if spent else None

    def _read(self) -> list[tuple[int, int]]:
        """Microjoules so far and the value after which the counter begins anew, by counter."""
        packages = [
            (int((path / "energy_uj").read_text()), int((path / "max_energy_range_uj").read_text()))
            for path in self._packages
        ]
        return packages + [(millijoules * 1000, 2**64 - 1) for millijoules in self._gpus.millijoules()]


class _Gpus:
    """NVML's energy counters, through its C library: drivers bring it, so that nothing has to be installed."""

    def __init__(self, name: str) -> None:
        self._handles: list[ctypes.c_void_p] = []
        try:
            self._library: Any = ctypes.CDLL(name)
        except OSError:
            return
        if self._library.nvmlInit_v2() != 0:
            return
        count = ctypes.c_uint()
        self._library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        for index in range(count.value):
            handle = ctypes.c_void_p()
            if self._library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == 0:
                self._handles.append(handle)

    def millijoules(self) -> list[int]:
        """Since the driver was loaded, by GPU that counts them."""
        found: list[int] = []
        for handle in self._handles:
            value = ctypes.c_ulonglong()
            if self._library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value)) == 0:
                found.append(value.value)
        return found


def _is_package(path: Path) -> bool:
    """Whether it counts a processor and can be read; the platform's own counter, `psys`, has the processor in it."""
    try:
        (path / "energy_uj").read_text()
        return (path / "name").read_text().startswith("package")
    except OSError:
        return False
