"""What must not happen while work is recorded into a CUDA graph, in any thread of this process.

ONNX Runtime records in CUDA's global mode, which forbids every thread to take memory or give it back meanwhile. What is
collected by Python's garbage collector in the recording thread would give memory back too.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

# One for the process, as CUDA's global mode is; whoever takes memory of a device or gives it back holds it.
MEMORY: Final = threading.RLock()


@contextmanager
def alone() -> Generator[None]:
    """Record: nobody else records, takes memory or gives it back, and nothing is collected."""
    with MEMORY:
        collects = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if collects:
                gc.enable()
