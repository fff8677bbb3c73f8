"""What the machine says of itself: joules, by RAPL of the processor's packages and NVML of a GPU, and its clock."""

from __future__ import annotations

import ctypes
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RAPL = Path("/sys/class/powercap")
_SM_CLOCK = 1  # NVML_CLOCK_SM


class Meter:
    """Reads the processor's counters, and those of the GPU that is drawn on, which is number `gpu` of CUDA's."""

    def __init__(
        self,
        gpu: int | None = None,
        rapl: Path = RAPL,
        nvml: str = "libnvidia-ml.so.1",
        cuda: str = "libcuda.so.1",
    ) -> None:
        self._packages = [path for path in sorted(rapl.glob("intel-rapl:?")) if _is_package(path)]
        self._gpu = _Gpu(gpu, nvml, cuda)
        self.joules: float | None = None  # of the last `measuring`

    @property
    def counters(self) -> list[str]:
        """Whose joules are added up: a GPU's alone say little of a machine's."""
        packages = [(path / "name").read_text().strip() for path in self._packages]
        return packages if self._gpu.millijoules() is None else [*packages, "GPU"]

    def clock_mhz(self) -> int | None:
        """Of the GPU's multiprocessors now; None where it does not tell."""
        return self._gpu.clock("nvmlDeviceGetClockInfo")

    def most_mhz(self) -> int | None:
        """That they may reach."""
        return self._gpu.clock("nvmlDeviceGetMaxClockInfo")

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
        spent = self._gpu.millijoules()
        return packages if spent is None else [*packages, (spent * 1000, 2**64 - 1)]


class _Gpu:
    """NVML's counters of one GPU, through its C library: drivers bring it, so that nothing has to be installed.

    NVML counts all cards of a machine, CUDA those that the shell shows it: they have the place on the bus in common.
    Where `index` is None, or nothing is there, it tells nothing.
    """

    def __init__(self, index: int | None, nvml: str, cuda: str) -> None:
        self._handle: ctypes.c_void_p | None = None
        if index is None:
            return
        try:
            self._library: Any = ctypes.CDLL(nvml)
            place = _place(ctypes.CDLL(cuda), index)
        except OSError:
            return
        handle = ctypes.c_void_p()
        if self._library.nvmlInit_v2() == 0:
            status = self._library.nvmlDeviceGetHandleByPciBusId_v2(place, ctypes.byref(handle))
            self._handle = handle if status == 0 else None

    def millijoules(self) -> int | None:
        """Since the driver was loaded; None where it does not count them."""
        return self._told("nvmlDeviceGetTotalEnergyConsumption", ctypes.c_ulonglong)

    def clock(self, function: str) -> int | None:
        """What `function` says of the multiprocessors' clock in MHz."""
        return self._told(function, ctypes.c_uint, _SM_CLOCK)

    def _told(self, function: str, kind: type[Any], *which: int) -> int | None:
        if self._handle is None:
            return None
        value = kind()
        status = getattr(self._library, function)(self._handle, *which, ctypes.byref(value))
        return value.value if status == 0 else None


def _place(driver: Any, index: int) -> bytes:
    """Where on the PCI bus CUDA's GPU number `index` is; empty where there is none."""
    device, place = ctypes.c_int(), ctypes.create_string_buffer(32)
    calls: Sequence[tuple[str, tuple[Any, ...]]] = (
        ("cuInit", (0,)),
        ("cuDeviceGet", (ctypes.byref(device), index)),
        ("cuDeviceGetPCIBusId", (place, len(place), device)),
    )
    found = all(getattr(driver, name)(*given) == 0 for name, given in calls)
    return place.value if found else b""


def _is_package(path: Path) -> bool:
    """Whether it counts a processor and can be read; the platform's own counter, `psys`, has the processor in it."""
    try:
        (path / "energy_uj").read_text()
        return (path / "name").read_text().startswith("package")
    except OSError:
        return False
