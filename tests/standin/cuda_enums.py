"""The enums of `cuda.bindings.runtime` that the stand-in takes and gives."""

from __future__ import annotations

import enum


class Status(enum.IntEnum):
    """The codes of cudaError_t that are used here."""

    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorStreamCaptureUnsupported = 900


class Copy(enum.Enum):
    """Where a copy goes."""

    cudaMemcpyHostToDevice = "host", "device"
    cudaMemcpyDeviceToHost = "device", "host"
    cudaMemcpyDeviceToDevice = "device", "device"


class Capture(enum.Enum):
    """Whose calls a capture forbids."""

    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1
    cudaStreamCaptureModeRelaxed = 2
