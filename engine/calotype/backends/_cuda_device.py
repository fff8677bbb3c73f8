"""What the CUDA runtime says of a device, through cuda-bindings."""

from __future__ import annotations

import platform
from typing import Any

from calotype.backends._cuda import runtime
from calotype.compiled import Machine
from calotype.errors import BackendError


def machine(library_version: str, index: int = 0) -> Machine:
    """This machine with its GPU number `index`; without a driver or a GPU those fields are empty or 0.

    BackendError where cuda-bindings is missing, or where there are GPUs but none of that number.
    """
    cuda_runtime = runtime()
    system = f"{platform.system()}-{platform.machine()}"
    cuda = _version(_value(cuda_runtime.cudaRuntimeGetVersion(), 0))
    driver = _version(_value(cuda_runtime.cudaDriverGetVersion(), 0))
    count = _value(cuda_runtime.cudaGetDeviceCount(), 0)
    if not count:
        return Machine(library_version, system, cuda, driver, "", "", 0, 0)
    if index >= count:
        raise BackendError(f"device cuda:{index}: this machine has {count} GPUs", "the first is cuda:0")
    found = _value(cuda_runtime.cudaGetDeviceProperties(index), None)
    if found is None:
        raise BackendError(f"device cuda:{index}: its properties cannot be read")
    name = found.name.decode().rstrip("\0")
    capability = f"{found.major}.{found.minor}"
    return Machine(
        library_version,
        system,
        cuda,
        driver,
        name,
        capability,
        found.multiProcessorCount,
        found.totalGlobalMem,
    )


def _value(answer: tuple[Any, ...], otherwise: Any) -> Any:
    """What a call of the runtime returned beside its status, or `otherwise` where it failed."""
    status, *values = answer
    return values[0] if int(status) == 0 else otherwise


def _version(number: int) -> str:
    """CUDA writes 13.1 as 13010; nothing for 0."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""
