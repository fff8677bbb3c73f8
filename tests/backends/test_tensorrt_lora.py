"""LoRA files on TensorRT: refitted, taken off, refused; on the stand-in."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calotype import Pipeline, compiled
from calotype.backends import Array
from calotype.backends._cuda_device import machine
from calotype.bundle import Bundle
from calotype.compiled import Compiled, Requirements
from calotype.errors import BackendError
from tests.backends.contract_cases import draw
from tests.engine import lora_files
from tests.engine.tiny import PROMPT
from tests.standin import gpu


def test_a_lora_is_refitted_and_taken_off_exactly(backend: str, root: Path, tmp_path: Path) -> None:
    style = lora_files.write(tmp_path / "style.safetensors", lora_files.kohya(1))
    other = lora_files.write(tmp_path / "other.safetensors", lora_files.peft(9))
    pipeline = Pipeline.load(root, backend, device="cuda")
    reference = Pipeline.load(root, "onnxruntime", threads=1)
    pictures: list[Array] = []
    for adapters in ([], [(style, 0.8)], [(other, 1.0)], [(style, 0.8)], []):
        for drawing in (pipeline, reference):
            drawing.set_lora(adapters)
        for _ in range(2):
            pictures.append(draw(pipeline))
            assert np.array_equal(pictures[-1], draw(reference))
    assert np.array_equal(pictures[0], pictures[-1])
    assert np.array_equal(pictures[2], pictures[6])
    assert not np.array_equal(pictures[2], pictures[4])


def test_a_lora_that_one_program_cannot_take_is_on_none(
    backend: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    style = lora_files.write(tmp_path / "style.safetensors", lora_files.kohya(1))
    pipeline = Pipeline.load(root, backend, device="cuda")
    plain = draw(pipeline)
    refitter: Any = sys.modules[gpu.MODULES[backend]].Refitter
    real, calls = refitter.refit_cuda_engine, list[int]()

    def second_fails(self: Any) -> bool:
        calls.append(1)
        return bool(real(self)) and len(calls) != 2

    monkeypatch.setattr(refitter, "refit_cuda_engine", second_fails)
    with pytest.raises(BackendError, match="does not take other weights"):
        pipeline.set_lora([(style, 1.0)])
    assert len(calls) > 2
    assert np.array_equal(draw(pipeline), plain)
    assert "lora" not in pipeline(PROMPT, num_inference_steps=1, output_type="latent").parameters


def test_plans_that_take_a_lora_are_preferred(backend: str, root: Path) -> None:
    for folder in (root / "compiled").iterdir():
        path = folder / "manifest.json"
        plain = path.read_text().replace('"refittable": true', '"refittable": false')
        other = shutil.copytree(folder, folder.with_name("0" + folder.name))
        (other / "manifest.json").write_text(plain)
    here = machine(str(sys.modules[gpu.MODULES[backend]].__version__))
    needs = Requirements(("library",))
    spec = Bundle.open(root).manifest.programs[0]
    folder, _ = compiled.find(root, backend, spec, here, needs)
    assert Compiled.read(folder / "manifest.json").options["refittable"]


def test_a_plan_that_takes_no_other_weights_says_how_to_build_one(
    backend: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    style = lora_files.write(tmp_path / "style.safetensors", lora_files.kohya(1))
    pipeline = Pipeline.load(root, backend, device="cuda")
    refitter: Any = sys.modules[gpu.MODULES[backend]].Refitter
    monkeypatch.setattr(refitter, "set_named_weights", lambda *_: False)
    with pytest.raises(BackendError, match=r"(?s)does not take other weights.*--refittable"):
        pipeline.set_lora([(style, 1.0)])
