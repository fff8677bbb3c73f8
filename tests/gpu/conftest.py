"""A bundle compiled for the GPU of this machine, or with --rehearse for the stand-in."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import onnxruntime as ort
import pytest

from calotype import backends
from calotype.backends.onnxruntime import PROVIDERS
from calotype.bundle import Bundle
from calotype.errors import CalotypeError
from tests.bundles import bundle
from tests.standin import gpu
from tests.standin.onnxruntime import CudaProvider

BACKENDS = ("tensorrt", "tensorrt_rtx", "onnxruntime")


@pytest.fixture
def rehearsing(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--rehearse"))


@pytest.fixture(params=BACKENDS)
def backend(
    request: pytest.FixtureRequest, rehearsing: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Each backend that runs on NVIDIA GPUs; one that this machine lacks is a skip that says what is missing."""
    if rehearsing:
        cuda = gpu.install(monkeypatch, tmp_path / "state")
        if request.param == "onnxruntime":
            CudaProvider(cuda, monkeypatch)
        return request.param
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    if request.param not in backends.installed():
        pytest.skip(f"{request.param} is not installed")
    if request.param == "onnxruntime" and PROVIDERS["cuda"] not in ort.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider")
    return request.param


@pytest.fixture
def root(backend: str, rehearsing: bool, tmp_path: Path) -> Path:
    """A copy of the plain bundle (fp32), compiled for `backend` where it runs nothing else."""
    copied = shutil.copytree(bundle("plain"), tmp_path / "bundle")
    if backend not in backends.COMPILED_ONLY:
        return copied
    if rehearsing:
        gpu.compile_for(backend, copied, Bundle.open(copied).manifest.programs)
        return copied
    if importlib.util.find_spec("torch") is None:
        pytest.skip("plans are built where torch is")
    from calotype_export.compile import compile_bundle
    from calotype_export.tensorrt_builder import BuilderOptions

    try:
        compile_bundle(copied, backend, BuilderOptions(refittable=True))
    except CalotypeError as error:
        pytest.fail(f"{backend} cannot compile here: {error.message}")
    return copied
