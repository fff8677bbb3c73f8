"""OpenVINO's own counters of one program: seconds by operator."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from calotype.backends.openvino import Compiler
from calotype_bench.operators import Task


def profile(task: Task) -> list[dict[str, float]]:
    """Seconds by operator of each run, after one to warm up; the graph and the settings are the runtime's own."""
    compiler = Compiler(task.threads, profiled=True)
    compiled: Any = compiler.compile(compiler.read(task.graph))
    request = compiled.create_infer_request()
    attentions = {
        node.get_friendly_name()
        for node in compiled.get_runtime_model().get_ops()
        if "attention" in node.get_rt_info()["originalLayersNames"].astype(str)
    }
    inputs = task.inputs()
    so_far: list[dict[str, float]] = []
    for number in range(1, task.runs + 2):
        request.infer(inputs)
        spent: dict[str, float] = {}
        for counter in request.profiling_info:  # means over all runs so far, in whole microseconds
            fused = counter.node_type == "Subgraph" and counter.node_name in attentions
            name = "attention" if fused else counter.node_type
            spent[name] = spent.get(name, 0.0) + number * counter.real_time.total_seconds()
        so_far.append(spent)
    # rounding of the means can leave less than nothing to what hardly takes time
    return [
        {name: max(after[name] - before[name], 0.0) for name in after} for before, after in pairwise(so_far)
    ]
