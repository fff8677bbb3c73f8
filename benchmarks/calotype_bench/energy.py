"""What the machine says of itself: joules, by RAPL of the processor's packages and NVML of the GPUs, and clocks."""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RAPL = Path("/sys/class/powercap")
_SM_CLOCK = 1  # NVML_CLOCK_SM


class Meter:
    """Reads every counter that there is."""

    def __init__(self, rapl: Path = RAPL, nvml: str = "libnvidia-ml.so.1") -> None:
        self._packages = [path for path in sorted(rapl.glob("intel-rapl:?")) if _is_package(path)]
        self._gpus = _Gpus(nvml)
        self.joules: float | None = None  # of the last `measuring`

    @property
    def counters(self) -> list[str]:
        """Whose joules are added up: a GPU's alone say little of a machine's."""
        gpus = (f"GPU {index}" for index, _ in enumerate(self._gpus.millijoules()))
        return [*((path / "name").read_text().strip() for path in self._packages), *gpus]

    def clock_mhz(self) -> int | None:
        """Of the fastest GPU's multiprocessors now; None where none tells."""
        return max(self._gpus.clocks("nvmlDeviceGetClockInfo"), default=None)

    def most_mhz(self) -> int | None:
        """That it may reach."""
        return max(self._gpus.clocks("nvmlDeviceGetMaxClockInfo"), default=None)

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
        return self._told("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)

    def clocks(self, function: str) -> list[int]:
        """What `function` says of the multiprocessors' clock in MHz, by GPU that tells."""
        return self._told(function, ctypes.c_uint, _SM_CLOCK)

    def _told(self, function: str, kind: type[Any], *which: int) -> list[int]:
        found: list[int] = []
        for handle in self._handles:
            value = kind()
            if getattr(self._library, function)(handle, *which, ctypes.byref(value)) == 0:
                found.append(value.value)
        return found


def _is_package(path: Path) -> bool:
    """Whether it counts a processor and can be read; the platform's own counter, `psys`, has the processor in it."""
    try:
        (path / "energy_uj").read_text()
        return (path / "name").read_text().startswith("package")
    except OSError:
        return False
