"""ONNX Runtime's own profile of one program: seconds by operator."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import onnxruntime as ort

from calotype.backends.onnxruntime import PROVIDERS
from calotype_bench.operators import Task


def profile(task: Task) -> list[dict[str, float]]:
    """Seconds by operator of each run, after one to warm up."""
    with tempfile.TemporaryDirectory(prefix="calotype-profile-") as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        if task.threads is not None:
            options.intra_op_num_threads = task.threads
        session = ort.InferenceSession(
            str(task.graph), options, providers=[PROVIDERS[task.device.partition(":")[0]]]
        )
        inputs = task.inputs()
        for _ in range(task.runs + 1):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    return _by_run(events, task.runs)


def _by_run(events: list[dict[str, Any]], runs: int) -> list[dict[str, float]]:
    """Each run is one `model_run`, and an operator belongs to the run that it falls into."""
    spans = sorted(
        (event["ts"], event["ts"] + event["dur"]) for event in events if event["name"] == "model_run"
    )
    found: list[dict[str, float]] = [{} for _ in spans]
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        index = next(index for index, (begun, ended) in enumerate(spans) if begun <= event["ts"] <= ended)
        name = event["args"]["op_name"]
        found[index][name] = found[index].get(name, 0.0) + event["dur"] / 1e6
    return found[-runs:]
