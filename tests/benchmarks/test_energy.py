"""Joules and clocks, where a machine tells them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

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
    meter = Meter(rapl=tmp_path)
    with meter.measuring():
        package(tmp_path, 0, 600_000)
        package(tmp_path, 1, 249_999)
    assert meter.joules == pytest.approx(0.5 + 0.250001)


def test_the_platform_s_own_counter_is_not_added_to_its_processors(tmp_path: Path) -> None:
    package(tmp_path, 0, 0)
    package(tmp_path, 1, 0, name="psys")
    meter = Meter(rapl=tmp_path)
    with meter.measuring():
        package(tmp_path, 0, 500_000)
        package(tmp_path, 1, 900_000, name="psys")
    assert meter.joules == pytest.approx(0.5)


def test_a_machine_that_does_not_tell_is_none_and_not_zero(tmp_path: Path) -> None:
    meter = Meter(0, tmp_path, "no-such-library.so", "no-such-library.so")
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


def test_calls_of_a_part_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks, laps = iter([0.0, 1.0, 5.0, 7.0]), Laps()
    with monkeypatch.context() as patched:
        patched.setattr("time.perf_counter", lambda: next(ticks))
        for _ in range(2):
            with laps.of("part"):
                pass
    assert laps.wall() == {"part": 3.0}


def test_a_gpus_events_are_milliseconds_and_added_up_too() -> None:
    events = [SimpleNamespace(record=lambda: None, elapsed_time=lambda _: 500.0) for _ in range(4)]
    cuda, laps = SimpleNamespace(Event=lambda enable_timing: events.pop()), Laps()
    laps._torch = SimpleNamespace(cuda=cuda)
    for _ in range(2):
        with laps.of("part"):
            pass
    assert (laps.device(), laps.wall()) == ({"part": 1.0}, {})


# A driver of two cards, of which the shell shows CUDA the second alone. Handles are one more than NVML's numbers.
_DRIVER = """
#include <stdint.h>
#include <string.h>
static unsigned long long spent = 5000;
int cuInit(unsigned flags) { return flags; }
int cuDeviceGet(int *device, int index) { *device = 70 + index; return index ? 101 : 0; }
int cuDeviceGetPCIBusId(char *place, int length, int device) {
    strncpy(place, device == 70 ? "0000:B2:00.0" : "", length);
    return 0;
}
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *place, void **handle) {
    *handle = (void *)(intptr_t)(strcmp(place, "0000:B2:00.0") ? 1 : 2);
    return *place ? 0 : 2;
}
int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *value) {
    *value = spent += 1500 * (intptr_t)handle;
    return 0;
}
int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *clock) {
    *clock = 1000 + 100 * type + (unsigned)(intptr_t)handle;
    return 0;
}
int nvmlDeviceGetMaxClockInfo(void *handle, int type, unsigned *clock) { *clock = 1980; return handle ? 0 : type; }
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.c").write_text(_DRIVER)
    command = ["cc", "-shared", "-fPIC", "-o", str(folder / "driver.so"), str(folder / "driver.c")]
    subprocess.run(command, check=True)
    return str(folder / "driver.so")


def test_joules_and_clock_are_of_the_card_that_is_drawn_on(tmp_path: Path, driver: str) -> None:
    meter = Meter(0, tmp_path, driver, driver)
    with meter.measuring():
        pass
    assert meter.joules == pytest.approx(3.0)
    assert meter.counters == ["GPU"]
    assert (meter.clock_mhz(), meter.most_mhz()) == (1102, 1980)


def test_joules_of_a_card_and_of_the_processor_are_added_up(tmp_path: Path, driver: str) -> None:
    package(tmp_path, 0, 0)
    meter = Meter(0, tmp_path, driver, driver)
    with meter.measuring():
        package(tmp_path, 0, 500_000)
    assert meter.joules == pytest.approx(3.5)
    assert meter.counters == ["package-0", "GPU"]


def test_a_card_that_is_not_there_tells_nothing(tmp_path: Path, driver: str) -> None:
    meter = Meter(1, tmp_path, driver, driver)
    with meter.measuring():
        pass
    assert (meter.joules, meter.counters, meter.clock_mhz()) == (None, [], None)


def test_on_a_processor_no_card_is_asked(tmp_path: Path, driver: str) -> None:
    package(tmp_path, 0, 0)
    meter = Meter(None, tmp_path, driver, driver)
    assert (meter.clock_mhz(), meter.most_mhz()) == (None, None)
    assert meter.counters == ["package-0"]
