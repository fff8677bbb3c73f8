"""OpenVINO's own counters of one program: seconds by operator."""

from __future__ import annotations

from typing import Any

import openvino as ov

from calotype_bench.operators import Task


def profile(task: Task) -> list[dict[str, float]]:
    """Seconds by operator of each run, after one to warm up; settings are the runtime's own."""
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True,
    }  # fmt: skip
    if task.threads is not None:
        settings["INFERENCE_NUM_THREADS"] = task.threads
    compiled: Any = ov.Core().compile_model(str(task.graph), task.device.upper(), settings)
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
