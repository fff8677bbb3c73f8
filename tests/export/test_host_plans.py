"""Plans of ONNX Runtime and OpenVINO for this machine's processor: compiled here, loaded by the runtime."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype import Pipeline, listing
from calotype.backends import Array, _host
from calotype.compiled import Compiled
from calotype.errors import BackendError, BundleError
from calotype_export.compile import compile_bundle
from calotype_export.tensorrt_builder import BuilderOptions
from tests import bundles
from tests.engine import lora_files

BACKENDS = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module", params=BACKENDS)
def compiled_for(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, state: Path
) -> tuple[str, Path]:
    root = shutil.copytree(bundles.bundle("plain"), tmp_path_factory.mktemp(request.param) / "plain")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(state))
        compile_bundle(root, request.param, BuilderOptions())
    return request.param, root


@pytest.fixture(autouse=True)
def _own_state(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setenv("XDG_STATE_HOME", str(state))


def draw(root: Path, backend: str, lora: Path | None = None) -> Array:
    pipeline = Pipeline.load(root, backend, threads=1)
    if lora is not None:
        pipeline.set_lora([(lora, 1.0)])
    arguments: dict[str, Any] = {"num_inference_steps": 3, "seed": 1, "output_type": "np"}
    return pipeline("a red circle", **arguments).images


def test_every_program_is_described(compiled_for: tuple[str, Path]) -> None:
    backend, root = compiled_for
    (path,) = (root / "compiled").glob("*/manifest.json")
    found = Compiled.read(path)

    assert (found.backend, found.machine.processor) == (backend, _host.processor())
    assert found.machine.processor.strip()
    for plan in found.plans:
        assert sum(plan.layers.values()) > 10
        assert plan.weight_bytes == sum(file.size for file in plan.files) > 0
    assert any(plan.activation_bytes > 0 for plan in found.plans)
    assert f"{backend} {path.parent.name}" in listing.bundle(root)[0]["memory"]


def test_what_was_compiled_draws_the_same_picture(compiled_for: tuple[str, Path], tmp_path: Path) -> None:
    backend, root = compiled_for
    lora = lora_files.write(tmp_path / "style.safetensors", lora_files.kohya(1))
    for adapter in (None, lora):
        assert np.array_equal(draw(root, backend, adapter), draw(bundles.bundle("plain"), backend, adapter))


def test_it_is_loaded_and_not_compiled_again(
    compiled_for: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, root = compiled_for
    opened: list[str] = []
    if backend == "openvino":
        from calotype.backends.openvino import Compiler

        monkeypatch.setattr(Compiler, "compile", lambda *_: pytest.fail("compiled again"))
    else:
        import onnxruntime as ort

        class Recorded(ort.InferenceSession):
            def __init__(self, path: str, *rest: Any, **settings: Any) -> None:
                opened.append(path)
                super().__init__(path, *rest, **settings)

        monkeypatch.setattr(ort, "InferenceSession", Recorded)
    Pipeline.load(root, backend)
    assert all("/compiled/" in path for path in opened)
    assert bool(opened) == (backend == "onnxruntime")


def test_the_plans_of_another_processor_are_refused(
    compiled_for: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, root = compiled_for
    monkeypatch.setattr(_host, "processor", lambda: "Another avx2")
    with pytest.raises(BackendError, match=r"does not fit: processor: built with '.*', found 'Another avx2'"):
        Pipeline.load(root, backend)


def test_a_newer_library_is_compiled_for_beside_the_older(
    compiled_for: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, root = compiled_for
    copied = shutil.copytree(root, tmp_path / "copied")
    monkeypatch.setattr(importlib.import_module(backend), "__version__", "99.0")
    compile_bundle(copied, backend, BuilderOptions())
    assert len(list((copied / "compiled").iterdir())) == 2
    assert Pipeline.load(copied, backend).backend == backend


def test_what_is_not_this_users_own_is_compiled_again(
    compiled_for: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, root = compiled_for
    copied = shutil.copytree(root, tmp_path / "copied")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    with pytest.raises(BackendError, match="was not built by this user"):
        Pipeline.load(copied, backend)
    compile_bundle(copied, backend, BuilderOptions())
    assert Pipeline.load(copied, backend).backend == backend


def test_a_data_file_that_is_not_listed_is_refused(compiled_for: tuple[str, Path], tmp_path: Path) -> None:
    backend, root = compiled_for
    if backend == "openvino":
        pytest.skip("its plans are one file")
    copied = shutil.copytree(root, tmp_path / "copied")
    (path,) = (copied / "compiled").glob("*/manifest.json")
    found = Compiled.read(path)
    plans = tuple(dataclasses.replace(plan, files=plan.files[:1]) for plan in found.plans)
    path.write_text(dataclasses.replace(found, plans=plans).to_json())
    with pytest.raises(BundleError, match=r"\.onnx\.data"):
        Pipeline.load(copied, backend)


def test_plans_of_another_user_are_refused(
    compiled_for: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, root = compiled_for
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(BackendError, match="was not built by this user"):
        Pipeline.load(root, backend)


@pytest.mark.parametrize("index", [0, -1])
def test_a_file_that_was_changed_is_refused(
    compiled_for: tuple[str, Path], tmp_path: Path, index: int
) -> None:
    backend, root = compiled_for
    copied = shutil.copytree(root, tmp_path / "copied")
    (path,) = (copied / "compiled").glob("*/manifest.json")
    file = path.parent / Compiled.read(path).plans[0].files[index].path
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(BackendError, match=r"expected sha256 .*, found"):
        Pipeline.load(copied, backend)


def test_options_of_a_gpus_builder_are_refused(compiled_for: tuple[str, Path]) -> None:
    backend, root = compiled_for
    for options in (
        BuilderOptions(("8.9",)),
        BuilderOptions(optimization_level=3),
        dataclasses.replace(BuilderOptions(), refittable=True),
    ):
        with pytest.raises(BackendError, match=f"{backend} compiles for this machine's processor"):
            compile_bundle(root, backend, options)


def test_what_a_library_cannot_run_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    root = shutil.copytree(bundles.bundle("plain"), tmp_path / "plain")
    manifest = json.loads((root / "manifest.json").read_text("utf-8"))
    for program in manifest["programs"]:
        program["precision"] = "bf16"
    (root / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(BackendError, match="ONNX Runtime cannot compute bf16 on CPUs"):
        compile_bundle(root, "onnxruntime", BuilderOptions())
    assert list((root / "compiled").iterdir()) == []
