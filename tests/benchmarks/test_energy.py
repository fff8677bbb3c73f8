"""Joules and clocks, where a machine tells them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from calotype_bench.energy import Meter
from calotype_bench.laps import Laps, cost, timed


def package(root: Path, index: int, microjoules: int, limit: int = 1_000_000, name: str = "package") -> Path:
    folder = root / f"intel-rapl:{index}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit}\n")
    (folder / "name").write_text(f"{name}-{index}\n")
    return folder


def test_packages_are_added_up_and_a_counter_may_begin_anew(tmp_path: Path) -> None:
    package(tmp_path, 0, 100_000)
    package(tmp_path, 1, 999_999)
    meter = Meter(tmp_path, "no-such-library.so")
    with meter.measuring():
        package(tmp_path, 0, 600_000)
        package(tmp_path, 1, 249_999)
    assert meter.joules == pytest.approx(0.5 + 0.250001)


def test_the_platform_s_own_counter_is_not_added_to_its_processors(tmp_path: Path) -> None:
    package(tmp_path, 0, 0)
    package(tmp_path, 1, 0, name="psys")
    meter = Meter(tmp_path, "no-such-library.so")
    with meter.measuring():
        package(tmp_path, 0, 500_000)
        package(tmp_path, 1, 900_000, name="psys")
    assert meter.joules == pytest.approx(0.5)


def test_a_machine_that_does_not_tell_is_none_and_not_zero(tmp_path: Path) -> None:
    meter = Meter(tmp_path, "no-such-library.so")
    with meter.measuring():
        pass
    assert meter.joules is None


def test_timing_a_call_costs_microseconds_and_is_counted() -> None:
    class Engine:
        def run(self, value: int) -> int:
            return value + 1

    engine, laps = Engine(), Laps()
    original = engine.run
    with timed([(engine, "run", "part")], laps):
        assert [engine.run(each) for each in range(3)] == [1, 2, 3]
    assert engine.run == original
    assert laps.calls.total() == 3
    assert laps.wall()["part"] > 0
    assert laps.device() == {}
    assert 0 < cost() < 1e-3


_NVML = """
#include <stdint.h>
static unsigned long long spent = 5000;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)(intptr_t)(index + 1); return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *value) {
    if ((intptr_t)handle == 2) return 3; /* the second one does not count */
    *value = spent += 1500;
    return 0;
}
int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *clock) {
    *clock = 1000 + 100 * type + (unsigned)(intptr_t)handle;
    return 0;
}
int nvmlDeviceGetMaxClockInfo(void *handle, int type, unsigned *clock) { *clock = 1980; return handle ? 0 : type; }
"""


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "nvml.c").write_text(_NVML)
    command = ["cc", "-shared", "-fPIC", "-o", str(folder / "libnvml.so"), str(folder / "nvml.c")]
    subprocess.run(command, check=True)
    return str(folder / "libnvml.so")


def test_a_gpu_s_joules_and_clock_are_its_driver_s(tmp_path: Path, nvml: str) -> None:
    meter = Meter(tmp_path, nvml)
    with meter.measuring():
        pass
    assert meter.joules == pytest.approx(1.5)
    assert meter.counters == ["GPU 0"]
    assert (meter.clock_mhz(), meter.most_mhz()) == (1102, 1980)


def test_a_machine_without_gpus_has_no_clock_of_theirs(tmp_path: Path) -> None:
    package(tmp_path, 0, 0)
    meter = Meter(tmp_path, "no-such-library.so")
    assert (meter.clock_mhz(), meter.most_mhz()) == (None, None)
    assert meter.counters == ["package-0"]
