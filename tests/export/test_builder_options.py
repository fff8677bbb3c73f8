"""What a builder of TensorRT is told: flags, targets, and which plans it must open and mark; without a build."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorrt_rtx_bindings")

import tensorrt_rtx_bindings

from calotype.backends._tensorrt import Log, logger
from calotype.bundle import Bundle
from calotype.compiled import Compiled, Machine
from calotype.errors import BackendError
from calotype_export import builder_log, tensorrt_builder
from calotype_export import compile as compiling
from calotype_export.progress import silent
from calotype_export.tensorrt_builder import BuilderOptions, Built
from tests import bundles

RTX: Any = tensorrt_rtx_bindings
HOPPER = Machine("1", "Linux-x86_64", "13.0", "13.0", "Stand-in", "9.0", 132, 2**37)
NO_GPU = Machine("1", "Linux-x86_64", "", "", "", "", 0, 0)


class Activated:
    """A GPU that was told to build."""

    def activate(self) -> None:
        pass


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the plain bundle, and a state folder of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return shutil.copytree(bundles.bundle("plain"), tmp_path / "plain")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Programs whose plans were opened; plans are a few bytes, which no builder made."""
    found: list[str] = []
    built = Built(b"a plan", 1.0, 4096, 1000, Counter({"gemm": 2}), Counter({"Float": 2}), 3, ("one",))
    monkeypatch.setattr(tensorrt_builder, "build_plan", lambda *_: built)
    monkeypatch.setattr(tensorrt_builder, "check_opens", lambda _, spec, __: found.append(spec.name))
    return found


def config_of(options: BuilderOptions) -> Any:
    return tensorrt_builder._config(RTX, RTX.Builder(logger(RTX, Log())), options)


def test_a_builder_is_told_to_round_nothing_and_whom_to_build_for() -> None:
    config = config_of(BuilderOptions(("8.9", "12.0"), optimization_level=1))
    capabilities = [config.get_compute_capability(index) for index in range(config.num_compute_capabilities)]
    assert not config.get_flag(RTX.BuilderFlag.TF32)
    assert config.get_flag(RTX.BuilderFlag.REQUIRE_USER_ALLOCATION)
    assert config.builder_optimization_level == 1
    assert capabilities == [RTX.ComputeCapability.SM89, RTX.ComputeCapability.SM120]


def test_an_optimisation_level_is_the_librarys_own_where_none_was_asked_for() -> None:
    made = RTX.Builder(logger(RTX, Log()))
    usual = made.create_builder_config().builder_optimization_level
    assert config_of(BuilderOptions(("8.9",))).builder_optimization_level == usual


@pytest.mark.parametrize("level", [-1, 6])
def test_an_optimisation_level_that_there_is_not_is_refused(level: int) -> None:
    with pytest.raises(BackendError, match=f"--optimization-level: expected 0 to 5, found {level}"):
        BuilderOptions(optimization_level=level)


@pytest.mark.parametrize(("refittable", "flags"), [(True, [True]), (False, [])])
def test_weights_are_marked_where_plans_shall_take_a_lora_and_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, refittable: bool, flags: list[bool]
) -> None:
    configs: list[Any] = []
    marked: list[bool] = []
    real = tensorrt_builder._config

    def config(*given: Any) -> Any:
        configs.append(real(*given))
        return configs[-1]

    def mark(_: Any, spec: Any) -> None:
        assert spec.name == "text_encoder"
        marked.append(configs[-1].get_flag(RTX.BuilderFlag.REFIT_INDIVIDUAL))

    def stop(*_: Any) -> None:
        raise BackendError("far enough")

    monkeypatch.setattr(tensorrt_builder, "_config", config)
    monkeypatch.setattr(tensorrt_builder, "_mark_refittable", mark)
    monkeypatch.setattr(tensorrt_builder, "_monitor", stop)
    root = bundles.bundle("plain")
    spec = Bundle.open(root).program("text_encoder")
    options = BuilderOptions(("8.9",), refittable=refittable)
    with pytest.raises(BackendError, match="far enough"):
        tensorrt_builder.build_plan(RTX, root / spec.files[0].path, spec, options, silent)
    assert marked == flags


