"""What ONNX Runtime alone does: providers, and what it cannot compute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calotype.backends import BackendOptions
from calotype.errors import BackendError
from tests.backends import step_programs

ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
backend: Any = pytest.importorskip("calotype.backends.onnxruntime")


class CpuSession:
    """What ONNX Runtime returns where it could not load its CUDA libraries."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_cuda_computes_float32_in_float32() -> None:
    options = backend._provider_options(BackendOptions("cuda:1"))
    assert (options["device_id"], options["use_tf32"]) == ("1", "0")
