"""LoRA files on a loaded pipeline, against eager diffusers with the same files, and against an export with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from calotype import Pipeline
from calotype.backends import Array
from calotype.lora import LoraFile
from calotype_export import build
from calotype_export.build import BuildOptions
from tests.bundles import bundle, checkpoint
from tests.engine import lora_files
from tests.parity.eager import Eager, compare

REQUEST: dict[str, Any] = {
    "prompt": "a red circle",
    "num_inference_steps": 4,
    "guidance_scale": 5.0,
    "seed": 7,
}


@pytest.mark.parametrize("write", [lora_files.kohya, lora_files.peft], ids=["kohya", "peft"])
def test_the_picture_is_that_of_eager_diffusers_with_the_same_lora(
    tmp_path: Path, write: Callable[[int], dict[str, Array]]
) -> None:
    path = lora_files.write(tmp_path / "style.safetensors", write(1))
    eager = Eager(checkpoint("plain"), "text-to-image")
    pipeline = Pipeline.load(bundle("plain"), "onnxruntime")
    plain = pipeline(**REQUEST, output_type="latent").images
    eager.pipeline.load_lora_weights(str(path), adapter_name="style")
    eager.pipeline.set_adapters(["style"], [0.7])
    pipeline.set_lora([(path, 0.7)])

    compare(eager, pipeline, "euler", REQUEST).check()
    assert not np.allclose(pipeline(**REQUEST, output_type="latent").images, plain, atol=1e-2)

    eager.pipeline.unload_lora_weights()
    pipeline.set_lora([])
    compare(eager, pipeline, "euler", REQUEST).check()


def test_the_picture_is_that_of_a_bundle_with_the_lora_merged_in(tmp_path: Path) -> None:
    path = lora_files.write(tmp_path / "style.safetensors", lora_files.kohya(1))
    merged = build.build(
        BuildOptions(str(checkpoint("plain")), tmp_path / "merged", loras=(LoraFile(path, 0.7),))
    )
    pipeline = Pipeline.load(bundle("plain"), "onnxruntime", threads=1)
    pipeline.set_lora([(path, 0.7)])
    found, expected = (
        drawing(**REQUEST, output_type="latent").images
        for drawing in (pipeline, Pipeline.load(merged, "onnxruntime", threads=1))
    )

    assert np.array_equal(found, expected)
