"""ONNX Runtime's own profile of one program: seconds by operator, and on a GPU, by kernel.

On CUDA its profiler tells when the host launched an operator. torch's, through CUPTI, tells how long the kernels of any
library in the process took.
"""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnxruntime as ort

from calotype import backends
from calotype.backends import BackendOptions
from calotype.backends.onnxruntime import PROVIDERS, session_options
from calotype_bench.operators import Task


def profile(task: Task) -> list[dict[str, float]]:
    """Seconds by operator of each run, or by kernel, after one to warm up."""
    return _by_operator(task) if task.device == "cpu" else _by_kernel(task)


def _by_kernel(task: Task) -> list[dict[str, float]]:
    profiler: Any = importlib.import_module("torch.profiler")
    (program,) = backends.load(
        "onnxruntime", task.root, [task.spec], BackendOptions(task.device, graphs=False)
    )
    found: list[dict[str, float]] = []
    for run in range(task.runs + 1):
        with profiler.profile(activities=[profiler.ProfilerActivity.CUDA]) as recorded:
            program.run(task.inputs())
            program.wait()
        if run:
            found.append(sum_by_name(recorded.events()))
    return found


def sum_by_name(events: Iterable[Any]) -> dict[str, float]:
    """Seconds on the GPU of torch's events, whose times are microseconds, by name."""
    found: dict[str, float] = {}
    for event in events:
        if event.device_type.name == "CUDA":
            found[event.name] = found.get(event.name, 0.0) + event.device_time_total / 1e6
    return found


def _by_operator(task: Task) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="calotype-profile-") as folder:
        options = session_options(BackendOptions(threads=task.threads))
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(
            str(task.graph), options, providers=[PROVIDERS["cpu"]], enable_fallback=0
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
