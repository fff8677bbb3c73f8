"""The classes of TensorRT that its users derive from."""

from __future__ import annotations

import enum
from typing import Any


class Severity(enum.Enum):
    """Of a message."""

    ERROR = 1
    INFO = 3


class ILogger:
    """The base class that a logger must initialise."""

    Severity = Severity

    def __init__(self) -> None:
        self.is_initialised = True

    def log(self, severity: Any, message: str) -> None:
        """Take a message."""
        raise NotImplementedError


class IProfiler:
    """The base class that a profiler must initialise."""

    def __init__(self) -> None:
        self.is_initialised = True

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """Take the time of one layer."""
        raise NotImplementedError
