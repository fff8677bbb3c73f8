"""Plans of TensorRT-RTX, which are built on a machine without a GPU: the programs of the tiny and demo checkpoints."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorrt_rtx_bindings")

import tensorrt_rtx_bindings

from calotype import trust
from calotype.bundle import Bundle
from calotype.compiled import Compiled
from calotype.errors import BackendError, BundleError
from calotype_export import build, synthetic, tensorrt_builder
from calotype_export.architectures import NAMES
from calotype_export.build import BuildOptions
from calotype_export.compile import compile_bundle
from calotype_export.progress import silent
from calotype_export.tensorrt_builder import BuilderOptions
from tests import bundles

sys.path.insert(0, str(bundles.ROOT / "demo"))

from papercut.bundles import open_bundle

DEMO = ("text-to-image", "inpainting", "depth")
DEMO_BUNDLES = bundles.ROOT / "demo" / ".cache" / "bundles"
ADA = BuilderOptions(compute_capabilities=("8.9",), optimization_level=0)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the plain bundle, and a state folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return shutil.copytree(bundles.bundle("plain"), tmp_path / "plain")


@pytest.mark.slow
def test_every_program_of_a_bundle_is_compiled_and_described(plain: Path) -> None:
    stages: list[tuple[str, int, int]] = []
    folder = compile_bundle(plain, "tensorrt_rtx", ADA, lambda *report: stages.append(report))
    found = Compiled.read(folder / "manifest.json")
    specs = Bundle.open(plain).manifest.programs

    assert folder.parent == plain / "compiled"
    assert found.machine.library == tensorrt_rtx_bindings.__version__
    assert found.options == {
        "compute_capabilities": ["8.9"], "optimization_level": 0, "tf32": False, "refittable": False,
    }  # fmt: skip
    assert [(plan.name, plan.batch) for plan in found.plans] == [(spec.name, spec.batch) for spec in specs]
    for plan, spec in zip(found.plans, specs, strict=True):
        data = (folder / plan.files[0].path).read_bytes()
        assert plan.files[0].sha256 == hashlib.sha256(data).hexdigest()
        assert trust.read(folder / plan.files[0].path, plan.files[0].sha256) == data
        assert plan.sources == tuple(file.sha256 for file in spec.files)
        assert plan.activation_bytes > 0
        assert set(plan.precisions) <= {"Float", "Int32", "Int64", "Bool"}
        assert (f"build {spec.name} (batch {spec.batch})", 6, 6) in stages
    assert compile_bundle(plain, "tensorrt_rtx", ADA, silent) == folder


def exported_in(precision: str, name: str, folder: Path) -> None:
    """A bundle of the checkpoint `name`: a copy of what other tests draw with, or else one that is traced here."""
    present = {recipe.checkpoint: key for key, recipe in bundles.RECIPES.items()}
    if precision == "fp32" and name in DEMO:
        shutil.copytree(open_bundle(bundles.ROOT / "demo" / name, DEMO_BUNDLES), folder)
    elif precision == "fp32" and name in present:
        shutil.copytree(bundles.bundle(present[name]), folder)
    else:
        folder.mkdir()
        checkpoint = bundles.ROOT / "demo" / name
        if name not in DEMO:
            checkpoint = synthetic.write(name, folder.with_name("checkpoint"))
        options = BuildOptions(checkpoint, folder, precision=precision)
        build.draft(build.opened(options), options, folder)


NAMED = {"fp32": "Float", "fp16": "Half", "bf16": "BFloat16"}  # by the builder
EVERY = [
    (name, precision)
    for name in (*(f"tiny-{name}" for name in NAMES), *DEMO)
    for precision in ("fp32", "fp16")
]
IN_BF16 = [(name, "bf16") for name in ("tiny-sd15", "tiny-sd2-depth", "text-to-image", "depth")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), [*EVERY, *IN_BF16])
def test_every_program_of_every_checkpoint_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = tmp_path / "bundle"
    exported_in(precision, name, folder)
    manifest = Bundle.open(folder).manifest
    found = Compiled.read(compile_bundle(folder, "tensorrt_rtx", ADA, silent) / "manifest.json")

    assert [plan.name for plan in found.plans] == [spec.name for spec in manifest.programs]
    for plan, spec in zip(found.plans, manifest.programs, strict=True):
        half = {NAMED[spec.precision]} - {"Float"}
        assert {"Half", "BFloat16"} & set(plan.precisions) == half, plan.name
        assert plan.activation_bytes > 0
        if (
            precision != "fp32" and plan.name == "unet_step"
        ):  # some of a tiny twin's heads are too small for a kernel
            assert plan.attentions > len(plan.unfused_attentions)
            assert all("attention" in name for name in plan.unfused_attentions)
            assert name not in DEMO or not plan.unfused_attentions


def test_nothing_is_left_of_a_compilation_that_fails(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise BackendError("no plan could be built")

    monkeypatch.setattr(tensorrt_builder, "build_plan", fail)
    with pytest.raises(BackendError, match="no plan could be built"):
        compile_bundle(plain, "tensorrt_rtx", ADA, silent)
    assert list((plain / "compiled").iterdir()) == []


@pytest.mark.parametrize(
    ("backend", "options", "message"),
    [
        (
            "tensorrt_rtx",
            BuilderOptions(("9.0",)),
            r"--compute-capability: expected some of .*, found '9\.0'",
        ),
        ("tensorrt", BuilderOptions(), "backend tensorrt: tensorrt cannot be imported"),
        (
            "vulkan",
            BuilderOptions(),
            "expected one of tensorrt, tensorrt_rtx, onnxruntime, openvino, found 'vulkan'",
        ),
    ],
)
def test_what_cannot_be_built_is_refused(
    plain: Path, backend: str, options: BuilderOptions, message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        compile_bundle(plain, backend, options, silent)


def test_a_graph_that_is_not_what_the_manifest_says_is_refused(plain: Path) -> None:
    spec = Bundle.open(plain).program("vae_decoder")
    wide = dataclasses.replace(spec.inputs[0], dtype="float16")
    wrong = dataclasses.replace(spec, inputs=(wide,))
    with pytest.raises(
        BundleError, match=r"input `latents`: the manifest says float16 .*, the graph has float32"
    ):
        tensorrt_builder.build_plan(tensorrt_rtx_bindings, plain / spec.files[0].path, wrong, ADA, silent)


def test_weights_that_grow_are_refused(plain: Path) -> None:
    spec = Bundle.open(plain).program("unet_step")
    half = tuple(dataclasses.replace(file, size=file.size // 2) for file in spec.files)
    built = tensorrt_builder.Built(b"", 0.0, 0, spec.files[1].size, Counter(), Counter())
    with pytest.raises(BackendError, match=r"in the plan; expected at most 1\.5 times as many"):
        tensorrt_builder.check_size(dataclasses.replace(spec, files=half), built)


def test_weights_that_a_lora_may_change_need_a_gpu_at_the_build(plain: Path) -> None:
    options = dataclasses.replace(ADA, refittable=True)
    with pytest.raises(BackendError, match="--refittable: the library builds such plans only where a GPU is"):
        compile_bundle(plain, "tensorrt_rtx", options, silent)


def test_a_library_without_timings_refuses_a_file_for_them(plain: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(ADA, timing_cache=tmp_path / "timings")
    with pytest.raises(BackendError, match="--timing-cache: tensorrt_rtx keeps no timings"):
        compile_bundle(plain, "tensorrt_rtx", options, silent)
    assert not (tmp_path / "timings").exists()
