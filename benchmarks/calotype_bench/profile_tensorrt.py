"""The layer times of a TensorRT or TensorRT-RTX plan, as its own profiler reports them. It never ran on a GPU."""

from __future__ import annotations

import importlib
from typing import Any

from calotype import backends
from calotype.backends import BackendOptions
from calotype_bench.operators import Task


def profile(task: Task) -> list[dict[str, float]]:
    """Seconds by layer of each run, after one to warm up, launched one by one without graphs."""
    library: Any = importlib.import_module(f"calotype.backends.{task.backend}").library
    program: Any
    (program,) = backends.load(
        task.backend, task.root, [task.spec], BackendOptions(task.device, graphs=False)
    )
    found: list[dict[str, float]] = []

    class Profiler(library.IProfiler):
        def __init__(self) -> None:
            library.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            found[-1][layer_name] = found[-1].get(layer_name, 0.0) + ms / 1000

    profiler = Profiler()
    program.launcher.context.profiler = profiler
    for _ in range(task.runs + 1):
        found.append({})
        program.run(task.inputs())
        program.wait()
    return found[1:]
