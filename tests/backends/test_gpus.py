"""Which of several GPUs a program runs on, and what has to be free there before it is loaded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from calotype import backends, memory
from calotype.backends import BackendOptions, _cuda, _cuda_device, _plans
from calotype.compiled import Compiled, Machine
from calotype.errors import BackendError
from calotype.manifest import ProgramSpec
from tests.backends import step_programs
from tests.backends.contract_cases import snapshot, step_inputs
from tests.standin import gpu
from tests.standin.cuda import Cuda
from tests.standin.cuda_enums import Status
from tests.standin.onnxruntime import CudaProvider

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

SECOND = BackendOptions("cuda:1")


@pytest.fixture
def chosen(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The GPUs that are chosen, on a machine with two that differ."""
    cuda.gpus = 2
    seen: list[int] = []
    choose = Cuda.cudaSetDevice

    def choosing(self: Cuda, device: int) -> Any:
        seen.append(device)
        return choose(self, device)

    def properties(self: Cuda, device: int) -> Any:
        found = SimpleNamespace(
            name=("First", "Second")[device].encode(),
            major=8,
            minor=9,
            multiProcessorCount=4,
            totalGlobalMem=self.memory,
        )
        return Status.cudaSuccess, found

    monkeypatch.setattr(Cuda, "cudaSetDevice", choosing)
    monkeypatch.setattr(Cuda, "cudaGetDeviceProperties", properties)
    return seen


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "no graphs"])
def test_onnx_runtime_runs_on_the_gpu_of_the_options(
    provider: CudaProvider, chosen: list[int], tmp_path: Path, graphs: bool
) -> None:
    spec = step_programs.write(tmp_path)
    (program,) = backends.load("onnxruntime", tmp_path, [spec], BackendOptions("cuda:1", graphs=graphs))
    (expected,) = backends.load("onnxruntime", tmp_path, [spec], BackendOptions(threads=1))
    for _ in range(3):
        found = program.run(step_inputs())["prediction"]
        assert np.array_equal(found, expected.run(step_inputs())["prediction"])
    assert {settings["device_id"] for settings in provider.given} == {"1"}
    assert set(chosen) == {1}


def test_what_was_measured_for_onnx_runtime_has_to_fit_the_gpu_of_the_options(
    provider: CudaProvider, chosen: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here: list[Machine] = []

    def nothing_compiled(root: Path, specs: Any, kept: _plans.Kept, options: BackendOptions) -> list[None]:
        here.append(kept.here())
        return [None for _ in specs]

    monkeypatch.setattr(_plans, "plans", nothing_compiled)
    backends.load("onnxruntime", tmp_path, [step_programs.write(tmp_path)], SECOND)
    assert [each.gpu for each in here] == ["Second"]


def test_a_plan_runs_on_the_gpu_of_the_options(chosen: list[int], backend: str, tmp_path: Path) -> None:
    spec = step_programs.write(tmp_path)
    gpu.compile_for(backend, tmp_path, (spec,), gpu="Second")
    (program,) = backends.load(backend, tmp_path, [spec], SECOND)
    first = snapshot(program.run(step_inputs()))
    for _ in range(2):
        assert np.array_equal(program.run(step_inputs())["prediction"], first["prediction"])
    assert set(chosen) == {1}
    if backend == "tensorrt":  # which builds for one model of GPU
        with pytest.raises(BackendError, match="gpu: built with 'Second', found 'First'"):
            backends.load(backend, tmp_path, [spec], BackendOptions("cuda:0"))


def test_a_stream_is_made_on_the_gpu_that_it_is_for(
    cuda: Cuda, chosen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    make = Cuda.cudaStreamCreateWithFlags

    def making(self: Cuda, flags: int) -> Any:
        made.append(self.device)
        return make(self, flags)

    monkeypatch.setattr(Cuda, "cudaStreamCreateWithFlags", making)
    assert [_cuda.Device(index).index for index in (1, 0, 1)] == [1, 0, 1]
    assert made == [1, 0, 1]


def test_a_gpu_is_described_by_its_own_properties(chosen: list[int]) -> None:
    assert [_cuda_device.machine("1", index).gpu for index in range(2)] == ["First", "Second"]
    with pytest.raises(BackendError, match="device cuda:2: this machine has 2 GPUs"):
        _cuda_device.machine("1", 2)


def budget_of(name: str, root: Path, spec: ProgramSpec, graphs: bool) -> int:
    """What `spec` takes on a GPU, by the numbers of the backend."""
    if name == "onnxruntime":
        return memory.of_graphs([spec], graphs).total
    folder = gpu.compile_for(name, root, (spec,))
    return memory.of_plans(Compiled.read(folder / "manifest.json").plans, graphs).total


@pytest.mark.parametrize("name", ["onnxruntime", *backends.COMPILED_ONLY])
def test_recorded_graphs_count_where_they_are_made_and_what_others_took_is_not_free(
    request: pytest.FixtureRequest, cuda: Cuda, tmp_path: Path, name: str
) -> None:
    if name == "onnxruntime":
        request.getfixturevalue("provider")
    spec = dataclasses.replace(step_programs.write(tmp_path), nodes=100)
    recorded, launched = (budget_of(name, tmp_path, spec, graphs) for graphs in (True, False))
    cuda.memory = recorded
    (program,) = backends.load(name, tmp_path, [spec], BackendOptions("cuda"))
    program.close()

    taken = cuda.cudaMalloc(recorded - launched)[1]
    with pytest.raises(BackendError, match=r"cuda: the programs need .* MiB are free"):
        backends.load(name, tmp_path, [spec], BackendOptions("cuda"))
    (program,) = backends.load(name, tmp_path, [spec], BackendOptions("cuda", graphs=False))
    program.close()
    cuda.cudaFree(taken)
    backends.load(name, tmp_path, [spec], BackendOptions("cuda"))
