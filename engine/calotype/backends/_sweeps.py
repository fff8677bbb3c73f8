"""All rows of a schedule as one recorded graph: what changes from row to row lies in a table on the GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from calotype.backends import Array
from calotype.backends._cuda import Device, Graph, Memory, Pinned
from calotype.memory import SCHEDULES_KEPT

_ALIGNMENT = 256

Kind = tuple[tuple[str, ...], ...]  # of each row: the inputs that it is given


@dataclass(frozen=True, slots=True)
class _Sweep:
    """`table` holds the inputs that change, `slots` where."""

    graph: Graph
    table: Memory
    staging: Pinned
    slots: tuple[Mapping[str, int], ...]  # of each row, by input: where in the table


class Sweeps:
    """The schedules that one program was recorded for, the most recent `SCHEDULES_KEPT` of them.

    `memory` and `sizes` (bytes) are the program's tensors by name; `once` launches one run, and `record` makes a graph
    of what is launched.
    """

    def __init__(
        self,
        device: Device,
        memory: Mapping[str, Memory],
        sizes: Mapping[str, int],
        once: Callable[[], None],
        record: Callable[[Callable[[], None]], Graph],
    ) -> None:
        self._device = device
        self._memory = memory
        self._sizes = sizes
        self._once = once
        self._record_graph = record
        self._kept: dict[Kind, _Sweep] = {}

    def launch(self, rows: Sequence[Mapping[str, Array]]) -> None:
        """Launch all rows as one graph, recorded now where there is none of their kind."""
        kind = tuple(tuple(sorted(inputs)) for inputs in rows)
        sweep = self._kept.pop(kind, None) or self._record(kind)
        self._kept[kind] = sweep  # the most recent is the last
        while len(self._kept) > SCHEDULES_KEPT:  # what it holds may be in use
            self._device.synchronize()
            del self._kept[next(iter(self._kept))]
        for inputs, slots in zip(rows, sweep.slots, strict=True):
            for name, value in inputs.items():
                sweep.staging.fill(value, slots[name])
        self._device.upload(sweep.table.address, sweep.staging.address, sweep.table.size)
        sweep.staging.mark_read()
        sweep.graph.launch()

    def forget(self) -> None:
        """Drop what was recorded. Nothing of it is running."""
        self._kept.clear()

    def _record(self, kind: Kind) -> _Sweep:
        slots, size = _slots(kind, self._sizes)
        table = Memory(self._device, size)

        def launch() -> None:
            for row in slots:
                for name, at in row.items():
                    self._device.copy(self._memory[name].address, table.address + at, self._sizes[name])
                self._once()

        return _Sweep(self._record_graph(launch), table, Pinned(self._device, size), slots)


def _slots(kind: Kind, sizes: Mapping[str, int]) -> tuple[tuple[Mapping[str, int], ...], int]:
    """Where each row's inputs lie in a table, and its size in bytes."""
    slots: list[Mapping[str, int]] = []
    end = 0
    for names in kind:
        row: dict[str, int] = {}
        for name in names:
            row[name] = end
            end += -(-sizes[name] // _ALIGNMENT) * _ALIGNMENT
        slots.append(row)
    return tuple(slots), end
