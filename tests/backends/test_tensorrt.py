"""The run path of TensorRT and TensorRT-RTX, on a stand-in that is held to the real bindings' signatures."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from calotype import Pipeline, backends
from calotype.backends import BackendOptions
from calotype.errors import BackendError, BundleError
from tests.backends import step_programs
from tests.backends.contract_cases import Make, draw, in_two_threads, snapshot, step_inputs
from tests.bundles import bundle
from tests.engine.tiny import pipeline_of
from tests.standin import gpu
from tests.standin.cuda import Cuda

CUDA = BackendOptions("cuda")
BUILT_ON: dict[str, Any] = {
    "library": "1.0", "system": "Plan9-mips", "cuda": "99.0", "driver": "99.0", "gpu": "Another",
    "compute_capability": "7.5", "multiprocessors": 1, "memory": 1, "processor": "Another",
}  # fmt: skip
# The driver here may be newer, memory is the budget's, and the host's processor runs nothing of a plan. Which GPU
# built a plan of TensorRT-RTX does not matter, since its capabilities are named.
MAY_DIFFER = {
    "tensorrt": {"driver", "memory", "processor"},
    "tensorrt_rtx": {"driver", "memory", "processor", "gpu", "compute_capability", "multiprocessors"},
}


REQUESTS: dict[str, dict[str, Any]] = {
    "text": {},
    "noise in every row": {"scheduler": "euler_a"},
    "three pictures on programs of two and one": {"seed": [1, 2, 3], "num_images_per_prompt": 3},
    "picture": {"image": Image.linear_gradient("L").convert("RGB").resize((128, 128)), "strength": 0.6},
    "callback": {"callback_on_step_end": lambda *_: None},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_pictures_are_those_of_onnx_runtime_with_graphs_and_without(
    backend: str, root: Path, name: str
) -> None:
    expected = draw(pipeline_of("plain"), **REQUESTS[name])
    for graphs in (True, False):
        pipeline = Pipeline.load(root, backend, device="cuda", graphs=graphs)
        for _ in range(3):  # the first run is not recorded, the second is recorded, the third launched again
            assert np.array_equal(draw(pipeline, **REQUESTS[name]), expected)
        pipeline.close()


def test_a_schedule_is_one_launch_where_nobody_looks(cuda: Cuda, backend: str, root: Path) -> None:
    pipeline = Pipeline.load(root, backend, device="cuda")
    for _ in range(2):
        draw(pipeline)
    cuda.launches.clear()
    draw(pipeline)
    assert cuda.launches == ["graph"] * 4  # both prompts, all rows of the step, decoder, safety checker

    cuda.launches.clear()
    draw(pipeline, progress=lambda *_: None)
    draw(pipeline, progress=lambda *_: None)
    assert "kernel" not in cuda.launches
    assert cuda.launches.count("graph") == 2 * (3 + 5)  # four steps of PLMS are five rows


def test_requests_of_one_kind_take_no_more_memory(cuda: Cuda, backend: str, root: Path) -> None:
    pipeline = Pipeline.load(root, backend, device="cuda")
    for _ in range(2):
        draw(pipeline)
    before = cuda.used
    for seed in range(3):
        draw(pipeline, seed=seed)
    assert cuda.used == before


def test_sweeps_of_many_kinds_are_not_all_kept(cuda: Cuda, backend: str, root: Path) -> None:
    pipeline = Pipeline.load(root, backend, device="cuda")
    used: list[int] = []
    for _ in range(2):
        for steps in range(2, 9):
            draw(pipeline, num_inference_steps=steps)
        used.append(cuda.used)
    assert used[1] == used[0]


def test_closing_gives_all_memory_back(cuda: Cuda, backend: str, root: Path) -> None:
    pipeline = Pipeline.load(root, backend, device="cuda")
    draw(pipeline)
    draw(pipeline)
    assert cuda.used > 0
    pipeline.close()
    assert cuda.used == 0


def test_nothing_is_allocated_by_what_was_done_before(
    cuda: Cuda, backend: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = Pipeline.load(root, backend, device="cuda")
    for _ in range(2):
        draw(pipeline)
    for name in ("cudaMalloc", "cudaMallocHost"):
        monkeypatch.setattr(Cuda, name, lambda *_: pytest.fail("allocated"))
    draw(pipeline, seed=8)


def test_two_pipelines_in_two_threads_do_not_disturb_each_other(backend: str, root: Path) -> None:
    pipelines = [Pipeline.load(root, backend, device="cuda") for _ in range(2)]
    found = in_two_threads(lambda index: draw(pipelines[index], seed=index), 4)
    for index in range(2):
        expected = draw(pipeline_of("plain"), seed=index)
        assert len(found[index]) == 4
        assert all(np.array_equal(picture, expected) for picture in found[index])


def test_a_plan_that_cannot_be_recorded_is_refused_unless_graphs_are_off(
    cuda: Cuda, root: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "tensorrt":
        pytest.skip("TensorRT cannot tell")
    pipeline = Pipeline.load(root, backend, device="cuda")
    monkeypatch.setattr("tests.standin.tensorrt.CAPTURABLE", False)
    with pytest.raises(BackendError, match=r"cannot be recorded into a graph(?s:.*)graphs=False"):
        draw(pipeline)
    assert draw(Pipeline.load(root, backend, device="cuda", graphs=False)).shape[0] == 1


def test_auto_takes_what_the_bundle_was_compiled_for(backend: str, root: Path) -> None:
    assert Pipeline.load(root, device="cuda").backend == backend


def test_a_result_may_be_kept_after_closing(make_on_gpu: Make) -> None:
    program = make_on_gpu()
    outputs = program.run(step_inputs())
    expected = snapshot(outputs)
    program.close()
    gc.collect()
    assert all(np.array_equal(outputs[name], expected[name]) for name in expected)


def test_a_run_that_fails_while_it_is_recorded_ends_the_recording(
    cuda: Cuda, make_on_gpu: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    program: Any = make_on_gpu()
    expected = snapshot(program.run(step_inputs()))
    with monkeypatch.context() as broken:
        broken.setattr(program.launcher.context, "execute_async_v3", lambda *_: False)
        with pytest.raises(BackendError, match=r"unet_step \(batch 2\): the run failed"):
            program.run({})
    again = program.run({})
    assert all(np.array_equal(again[name], expected[name]) for name in expected)


class TestRefusals:
    """What is refused, and by which words."""

    def test_a_bundle_that_was_not_compiled(self, cuda: Cuda, backend: str) -> None:
        message = rf"was not compiled for {backend}(?s:.*)calotype-export compile .* --backend {backend}"
        with pytest.raises(BackendError, match=message):
            Pipeline.load(bundle("plain"), backend, device="cuda")

    def test_a_device_that_is_no_gpu(self, backend: str, root: Path) -> None:
        with pytest.raises(BackendError, match=rf"{backend} runs on cuda, found device cpu"):
            Pipeline.load(root, backend)

    def test_a_machine_without_a_gpu(self, cuda: Cuda, backend: str, root: Path) -> None:
        cuda.gpus = 0
        with pytest.raises(BackendError, match=rf"{backend} needs an NVIDIA GPU, and found none"):
            Pipeline.load(root, backend, device="cuda")

    def test_a_gpu_that_there_is_not(self, backend: str, root: Path) -> None:
        with pytest.raises(BackendError, match=r"device cuda:3: this machine has 1 GPUs"):
            Pipeline.load(root, backend, device="cuda:3")

    @pytest.mark.parametrize("field", BUILT_ON)
    def test_plans_of_another_machine(self, cuda: Cuda, backend: str, tmp_path: Path, field: str) -> None:
        spec = step_programs.write(tmp_path)
        gpu.compile_for(backend, tmp_path, (spec,), **{field: BUILT_ON[field]})
        if field in MAY_DIFFER[backend]:
            assert backends.load(backend, tmp_path, [spec], CUDA)
            return
        named = (
            "driver: built with CUDA 99" if field == "cuda" else f"{field}: built with {BUILT_ON[field]!r}"
        )
        with pytest.raises(BackendError, match=f"does not fit: {named}.*"):
            backends.load(backend, tmp_path, [spec], CUDA)

    def test_plans_for_other_capabilities(
        self, cuda: Cuda, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        spec = step_programs.write(tmp_path)
        monkeypatch.setitem(gpu.OPTIONS, "compute_capabilities", ["7.5", "12.0"])
        gpu.compile_for(backend, tmp_path, (spec,))
        if backend == "tensorrt":  # which has no such option
            assert backends.load(backend, tmp_path, [spec], CUDA)
            return
        with pytest.raises(BackendError, match=r"compute_capability: built for 7\.5, 12\.0, found 8\.9"):
            backends.load(backend, tmp_path, [spec], CUDA)

    def test_a_plan_that_somebody_else_built(
        self, backend: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
        with pytest.raises(BackendError, match="was not built by this user"):
            Pipeline.load(root, backend, device="cuda")

    def test_programs_that_do_not_fit(
        self, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gpu.install(monkeypatch, tmp_path / "state", memory=1000)
        spec = step_programs.write(tmp_path)
        gpu.compile_for(backend, tmp_path, (spec,))
        with pytest.raises(BackendError, match=r"cuda: the programs need .* MiB .*, and 0 MiB are free"):
            backends.load(backend, tmp_path, [spec], CUDA)

    def test_tensors_that_differ_from_the_manifest(self, cuda: Cuda, backend: str, tmp_path: Path) -> None:
        spec = step_programs.write(tmp_path)
        noise = dataclasses.replace(spec.input("noise"), dtype="float16")
        changed = dataclasses.replace(spec, inputs=(*spec.inputs[:-1], noise))
        gpu.compile_for(backend, tmp_path, (changed,))
        with pytest.raises(BundleError, match="input `noise`: the manifest says float16"):
            backends.load(backend, tmp_path, [changed], CUDA)
