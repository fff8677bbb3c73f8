"""Joules, where a machine counts them."""

from __future__ import annotations

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
    assert laps.count == 3
    assert laps.wall()["part"] > 0
    assert laps.device() == {}
    assert 0 < cost() < 1e-3
