"""Where a program's time goes, by kind of operator."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import openvino as ov
import pytest

from calotype.backends.openvino import Compiler
from calotype.bundle import Bundle
from calotype_bench import operators, profile_onnxruntime, profile_openvino, profile_tensorrt
from calotype_bench.operators import Task
from tests.bundles import bundle
from tests.standin import gpu


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_libraries_tell_the_kinds_that_a_step_is_made_of(backend: str) -> None:
    found = operators.measure(bundle("plain"), "unet_step", backend, "cpu", 1)
    assert isinstance(found, dict)
    assert {"convolution", "matrix product", "attention", "normalisation"} <= set(found)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert 0 < sum(found.values()) < 10
    assert found.get("other", 0.0) < 0.05 * sum(found.values())


def test_openvino_tells_of_the_graph_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = Compiler.read

    def noted(self: Compiler, graph: Path) -> Any:
        read.append(graph)
        return original(self, graph)

    monkeypatch.setattr(Compiler, "read", noted)
    root = bundle("plain")
    spec = Bundle.open(root).program("vae_decoder")
    (found,) = profile_openvino.profile(Task(root, spec, "openvino", "cpu", 1, 1))
    assert read == [root / spec.files[0].path]
    model: Any = original(Compiler(1), read[0])
    norms = [node.get_type_name() for node in model.get_ops()].count("AvgPool")
    assert norms > 0  # which the ONNX file has none of
    assert found


def test_openvino_tells_each_run_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its counters are means over all runs so far, of which the first takes longer."""
    root = bundle("plain")
    task = Task(root, Bundle.open(root).program("unet_step"), "openvino", "cpu", 1, 3)
    walls: list[float] = []
    original: Any = ov.InferRequest.infer

    def timed(self: Any, *arguments: Any) -> Any:
        begun = time.perf_counter()
        found = original(self, *arguments)
        walls.append(time.perf_counter() - begun)
        return found

    monkeypatch.setattr(ov.InferRequest, "infer", timed)
    found = profile_openvino.profile(task)
    assert len(found) == 3
    shares = [sum(run.values()) / wall for run, wall in zip(found, walls[1:], strict=True)]
    assert all(seconds >= 0 for run in found for seconds in run.values())
    assert max(shares) <= 1.01
    assert max(shares) > 0.5  # a run that had to wait for a core has less


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt_rtx"])
def test_a_plan_tells_its_layers(backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.install(monkeypatch, tmp_path / "state")
    root = Path(shutil.copytree(bundle("plain"), tmp_path / "bundle"))
    spec = Bundle.open(root).program("unet_step")
    gpu.compile_for(backend, root, (spec,))
    found = profile_tensorrt.profile(Task(root, spec, backend, "cuda", None, 2))

    assert len(found) == 2
    for run in found:
        assert any("conv" in layer for layer in run)
        assert all(seconds == pytest.approx(0.001) for seconds in run.values())


def test_what_cannot_be_profiled_says_why() -> None:
    found = operators.measure(bundle("plain"), "unet_step", "tensorrt", "cuda", None)
    assert isinstance(found, str)
    assert "Error" in found
    late = operators.measure(bundle("plain"), "unet_step", "onnxruntime", "cpu", 1, timeout=0.01)
    assert late == "no answer within 0.01 s (--timeout)"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Conv", "convolution"),
        ("FullyConnected", "matrix product"),
        ("ScaledDotProductAttention", "attention"),
        ("LayerNormalization", "normalisation"),
        ("QuickGelu", "activation"),
        ("Reorder", "layout"),
        ("Eltwise", "elementwise"),
        ("Convert", "elementwise"),
        ("/unet/down_blocks.0/attentions.0/proj_in/Conv", "convolution"),
        ("RandomThing", "other"),
    ],
)
def test_names_of_libraries_are_kinds(name: str, kind: str) -> None:
    assert operators.kind(name) == kind


def test_kinds_are_summed_and_the_median_run_counts() -> None:
    runs = [{"Conv": 1.0, "FusedConv": 1.0}, {"Conv": 5.0}, {"Conv": 3.0, "Gemm": 1.0}]
    assert operators.by_kind(runs) == {"convolution": 3.0, "matrix product": 0.0}


def test_onnxruntimes_first_run_is_left_out() -> None:
    def event(name: str, begun: int, microseconds: int, **more: str) -> dict[str, Any]:
        return {"name": name, "ts": begun, "dur": microseconds, "args": {"op_name": "Conv"}, **more}

    events = [
        event("model_run", 0, 10), event("x_kernel_time", 1, 9, cat="Node"),
        event("model_run", 20, 10), event("x_kernel_time", 21, 2, cat="Node"),
        event("y_kernel_time", 24, 3, cat="Node"),
    ]  # fmt: skip
    assert profile_onnxruntime._by_run(events, 1) == [{"Conv": pytest.approx(5e-6)}]
