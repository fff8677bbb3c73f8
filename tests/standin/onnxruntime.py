"""ONNX Runtime's CUDA provider without a GPU: the CPU's, reading and writing the stand-in's memory.

It opens what the real one has kernels for.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from tests.standin.cuda import Cuda
from tests.standin.cuda_kernels import lacking

_CUDA = "CUDAExecutionProvider"


class CudaProvider:
    """Puts sessions that ask for CUDA in place of the real ones. `given`: each one's settings."""

    def __init__(self, cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cuda = cuda
        self.given: list[dict[str, str]] = []
        real = ort.InferenceSession
        monkeypatch.setattr(ort, "get_available_providers", lambda: [_CUDA, "CPUExecutionProvider"])

        def session(
            path: str, options: Any, providers: Sequence[tuple[str, dict[str, str]]], **rest: Any
        ) -> Any:
            ((name, settings),) = providers
            if name != _CUDA:
                return real(path, options, providers=providers, **rest)
            self.given.append(settings)
            cuda.check_allowed()
            assert options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
            if found := lacking(Path(path)):
                raise RuntimeError(f"fallback to CPU EP has been explicitly disabled, and CUDA lacks {found}")
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
            options.intra_op_num_threads = 1
            return _Session(real(path, options, providers=["CPUExecutionProvider"]), cuda, settings)

        monkeypatch.setattr(ort, "InferenceSession", session)


class _Session:
    def __init__(self, real: ort.InferenceSession, cuda: Cuda, settings: dict[str, str]) -> None:
        self._real = real
        self._cuda = cuda
        self._stream = int(settings["user_compute_stream"])
        self._device = int(settings["device_id"])
        self._records = settings["enable_cuda_graph"] == "1"

    def get_providers(self) -> list[str]:
        return [_CUDA]

    def get_inputs(self) -> Sequence[Any]:
        return self._real.get_inputs()

    def get_outputs(self) -> Sequence[Any]:
        return self._real.get_outputs()

    def io_binding(self) -> _Binding:
        return _Binding(self._cuda, self._device)

    def run_with_iobinding(self, iobinding: _Binding, run_options: Any) -> None:
        assert run_options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        if self._records:  # in the first run; long enough for another thread to come in between
            self._cuda.recording_globally = threading.get_ident()
            time.sleep(0.02)
            self._cuda.recording_globally = None
            self._records = False
        names = [tensor.name for tensor in self._real.get_outputs()]
        views = dict(iobinding.views)

        def compute() -> None:
            inputs = {tensor.name: views[tensor.name] for tensor in self._real.get_inputs()}
            for name, value in zip(names, self._real.run(names, inputs), strict=True):
                views[name][...] = value

        self._cuda.push(self._stream, compute)


class _Binding:
    def __init__(self, cuda: Cuda, device: int) -> None:
        self._cuda = cuda
        self._device = device
        self.views: dict[str, Any] = {}

    def bind_input(self, *arguments: Any) -> None:
        self._bind(inspect.signature(ort.IOBinding.bind_input), arguments)

    def bind_output(self, *arguments: Any) -> None:
        self._bind(inspect.signature(ort.IOBinding.bind_output), arguments)

    def _bind(self, signature: inspect.Signature, arguments: tuple[Any, ...]) -> None:
        given = signature.bind(self, *arguments).arguments
        assert (given["device_type"], given["device_id"]) == ("cuda", self._device)
        dtype = np.dtype(given["element_type"])
        size = int(np.prod(given["shape"])) * dtype.itemsize
        self.views[given["name"]] = (
            self._cuda.view(given["buffer_ptr"], size).view(dtype).reshape(given["shape"])
        )
