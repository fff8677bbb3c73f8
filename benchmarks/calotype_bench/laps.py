"""Seconds of the parts of a picture: wall seconds on a CPU, those of CUDA events on a GPU, which nobody waits for."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

Place = tuple[Any, str, str]  # an object, the method that is timed, and the part's name
_CALIBRATION = 1000


class Laps:
    """Adds up what is run under each part's name."""

    def __init__(self, on_gpu: bool = False) -> None:
        self._torch: Any = importlib.import_module("torch") if on_gpu else None
        self._wall: dict[str, float] = {}
        self._events: list[tuple[str, Any, Any]] = []
        self.calls: Counter[str] = Counter()  # of each part

    @contextmanager
    def of(self, part: str) -> Generator[None]:
        """What runs inside belongs to `part`."""
        self.calls[part] += 1
        if self._torch is not None:
            first, last = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            yield
            last.record()
            self._events.append((part, first, last))
            return
        begun = time.perf_counter()
        yield
        self._wall[part] = self._wall.get(part, 0.0) + time.perf_counter() - begun

    def wall(self) -> dict[str, float]:
        """By part; empty on a GPU, where wall seconds of a launch say nothing."""
        return dict(self._wall)

    def device(self) -> dict[str, float]:
        """By part, when everything is done; empty on a CPU."""
        found: dict[str, float] = {}
        for part, first, last in self._events:
            found[part] = found.get(part, 0.0) + first.elapsed_time(last) / 1000
        return found


@contextmanager
def timed(places: Sequence[Place], laps: Laps) -> Generator[None]:
    """Time the methods of `places` while this is entered, and put them back."""
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for owner, name, part in places:
        setattr(owner, name, _clocked(getattr(owner, name), part, laps))
    try:
        yield
    finally:
        for owner, name, function in kept:
            setattr(owner, name, function)


def cost(on_gpu: bool = False) -> float:
    """Seconds that it takes to time one call, found by timing a function that does nothing."""
    laps = Laps(on_gpu)

    def nothing() -> None: ...

    return a_call(_clocked(nothing, "", laps))


def a_call(run: Callable[[], object], finish: Callable[[], object] = lambda: None) -> float:
    """Seconds of one call of `run`, the mean of many, with `finish` behind the last."""
    begun = time.perf_counter()
    for _ in range(_CALIBRATION):
        run()
    finish()
    return (time.perf_counter() - begun) / _CALIBRATION


def _clocked(function: Callable[..., Any], part: str, laps: Laps) -> Callable[..., Any]:
    def call(*arguments: Any, **settings: Any) -> Any:
        with laps.of(part):
            return function(*arguments, **settings)

    return call
