"""OpenVINO's own counters of one program: seconds by operator."""

from __future__ import annotations

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
    found: list[dict[str, float]] = []
    for _ in range(task.runs + 1):
        request.infer(inputs)
        spent: dict[str, float] = {}
        for counter in request.profiling_info:
            fused = counter.node_type == "Subgraph" and counter.node_name in attentions
            name = "attention" if fused else counter.node_type
            spent[name] = spent.get(name, 0.0) + counter.real_time.total_seconds()
        found.append(spent)
    return found[1:]
