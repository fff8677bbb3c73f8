"""What `build` refuses before the long work begins: options, and checkpoints that could not pass parity."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from calotype import backends
from calotype.errors import BackendError, CheckpointError
from calotype_export import build, verify, weight_files
from calotype_export.build import BuildOptions
from tests import bundles
from tests.export.spoiling import change


def options(tmp_path: Path, **changes: Any) -> BuildOptions:
    plain = BuildOptions(bundles.checkpoint("plain"), tmp_path / "bundle")
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"size": (100, 64)}, r"--size: expected multiples of 8, found 64x100", "64x96"),
        ({"size": (0, 64)}, r"--size: expected multiples of 8, found 64x0", "64x8"),
        ({"precision": "int8"}, r"--precision: expected one of fp32, fp16, bf16, found 'int8'", ""),
        ({"vae_precision": "int8"}, r"--vae-precision: expected one of .*, found 'int8'", ""),
        ({"batches": (1, 0)}, r"--batch: expected positive numbers, found \[1, 0\]", ""),
        ({"scheduler": "eulr"}, r"--scheduler: unknown scheduler 'eulr'", "did you mean 'euler'?"),
    ],
)
def test_options_that_no_checkpoint_can_meet_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(CheckpointError, match=message) as raised:
        build.build(options(tmp_path, **changes))
    assert hint in raised.value.hint
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_refused_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bundle").mkdir()
    monkeypatch.setattr(build, "opened", lambda *_: pytest.fail("was opened"))
    with pytest.raises(CheckpointError, match=r"bundle exists already"):
        build.build(options(tmp_path))


def test_a_scheduler_that_the_runtime_refuses_is_told_before_a_weight_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(bundles.checkpoint("plain"), tmp_path / "checkpoint"))
    change(folder / "scheduler" / "scheduler_config.json", thresholding=True)
    change(folder / "model_index.json", scheduler=["diffusers", "DDIMScheduler"])
    monkeypatch.setattr(weight_files, "digests", lambda *_: pytest.fail("was read"))
    message = r"scheduler/scheduler_config\.json: DDIMScheduler with thresholding = true is not offered"
    with pytest.raises(CheckpointError, match=message) as raised:
        build.build(options(tmp_path, checkpoint=folder))
    assert "--scheduler" in raised.value.hint
    assert not (tmp_path / "bundle").exists()


def test_a_missing_library_that_parity_needs_is_told_before_anything_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "installed", lambda: ("onnxruntime",))
    monkeypatch.setattr(build, "opened", lambda *_: pytest.fail("was opened"))
    message = r"backend openvino: its library is not installed; bf16 programs are compared in it"
    for asked in ({"precision": "bf16"}, {"vae_precision": "bf16"}):
        with pytest.raises(BackendError, match=message) as raised:
            build.build(options(tmp_path, **asked))
        assert "calotype[openvino]" in raised.value.hint


def test_the_extra_for_exports_brings_every_backend_that_parity_is_measured_with() -> None:
    project = tomllib.loads((bundles.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    brought = {re.split("[<>=]", name)[0] for name in project["optional-dependencies"]["export"]}
    assert set(verify.BACKENDS.values()) <= brought


def test_a_segmenter_of_another_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"--segmenter: expected a CLIPSegForImageSegmentation, found"):
        build.build(options(tmp_path, segmenter=bundles.checkpoint("plain") / "text_encoder"))
