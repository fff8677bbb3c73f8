"""What must not happen while work is recorded into a CUDA graph, in any thread of this process.

ONNX Runtime records in CUDA's global mode, which forbids every thread what might wait for the device meanwhile: to take
memory or give it back, to wait for an event, to load or drop a library's session. What is collected by Python's garbage
collector in the recording thread would give memory back too.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final


class _Turns:
    """Either one thread records, or any number of them do what must not happen meanwhile."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._others = 0
        self._recording: int | None = None  # the thread

    @contextmanager
    def beside(self) -> Generator[None]:
        this = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._recording in (None, this))
            self._others += 1
        try:
            yield
        finally:
            with self._changed:
                self._others -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Generator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._recording is None and not self._others)
            self._recording = threading.get_ident()
        try:
            yield
        finally:
            with self._changed:
                self._recording = None
                self._changed.notify_all()


_TURNS: Final = _Turns()  # one for the process, as CUDA's global mode is


@contextmanager
def beside() -> Generator[None]:
    """Do what must not happen while another thread records. It may be nested, but not around `alone`."""
    with _TURNS.beside():
        yield


@contextmanager
def alone() -> Generator[None]:
    """Record: nobody else records or is within `beside`, and nothing is collected."""
    with _TURNS.alone():
        collects = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()
