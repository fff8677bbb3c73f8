"""What ONNX Runtime alone does: providers, and what it cannot compute."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype import Pipeline
from calotype.backends import Array, BackendOptions, Program
from calotype.errors import BackendError
from tests.backends import step_programs
from tests.backends.contract_cases import draw, in_two_threads, step_inputs, whole
from tests.bundles import bundle
from tests.engine.tiny import picture, pipeline_of
from tests.standin.cuda import Cuda
from tests.standin.onnxruntime import CudaProvider

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
backend: Any = pytest.importorskip("calotype.backends.onnxruntime")

TWO = (picture(), picture().rotate(180))


class CpuSession:
    """What ONNX Runtime returns where it could not load its CUDA libraries."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


def test_threads_rest_after_a_run() -> None:
    """They went on for 34 ms of a core's time, in which those of the next program had to share it."""
    pipeline = Pipeline.load(bundle("plain"), "onnxruntime", threads=2)
    pipeline("a lighthouse", num_inference_steps=1)
    before = time.process_time()
    time.sleep(0.1)
    assert time.process_time() - before < 0.01


def test_bf16_is_refused_on_cpus(tmp_path: Path) -> None:
    spec = step_programs.write(tmp_path, "bf16")
    with pytest.raises(
        BackendError, match=r"(?s)unet_step \(batch 2\): .* cannot compute bf16 on CPUs.*openvino"
    ):
        backend.load(tmp_path, [spec], BackendOptions())


def test_a_provider_that_is_not_built_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    spec = step_programs.write(tmp_path)
    message = r"(?s)expected CUDAExecutionProvider for device cuda:1, found CPU.*calotype\[onnxruntime-gpu\]"
    with pytest.raises(BackendError, match=message):
        backend.load(tmp_path, [spec], BackendOptions("cuda:1"))


def test_another_provider_than_the_one_asked_for_is_refused(
    tmp_path: Path, cuda: Cuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", CpuSession)
    spec = step_programs.write(tmp_path)
    with pytest.raises(
        BackendError, match="expected CUDAExecutionProvider, ONNX Runtime took CPUExecutionProvider"
    ):
        backend.load(tmp_path, [spec], BackendOptions("cuda"))


def test_a_session_gets_one_provider_and_the_threads_of_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    class Recorded(ort.InferenceSession):
        def __init__(self, path: str, options: Any, **settings: Any) -> None:
            seen.update(settings, threads=options.intra_op_num_threads)
            super().__init__(path, options, **settings)

    monkeypatch.setattr(ort, "InferenceSession", Recorded)
    backend.load(tmp_path, [step_programs.write(tmp_path)], BackendOptions(threads=1))
    assert seen == {"providers": [("CPUExecutionProvider", {})], "enable_fallback": 0, "threads": 1}


class TestOnAGpu:
    """The CUDA provider, on a stand-in that computes with the CPU provider."""

    @pytest.fixture(params=[True, False], ids=["graphs", "no graphs"])
    def graphs(self, request: pytest.FixtureRequest) -> bool:
        return request.param

    @pytest.fixture
    def program(self, graphs: bool, provider: CudaProvider, tmp_path: Path) -> Program:
        spec = step_programs.write(tmp_path)
        return backend.load(tmp_path, [spec], BackendOptions("cuda", graphs=graphs))[0]

    def test_runs_are_those_of_the_cpu(self, program: Program, tmp_path: Path) -> None:
        (expected,) = backend.load(tmp_path, [program.spec], BackendOptions(threads=1))
        for one in (program, expected):
            one.carry("next_state", "state")
            one.bind(step_inputs(3))
        rows = [{"noise": step_inputs(seed)["noise"]} for seed in range(4)]
        for _ in range(2):
            for one in (program, expected):
                one.sweep(rows)
            assert np.array_equal(whole(program, "state"), whole(expected, "state"))

    def test_the_session_launches_on_the_programs_stream(
        self, program: Program, provider: CudaProvider, cuda: Cuda, graphs: bool
    ) -> None:
        settings = provider.given[-1]
        assert cuda.cudaStreamSynchronize(int(settings["user_compute_stream"]))[0] == 0
        assert settings["enable_cuda_graph"] == str(int(graphs))
        assert (settings["device_id"], settings["use_tf32"]) == ("0", "0")

    @pytest.mark.parametrize(("precision", "tf32"), [("fp32", "0"), ("fp16", "1"), ("bf16", "1")])
    def test_tf32_is_off_where_it_would_round(
        self, provider: CudaProvider, tmp_path: Path, precision: str, tf32: str, graphs: bool
    ) -> None:
        spec = step_programs.write(tmp_path, precision)
        with contextlib.suppress(
            BackendError
        ):  # the processor, which the stand-in computes with, has no bf16
            backend.load(tmp_path, [spec], BackendOptions("cuda", graphs=graphs))
        assert provider.given[-1]["use_tf32"] == tf32

    def test_pipelines_are_loaded_and_closed_while_others_record(
        self, provider: CudaProvider, graphs: bool
    ) -> None:
        def drawn(index: int) -> Array:
            pipeline = Pipeline.load(bundle("plain"), "onnxruntime", device="cuda", graphs=graphs)
            found = draw(pipeline, seed=index, image=TWO[index], strength=0.6)
            pipeline.close()
            return found

        alone = [drawn(index) for index in range(2)]
        found = in_two_threads(drawn, 2)
        for index, expected in enumerate(alone):
            on_cpu = draw(pipeline_of("plain"), seed=index, image=TWO[index], strength=0.6)
            assert np.linalg.norm(expected - on_cpu) < 1e-4 * np.linalg.norm(on_cpu)
            assert len(found[index]) == 2
            assert all(np.array_equal(each, expected) for each in found[index])

    def test_other_weights_are_a_session_at_the_same_addresses(self, program: Program) -> None:
        plain = program.run(step_inputs())["prediction"].copy()
        name = "conv_in_weight"
        program.replace_weights({name: np.ones((step_programs.HIDDEN, step_programs.C, 3, 3), np.float32)})
        changed = program.run({})["prediction"].copy()
        program.replace_weights({})
        assert not np.allclose(changed, plain)
        assert np.array_equal(program.run({})["prediction"], plain)
