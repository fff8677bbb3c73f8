"""What a builder of TensorRT says of a plan, in its log: a machine without a GPU can build a plan but not open it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from calotype.backends._tensorrt import Log, logger
from calotype.errors import BackendError


def memory(library: Any, log: Log, data: Any) -> tuple[int, int]:
    """Bytes of activations and of weights: as the builder says, or else the plan itself, which only a GPU can open."""
    activations, weights = _said(log, "Activation Memory"), _said(log, "Weights Memory")
    if activations is not None and weights is not None:
        return activations, weights
    engine = library.Runtime(logger(library, log)).deserialize_cuda_engine(bytes(data))
    if engine is None:
        raise BackendError(
            "the builder's log has no lines `Total Activation Memory` and `Total Weights Memory`, and the plan "
            f"cannot be opened here to ask it: {log.errors()}",
            "report this version of the library",
        )
    return int(engine.device_memory_size_v2), int(
        engine.get_engine_stat(library.EngineStat.TOTAL_WEIGHTS_SIZE)
    )


def _said(log: Log, what: str) -> int | None:
    """The figure of the last line `Total <what>: N bytes`."""
    found = [re.fullmatch(rf"Total {what}: (\d+) bytes", text) for _, text in log.lines]
    return next((int(match[1]) for match in reversed(found) if match), None)


@dataclass(frozen=True, slots=True)
class Layer:
    """One of a plan's."""

    kind: str
    outputs: list[str]  # their types
    of: str  # the nodes of the graph that it was made from


def layers(log: Log) -> Iterator[Layer]:
    """Every layer of the plan."""
    listing = next((text for _, text in reversed(log.lines) if text.startswith("Layers:")), "")
    for line in listing.splitlines():
        kind = re.search(r"LayerType: (\w+)", line)
        if kind:  # inputs and constants come first
            outputs = re.findall(r"Datatype: (\w+)", line.partition(" Outputs: ")[2])
            yield Layer(kind[1], outputs, line.partition("Metadata: ")[2].strip())
