"""Fixtures of the contract suite: a backend with a precision, and programs loaded on it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from calotype import backends
from calotype.backends import Program
from calotype.bundle import Bundle
from tests.backends import step_programs
from tests.backends.contract_cases import ON_GPU, ON_HOST, Case, Make, available, load_spec
from tests.bundles import bundle
from tests.standin import gpu
from tests.standin.cuda import Cuda

if TYPE_CHECKING:
    from tests.standin.onnxruntime import CudaProvider  # needs ONNX Runtime


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cuda:
    """A machine with the stand-in GPU."""
    return gpu.install(monkeypatch, tmp_path / "state")


@pytest.fixture
def provider(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> CudaProvider:
    """ONNX Runtime with a CUDA provider for the stand-in GPU."""
    from tests.standin.onnxruntime import CudaProvider

    return CudaProvider(cuda, monkeypatch)


@pytest.fixture(params=[("fake", "fp32"), *ON_HOST, *ON_GPU], ids="-".join)
def make(request: pytest.FixtureRequest, cuda: Cuda, tmp_path: Path) -> Make:
    """`make(precision=..., batch=...)` loads a step program on each of the backends in turn."""
    return _maker(available(request.param), tmp_path)


@pytest.fixture(params=[("fake", "fp32"), *ON_HOST], ids="-".join)
def make_on_host(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """`make`, of the backends that keep tensors in the host's memory."""
    return _maker(available(request.param), tmp_path)


@pytest.fixture(params=[*ON_HOST, *ON_GPU], ids="-".join)
def make_with_weights(request: pytest.FixtureRequest, cuda: Cuda, tmp_path: Path) -> Make:
    """`make`, of the backends whose programs have weights."""
    return _maker(available(request.param), tmp_path)


@pytest.fixture(params=ON_GPU, ids="-".join)
def make_on_gpu(request: pytest.FixtureRequest, cuda: Cuda, tmp_path: Path) -> Make:
    """`make`, of the backends that keep tensors on a GPU."""
    return _maker(request.param, tmp_path)


@pytest.fixture(params=ON_HOST, ids="-".join)
def vendor(request: pytest.FixtureRequest) -> Case:
    """A backend that reads the bundle's graphs when it loads."""
    return available(request.param)


def _maker(case: Case, folder: Path) -> Make:
    def load(precision: str = case[1], batch: int = 2) -> Program:
        spec = step_programs.write(folder / precision, precision, batch)
        return load_spec(case[0], folder / precision, spec)

    return load


@pytest.fixture(params=backends.COMPILED_ONLY)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def root(cuda: Cuda, backend: str, tmp_path: Path) -> Path:
    """A copy of the plain bundle with plans for the stand-in."""
    copied = shutil.copytree(bundle("plain"), tmp_path / "bundle")
    gpu.compile_for(backend, copied, Bundle.open(copied).manifest.programs)
    return copied
