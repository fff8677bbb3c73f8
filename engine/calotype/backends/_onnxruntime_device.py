"""ONNX Runtime's CUDA provider as what a `DeviceProgram` launches: on its stream, at its addresses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime as ort

from calotype.backends import Array, _recording
from calotype.backends._cuda import Device
from calotype.compiled import Requirements
from calotype.manifest import ProgramSpec, TensorSpec

# Fused operators were measured with this library on this card: they need not be faster on another.
NEEDS = Requirements(("library", "system", "gpu", "compute_capability"))
OpenSession = Callable[[Mapping[str, Array]], ort.InferenceSession]


class OrtLauncher:
    """A session whose provider launches on the device's stream; it records and replays a graph by itself.

    That graph cannot be part of another one (error 900; microsoft/onnxruntime pull request 32081 would change it), so a
    whole schedule is one launch a row, which ONNX Runtime 1.31.1 does not wait for. It records within the first run of
    a session in each thread, in CUDA's global mode (`tests/export/test_real_provider.py`).
    """

    capturable = False

    def __init__(self, spec: ProgramSpec, open_session: OpenSession, device: Device) -> None:
        self._inputs = {tensor.name for tensor in spec.inputs}
        self._open_session = open_session
        self._index = device.index
        self._addresses: dict[str, tuple[TensorSpec, int]] = {}
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self.replace_weights({})

    def attach(self, tensor: TensorSpec, address: int) -> None:
        """See `Launcher.attach`."""
        self._addresses[tensor.name] = tensor, address
        bind = self._binding.bind_input if tensor.name in self._inputs else self._binding.bind_output
        bind(tensor.name, "cuda", self._index, np.dtype(tensor.dtype).type, list(tensor.shape), address)

    def check_recording(self) -> None:
        """See `Launcher.check_recording`."""

    def launch(self) -> None:
        """See `Launcher.launch`."""
        recorded = hasattr(self._recorded, "here")
        with _recording.beside() if recorded else _recording.alone():  # other versions may wait
            self._session.run_with_iobinding(self._binding, self._options)
        self._recorded.here = True

    def replace_weights(self, weights: Mapping[str, Array]) -> None:
        """See `Program.replace_weights`: a new session, at the same addresses, when the old one has left its memory."""
        self._session: Any = None
        self._binding: Any = None
        self._session = self._open_session(weights)
        self._recorded = threading.local()  # `here` is set in threads that have recorded
        self._binding = self._session.io_binding()
        for tensor, address in self._addresses.values():
            self.attach(tensor, address)
