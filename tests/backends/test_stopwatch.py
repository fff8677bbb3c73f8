"""The GPU's own clock, on a stand-in that takes a millisecond for each piece of work."""

from __future__ import annotations

import pytest

from calotype.backends import _cuda
from tests.standin.cuda import Cuda


def test_the_gpus_clock_runs_from_a_launch_to_its_end(cuda: Cuda) -> None:
    device = _cuda.Device(0)
    stopwatch = _cuda.Stopwatch(device)

    def launch(count: int) -> None:
        for _ in range(count):
            cuda.push(device.stream, lambda: None)

    for expected in (0.004, 0.008):  # three pieces of work and the mark behind them, a millisecond each
        with stopwatch.running():
            launch(3)
        assert stopwatch.seconds() == pytest.approx(expected)
        launch(5)  # outside: it does not count
    with stopwatch.running():
        launch(1)
    launch(5)
    with stopwatch.running():
        launch(1)
    assert stopwatch.seconds() == pytest.approx(0.012)


def test_a_clock_that_nobody_asks_keeps_few_events(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    device, called = _cuda.Device(0), list[str]()
    call = device.call
    monkeypatch.setattr(
        device, "call", lambda name, *arguments: called.append(name) or call(name, *arguments)
    )
    stopwatch = _cuda.Stopwatch(device)
    for _ in range(500):
        with stopwatch.running():
            cuda.push(device.stream, lambda: None)
    assert called.count("cudaEventCreateWithFlags") == 2 * 128
    assert stopwatch.seconds() == pytest.approx(500 * 0.002)
