"""The builder behind TensorRT's own names, where TensorRT itself cannot be installed; and what builders may not say."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorrt_rtx_bindings")

import tensorrt_rtx_bindings

from calotype.backends._tensorrt import Log
from calotype.bundle import Bundle
from calotype.compiled import Compiled
from calotype.errors import BackendError
from calotype_export import builder_log, tensorrt_builder
from calotype_export.compile import compile_bundle
from calotype_export.progress import silent
from calotype_export.tensorrt_builder import BuilderOptions
from tests import bundles
from tests.bundles import bundle
from tests.standin import builder
from tests.standin.cuda import Cuda


@pytest.fixture
def library() -> Any:
    return builder.Library(tensorrt_rtx_bindings, "SM89")


def test_tensorrt_builds_by_its_own_names(
    library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda: Any = Cuda()
    cuda.gpus = 2
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    root = shutil.copytree(bundles.bundle("plain"), tmp_path / "plain")
    options = BuilderOptions(optimization_level=0, timing_cache=tmp_path / "timings", gpu=1)
    found = Compiled.read(compile_bundle(root, "tensorrt", options, silent) / "manifest.json")
    specs = Bundle.open(root).manifest.programs
    assert (found.backend, found.machine.gpu, cuda.device) == ("tensorrt", "Stand-in", 1)
    assert [(plan.name, plan.batch) for plan in found.plans] == [(spec.name, spec.batch) for spec in specs]
    assert all(plan.activation_bytes and plan.weight_bytes and plan.layers for plan in found.plans)
    assert (tmp_path / "timings").stat().st_size > 0
    with pytest.raises(BackendError, match="device cuda:2: this machine has 2 GPUs"):
        compile_bundle(root, "tensorrt", BuilderOptions(gpu=2), silent)


def test_timings_of_another_library_are_refused(
    library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timings").write_bytes(b"another's")
    options = BuilderOptions(timing_cache=tmp_path / "timings")
    made = library.Builder(tensorrt_builder.logger(library, Log()))
    real: Any = tensorrt_rtx_bindings
    monkeypatch.setattr(real.IBuilderConfig, "set_timing_cache", lambda *_, ignore_mismatch: ignore_mismatch)
    with pytest.raises(BackendError, match=r"--timing-cache: .* is of another version of the library"):
        tensorrt_builder._config(library, made, options)


def test_refittable_weights_are_marked_by_its_own_names(library: Any) -> None:
    spec = Bundle.open(bundles.bundle("plain")).program("unet_step")
    made = library.Builder(tensorrt_builder.logger(library, Log()))
    network = made.create_network()
    parser = library.OnnxParser(network, tensorrt_builder.logger(library, Log()))
    assert parser.parse_from_file(str(bundles.bundle("plain") / spec.files[0].path))
    tensorrt_builder._mark_refittable(network, spec)
    made.create_builder_config().set_flag(library.BuilderFlag.REFIT_INDIVIDUAL)


def test_what_tensorrt_does_not_have_is_an_error(library: Any) -> None:
    made = library.Builder(tensorrt_builder.logger(library, Log()))
    config = made.create_builder_config()
    with pytest.raises(AttributeError, match="IBuilderConfig has no num_compute_capabilities"):
        config.num_compute_capabilities = 1
    with pytest.raises(AttributeError, match="BuilderFlag has no REQUIRE_USER_ALLOCATION"):
        _ = library.BuilderFlag.REQUIRE_USER_ALLOCATION
    with pytest.raises(AttributeError, match="has no ComputeCapability"):
        _ = library.ComputeCapability
    with pytest.raises(TypeError, match=r"set_timing_cache takes \['cache, ignore_mismatch'\]"):
        config.set_timing_cache(config.create_timing_cache(b""))
    assert tensorrt_builder.capabilities(library) == ()


def test_memory_that_the_log_does_not_tell_is_asked_of_the_plan() -> None:
    class Engine:
        device_memory_size_v2 = 4096

        def get_engine_stat(self, stat: str) -> int:
            return {"weights": 1000}[stat]

    class Asked:
        class ILogger:
            pass

        class EngineStat:
            TOTAL_WEIGHTS_SIZE = "weights"

        class Runtime:
            engine: Any = Engine()

            def __init__(self, _: Any) -> None:
                pass

            def deserialize_cuda_engine(self, data: bytes) -> Any:
                return self.engine

    log = Log()
    assert builder_log.memory(Asked, log, b"plan") == (4096, 1000)
    log.lines += [("INFO", "Total Activation Memory: 12 bytes"), ("INFO", "Total Weights Memory: 0 bytes")]
    assert builder_log.memory(Asked, log, b"plan") == (12, 0)
    Asked.Runtime.engine = None
    with pytest.raises(BackendError, match="cannot be opened here to ask it"):
        builder_log.memory(Asked, Log(), b"plan")


def test_a_gpu_without_a_name_in_the_library_is_the_current_one() -> None:
    options = BuilderOptions(compute_capabilities=("9.0",), for_this_gpu=True)
    rtx: Any = tensorrt_rtx_bindings
    assert tensorrt_builder._targets(rtx, options) == [rtx.ComputeCapability.CURRENT]


def test_a_plan_that_opens_on_no_gpu_is_refused() -> None:
    rtx: Any = tensorrt_rtx_bindings
    spec = Bundle.open(bundle("plain")).program("text_encoder")
    with pytest.raises(
        BackendError, match=r"(?s)text_encoder.*cannot be opened on it.*use tensorrt or onnxruntime"
    ):
        tensorrt_builder.check_opens(rtx, spec, b"no plan")
