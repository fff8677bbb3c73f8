"""Fused operators of ONNX Runtime's CUDA provider, on the stand-in GPU: kept where they are faster, and loaded."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from calotype import Pipeline, listing
from calotype.backends import Array, BackendOptions, Program, _cuda_device
from calotype.backends import onnxruntime as onnxruntime_backend
from calotype.backends._onnxruntime_device import NEEDS
from calotype.bundle import Bundle
from calotype.compiled import FUSED, Compiled, Plan
from calotype.errors import BackendError, BundleError
from calotype.manifest import ProgramSpec
from calotype_export import fused_plans, ort_optimiser, timed_run
from calotype_export.compile import compile_bundle
from calotype_export.tensorrt_builder import BuilderOptions
from calotype_export.timed_run import Given, run
from tests.bundles import bundle
from tests.engine import lora_files
from tests.standin import gpu
from tests.standin.cuda import Cuda
from tests.standin.onnxruntime import CudaProvider

ON_GPU = BuilderOptions(gpu=0)


@pytest.fixture(autouse=True)
def provider(cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> CudaProvider:
    return CudaProvider(cuda, monkeypatch)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cuda:
    return gpu.install(monkeypatch, tmp_path / "state")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle("plain"), tmp_path / "bundle"))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The graphs that sessions are opened of."""
    paths: list[str] = []
    real: Callable[..., Any] = onnxruntime.InferenceSession

    def session(path: str, *rest: Any, **settings: Any) -> Any:
        paths.append(path)
        return real(path, *rest, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    return paths


def let_candidates_take(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Say that programs of a graph of the optimiser's take `fused` seconds, with settings `set`, others 1."""
    taken: dict[Program, float] = {}
    load = onnxruntime_backend.load_chosen

    def loaded(root: Path, specs: Any, options: BackendOptions, chosen: Any) -> Any:
        programs = load(root, specs, options, chosen)
        for program, one in zip(programs, chosen, strict=True):
            of_graph = seconds.get("fused", 1.0) if one is not None and one.files else 1.0
            taken[program] = of_graph * (seconds.get("set", 1.0) if one is not None and one.settings else 1.0)
        return programs

    def timed(program: Program, given: Given) -> tuple[dict[str, Array], float]:
        return run(program, given)[0], taken[program]

    monkeypatch.setattr(onnxruntime_backend, "load_chosen", loaded)
    monkeypatch.setattr(timed_run, "run", timed)


def plans(root: Path) -> dict[str, Plan]:
    (path,) = (root / "compiled").glob("*/manifest.json")
    found = Compiled.read(path)
    assert found.backend == FUSED
    return {plan.name: plan for plan in found.plans}


def draw(pipeline: Pipeline) -> Array:
    return pipeline("a red circle", num_inference_steps=3, seed=1, output_type="np").images


def test_operators_that_are_faster_are_kept_and_run(
    root: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_candidates_take(monkeypatch, fused=0.5)
    told: list[str] = []
    compile_bundle(root, "onnxruntime", ON_GPU, lambda stage, *_: told.append(stage))

    found = plans(root)
    assert [name for name, plan in found.items() if plan.files] == ["text_encoder"]
    assert found["text_encoder"].layers["QuickGelu"] > 0
    assert any(
        "unet_step" in line and "NhwcConv" in line for line in told
    )  # the stand-in has no kernel for it
    assert "compile text_encoder (batch 1) fused: 500.00 ms, before 1000.00; faster in 20 of 20 runs" in told
    (folder,) = (root / "compiled").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json", "text_encoder_1.onnx", "text_encoder_1.onnx.data",
    ]  # fmt: skip

    opened.clear()
    fused = Pipeline.load(root, "onnxruntime", device="cuda")
    assert [Path(path).parent.parent.name for path in opened].count("compiled") == 1
    np.testing.assert_allclose(draw(fused), draw(Pipeline.load(bundle("plain"), "onnxruntime")), atol=1e-4)
    memory = listing.bundle(root)[0]["memory"]
    assert memory[f"{FUSED} {folder.name}"] == memory["exported"]


def test_operators_that_are_slower_are_not_kept(
    root: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_candidates_take(monkeypatch)
    compile_bundle(root, "onnxruntime", ON_GPU)
    assert not any(plan.files or plan.settings for plan in plans(root).values())
    opened.clear()
    Pipeline.load(root, "onnxruntime", device="cuda")
    assert opened
    assert not any("compiled" in path for path in opened)


def test_settings_that_are_faster_are_kept_with_and_without_a_lora(
    root: Path, monkeypatch: pytest.MonkeyPatch, provider: CudaProvider, tmp_path: Path
) -> None:
    let_candidates_take(monkeypatch, set=0.5)
    folder = compile_bundle(root, "onnxruntime", ON_GPU)
    found = {name: dict(plan.settings) for name, plan in plans(root).items()}
    assert (found["vae_decoder"], found["text_encoder"]) == (
        {"prefer_nhwc": "1"},
        {},
    )  # the last has no convolutions
    provider.given.clear()
    pipeline = Pipeline.load(root, "onnxruntime", device="cuda")
    assert len([one for one in provider.given if "prefer_nhwc" not in one]) == len(["text encoder"])
    provider.given.clear()
    pipeline.set_lora([(lora_files.write(tmp_path / "style.safetensors", lora_files.kohya(1)), 1.0)])
    assert "prefer_nhwc" in {name for one in provider.given for name in one}
    manifest = folder / "manifest.json"
    text = manifest.read_text("utf-8")
    manifest.write_text(text.replace('prefer_nhwc": "1', 'gpu_external_alloc": "1'), "utf-8")
    with pytest.raises(BundleError, match=r"expected settings of \('prefer_nhwc',\), found .*external_alloc"):
        Pipeline.load(root, "onnxruntime", device="cuda")


def test_a_changed_graph_for_cuda_is_compiled_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_candidates_take(monkeypatch)
    compile_bundle(root, "onnxruntime", ON_GPU)
    spec = Bundle.open(root).program("unet_step")
    graph, data = spec.cuda_files
    other = [dataclasses.replace(spec, cuda_files=(dataclasses.replace(graph, sha256="0" * 64), data))]
    with pytest.raises(BackendError, match="does not fit: sources: built with"):
        onnxruntime_backend.load(root, other, BackendOptions("cuda"))


def test_operators_that_compute_something_else_are_not_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ort_optimiser.optimise

    def wrong(root: Path, spec: ProgramSpec, folder: Path, changes: Mapping[str, bool]) -> ProgramSpec:
        made = real(root, spec, folder, changes)
        path = folder / made.files[0].path
        model = onnx.load(path)
        weight = max(model.graph.initializer, key=lambda one: len(one.raw_data))
        weight.CopyFrom(numpy_helper.from_array(1.01 * numpy_helper.to_array(weight), weight.name))
        onnx.save(model, path, save_as_external_data=True, location=made.files[1].path)
        return made

    let_candidates_take(monkeypatch, fused=0.5)
    monkeypatch.setattr(fused_plans, "optimise", wrong)
    told: list[str] = []
    compile_bundle(root, "onnxruntime", ON_GPU, lambda stage, *_: told.append(stage))
    assert not any(plan.files for plan in plans(root).values())
    assert any("of what is exported, at most 5.0e-05 is let pass" in line for line in told)


def test_a_lora_runs_on_what_was_exported_and_taking_it_off_brings_the_plan_back(
    root: Path, opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_candidates_take(monkeypatch, fused=0.5)
    compile_bundle(root, "onnxruntime", ON_GPU)
    pipeline = Pipeline.load(root, "onnxruntime", device="cuda")
    plain = draw(pipeline)
    opened.clear()
    pipeline.set_lora([(lora_files.write(tmp_path / "style.safetensors", lora_files.kohya(1)), 1.0)])
    assert opened
    assert not any("compiled" in path for path in opened)
    assert not np.array_equal(draw(pipeline), plain)
    opened.clear()
    pipeline.set_lora([])
    assert any("compiled" in path for path in opened)
    assert np.array_equal(draw(pipeline), plain)


def test_plans_of_another_machine_and_changed_ones_are_refused_by_name(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_candidates_take(monkeypatch, fused=0.5)
    folder = compile_bundle(root, "onnxruntime", ON_GPU)
    here = _cuda_device.machine(onnxruntime.__version__)
    for field in NEEDS.exact:
        with monkeypatch.context() as patched:
            other = dataclasses.replace(here, **{field: "another"})
            patched.setattr(_cuda_device, "machine", lambda *_, other=other: other)
            message = rf"(?s){field}: built with '.*', found 'another'.*--device cuda, on this machine; or delete that"
            with pytest.raises(BackendError, match=message):
                Pipeline.load(root, "onnxruntime", device="cuda")
    assert set(NEEDS.exact) == {"library", "system", "gpu", "compute_capability"}

    weights = folder / "text_encoder_1.onnx.data"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(BackendError, match=r"text_encoder_1.onnx.data: expected sha256 .*, found"):
        Pipeline.load(root, "onnxruntime", device="cuda")
    monkeypatch.setenv("XDG_STATE_HOME", str(root / "another user's"))
    with pytest.raises(BackendError, match="was not built by this user"):
        Pipeline.load(root, "onnxruntime", device="cuda")


def test_the_processor_and_the_gpu_have_plans_of_their_own(root: Path, opened: list[str]) -> None:
    compile_bundle(root, "onnxruntime", ON_GPU)
    opened.clear()
    Pipeline.load(root, "onnxruntime")
    assert not any("compiled" in path for path in opened)


def test_it_needs_a_gpu_and_onnx_runtime(root: Path, cuda: Cuda, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match="openvino for GPUs: expected onnxruntime"):
        compile_bundle(root, "openvino", ON_GPU)
    with pytest.raises(BackendError, match="whose only option is the device"):
        compile_bundle(root, "onnxruntime", dataclasses.replace(ON_GPU, optimization_level=3))
    monkeypatch.setattr(cuda, "cudaGetDeviceCount", lambda: (0, 0))
    with pytest.raises(BackendError, match="is measured, and no GPU was found"):
        compile_bundle(root, "onnxruntime", ON_GPU)