def test_plans_of_other_options_lie_beside_each_other_and_say_which(plain: Path, opened: list[str]) -> None:
    asked = [BuilderOptions(("8.9",)), BuilderOptions(("8.9",), 3), BuilderOptions(("8.9", "12.0"))]
    folders = [compiling.compile_bundle(plain, "tensorrt_rtx", options) for options in asked]
    found = [Compiled.read(folder / "manifest.json") for folder in folders]
    common = {"tf32": False, "refittable": False}
    assert [each.options for each in found] == [
        {**common, "compute_capabilities": ["8.9"], "optimization_level": None},
        {**common, "compute_capabilities": ["8.9"], "optimization_level": 3},
        {**common, "compute_capabilities": ["8.9", "12.0"], "optimization_level": None},
    ]
    assert len(set(folders)) == 3
    plan = found[0].plans[0]
    assert (plan.attentions, plan.unfused_attentions, plan.activation_bytes) == (3, ("one",), 4096)
    assert not opened  # no GPU of these kinds is here


@pytest.mark.parametrize(("asked", "opens"), [((), True), (("8.9",), False)])
def test_plans_for_a_gpu_that_the_library_has_no_name_for_are_opened_on_it(
    plain: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch, asked: tuple[str, ...], opens: bool
) -> None:
    monkeypatch.setattr(compiling, "Device", lambda _: Activated())
    monkeypatch.setattr(compiling, "machine", lambda *_: HOPPER)
    folder = compiling.compile_bundle(plain, "tensorrt_rtx", BuilderOptions(asked))
    programs = [spec.name for spec in Bundle.open(plain).manifest.programs]
    assert opened == (programs if opens else [])
    options = Compiled.read(folder / "manifest.json").options
    assert options["compute_capabilities"] == list(asked or ("9.0",))


def test_refittable_plans_are_recorded_as_such(
    plain: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "machine", lambda *_: HOPPER)
    monkeypatch.setattr(compiling, "Device", lambda _: Activated())
    folders = [
        compiling.compile_bundle(plain, "tensorrt_rtx", BuilderOptions(("8.9",), refittable=refittable))
        for refittable in (False, True)
    ]
    kept = [Compiled.read(folder / "manifest.json").options["refittable"] for folder in folders]
    assert kept == [False, True]


@pytest.mark.parametrize(
    ("here", "options", "message"),
    [
        (NO_GPU, BuilderOptions(), r"this machine has no GPU to build plans for \(no driver\)"),
        (NO_GPU, BuilderOptions(("8.9",), refittable=True), "--refittable: .* only where a GPU is"),
    ],
)
def test_what_needs_a_gpu_is_refused_where_there_is_none(
    plain: Path, monkeypatch: pytest.MonkeyPatch, here: Machine, options: BuilderOptions, message: str
) -> None:
    monkeypatch.setattr(compiling, "machine", lambda *_: here)
    with pytest.raises(BackendError, match=message):
        compiling.compile_bundle(plain, "tensorrt_rtx", options)
    assert not (plain / "compiled").exists()


def test_every_plan_is_weighed_and_attention_counts_as_unfused_where_no_layer_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weighed: list[tuple[str, Built]] = []
    monkeypatch.setattr(
        tensorrt_builder, "check_size", lambda spec, built: weighed.append((spec.name, built))
    )
    monkeypatch.setattr(builder_log, "layers", lambda _: iter(()))
    root = bundles.bundle("plain")
    spec = Bundle.open(root).program("text_encoder")
    options = BuilderOptions(("8.9",), optimization_level=0)
    built = tensorrt_builder.build_plan(RTX, root / spec.files[0].path, spec, options, silent)
    assert weighed == [("text_encoder", built)]
    assert built.attentions == len(built.unfused_attentions) > 0
